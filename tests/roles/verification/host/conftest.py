"""The real HAProxy with the files that a deploy gives it, in front of a stand-in of Serve."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyinfra.api.util import get_template

from roles.gateway.config import CONFIG_TEMPLATE, Gateway, GatewayConfig, GatewayModel
from tests.roles.gateway.running import HAPROXY
from tests.roles.gateway.serve_side import ServeSide

HOST_PROGRAMS = Path(__file__).parents[4] / "roles/gateway/host"
MODELS = (GatewayModel("/v1", "tiny-a", "tiny-a"), GatewayModel("/team-a", "Org/Big", "org-big"))


@dataclass(frozen=True)
class GatewayHost:
    """A gateway in a directory of its own, and its programs as they are called there."""

    directory: Path
    url: str
    serve: ServeSide
    process: subprocess.Popen[bytes]

    @property
    def certificate(self) -> Path:
        return self.directory / "tls.pem"

    @property
    def key_files(self) -> tuple[Path, Path]:
        return self.directory / "keys/declared.map", self.directory / "keys/made.map"

    @property
    def api_keys(self) -> str:
        return str(self.directory / "api_keys")

    def program(self, *arguments: str) -> str:
        return subprocess.run([self.api_keys, *arguments], capture_output=True, text=True, check=True).stdout

    def make_certificate(self, directory: Path, *options: str) -> None:
        """Another certificate, in place of the one that is there."""
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]
        files = ["-keyout", str(directory / "tls.pem.key"), "-out", str(directory / "tls.pem")]
        subprocess.run([*command, *files, "-subj", "/CN=other", *options], capture_output=True, check=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def gateway_host(tmp_path: Path) -> Iterator[GatewayHost]:
    serve = ServeSide({"tiny-a", "org-big"})
    keys = tmp_path / "keys"
    keys.mkdir()
    for name in ("declared", "made"):
        (keys / f"{name}.map").touch()
    certificate = [
        sys.executable,
        str(HOST_PROGRAMS / "gateway_certificate.py"),
        "--directory",
        str(tmp_path),
        "ensure",
    ]
    subprocess.run(certificate, check=True, capture_output=True)
    config = GatewayConfig(
        bind="127.0.0.1",
        port=free_port(),
        serve_port=serve.port,
        maxconn=200,
        max_body_kib=256,
        metrics_port=free_port(),
    )
    gateway = Gateway(tuple(sorted(MODELS)), config, directory=str(tmp_path), run_directory=str(tmp_path))
    (tmp_path / "haproxy.cfg").write_text(get_template(CONFIG_TEMPLATE).render(gateway=gateway))
    master = tmp_path / "master.sock"
    program = tmp_path / "api_keys"
    options = f"--directory {keys} --master {master}"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {HOST_PROGRAMS}/api_keys.py {options} "$@"\n')
    program.chmod(0o755)
    process = subprocess.Popen([HAPROXY, "-W", "-S", str(master), "-f", str(tmp_path / "haproxy.cfg")])
    try:
        deadline = time.monotonic() + 10
        while subprocess.run([str(program), "check"], capture_output=True).stderr or not master.exists():
            assert time.monotonic() < deadline, "the gateway does not start"
            time.sleep(0.05)
        yield GatewayHost(tmp_path, f"https://127.0.0.1:{config.port}", serve, process)
    finally:
        process.terminate()
        process.wait(10)
        serve.close()
