"""The real gateway on a loopback port, with its programs as they are called on its host."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from roles.gateway import steps
from roles.gateway.config import GatewayModel
from tests.roles.gateway.running import RunningGateway
from tests.roles.gateway.serve_side import ServeSide

MODELS = (GatewayModel("/v1", "tiny-a", "tiny-a"), GatewayModel("/team-a", "Org/Big", "org-big"))


@dataclass(frozen=True)
class GatewayHost:
    """A host with a gateway, and with no key to it but those that a test makes."""

    running: RunningGateway
    serve: ServeSide
    api_keys: str
    """The path of the program, which knows this gateway."""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.running.config.port}"

    @property
    def certificate(self) -> Path:
        return self.running.directory / "tls.pem"

    @property
    def key_files(self) -> tuple[Path, Path]:
        keys = self.running.directory / "keys"
        return keys / "declared.map", keys / "made.map"


@pytest.fixture
def gateway_host(tmp_path: Path) -> Iterator[GatewayHost]:
    serve = ServeSide({"tiny-a", "org-big"})
    running = RunningGateway(tmp_path, MODELS, serve.port)
    try:
        running.api_keys("revoke", "tests")
        program = tmp_path / "api_keys"
        command = f"{sys.executable} {steps.HOST}/api_keys.py --directory {tmp_path}/keys --master {running.master}"
        program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        program.chmod(0o755)
        yield GatewayHost(running, serve, str(program))
    finally:
        running.close()
        serve.close()


def make_certificate(directory: Path, *options: str) -> None:
    """Somebody else's certificate, with its key, in place of what is there."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]
    files = ["-keyout", str(directory / "tls.pem.key"), "-out", str(directory / "tls.pem")]
    subprocess.run([*command, *files, "-subj", "/CN=other", *options], capture_output=True, check=True)
