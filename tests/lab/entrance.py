"""The way into a lab's rack: an API key of its own, and the certificate that the gateway shows.

Both are kept in the lab's directory, which goes with its hosts.
"""

from __future__ import annotations

import json
import os
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.lab.lab import Lab

if TYPE_CHECKING:
    import openai

API_KEYS = "/opt/rayrack/bin/api_keys"
CERTIFICATE = "/etc/rayrack/gateway/tls.pem"
PORT = 8000


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Entrance:
    """One gateway of a lab, with a key to it."""

    address: str
    certificate: Path
    key: str = field(repr=False)

    @property
    def url(self) -> str:
        return f"https://{self.address}:{PORT}"

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """Trusts the gateway's certificate alone, and its name."""
        return ssl.create_default_context(cafile=str(self.certificate))

    def client(self, base_url: str | None = None, timeout_s: float = 120) -> openai.OpenAI:
        """The official client as the README makes it, without retries: one sees the first answer."""
        import openai

        return openai.OpenAI(
            base_url=base_url or f"{self.url}/v1",
            api_key=self.key,
            max_retries=0,
            timeout=timeout_s,
            http_client=openai.DefaultHttpxClient(verify=self.tls),
        )

    def ask(self, path: str, body: bytes | None = None, *, with_key: bool = True, timeout_s: float = 30) -> Answer:
        """One plain request; a POST when there is a ``body``."""
        headers = {"Authorization": f"Bearer {self.key}"} if with_key else {}
        request = urllib.request.Request(self.url + path, data=body, headers=headers)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.tls)
        )
        try:
            with opener.open(request, timeout=timeout_s) as answer:
                return Answer(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read())


def open_gateway(lab: Lab, host: str = "h1", *, key_name: str = "tests", again: bool = False) -> Entrance:
    """The way in, made on the host when the lab has none yet; ``again``: or when the host's is another by now."""
    key, certificate = lab.directory / f"{key_name}.key", lab.directory / f"{host}.pem"
    if again or not (key.exists() and certificate.exists()):
        certificate.write_text(lab.read(host, f"cat {CERTIFICATE}") + "\n")
        if not key.exists() or f" {key_name}|" not in lab.read(host, "cat /etc/rayrack/gateway/keys/made.map"):
            said = lab.read(host, f"{API_KEYS} revoke {key_name} >/dev/null 2>&1; {API_KEYS} make {key_name}")
            made = next(line for line in said.splitlines() if line.startswith("rr-"))
            with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(made)
    return Entrance(lab.address(host), certificate, key.read_text())
