"""The real HAProxy with a rendered configuration, run the way the unit runs it."""

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import openai
from pyinfra.api.util import get_template

from roles.gateway.config import CONFIG_TEMPLATE, UNIT_TEMPLATE, Gateway, GatewayConfig, GatewayModel

HAPROXY = "/usr/sbin/haproxy"
MAX_BODY_KIB = 256


def rendered(gateway: Gateway, template: str = CONFIG_TEMPLATE) -> str:
    return get_template(template).render(gateway=gateway)


def rendered_unit(gateway: Gateway) -> str:
    return rendered(gateway, UNIT_TEMPLATE)


def check(text: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """``haproxy -c`` on a configuration."""
    path = directory / "checked.cfg"
    path.write_text(text)
    return subprocess.run([HAPROXY, "-c", "-f", path], capture_output=True, text=True, timeout=20, check=False)


def until(true: Callable[[], Any], what: str, within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"{what}: not within {within_s} s"
        time.sleep(0.02)


class RunningGateway:
    """HAProxy on a loopback port of its own, in front of ``serve_port``."""

    def __init__(self, directory: Path, models: Sequence[GatewayModel], serve_port: int) -> None:
        self.path = directory / "haproxy.cfg"
        self.log = directory / "log"
        self.config = GatewayConfig(
            bind="127.0.0.1", port=_free_port(), serve_port=serve_port, maxconn=200, max_body_kib=MAX_BODY_KIB
        )
        self.path.write_text(rendered(self.gateway(models)))
        self._notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)  # systemd's end of Type=notify
        self._notifications.bind(str(directory / "notify"))
        self._notifications.settimeout(10)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [HAPROXY, "-Ws", "-f", self.path],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ
                | {
                    "RAYRACK_GATEWAY_UNIT": self.gateway(models).unit_digest,
                    "NOTIFY_SOCKET": str(directory / "notify"),
                },
            )
        self._wait_until_loaded(models)

    def gateway(self, models: Sequence[GatewayModel]) -> Gateway:
        return Gateway.of(models, self.config)

    def reload(self, models: Sequence[GatewayModel]) -> None:
        """What ``systemctl reload`` does to the process."""
        self.path.write_text(rendered(self.gateway(models)))
        self.signal_reload()
        self._wait_until_loaded(models)

    def signal_reload(self) -> None:
        self.process.send_signal(signal.SIGUSR2)

    def wait_for_log(self, text: str) -> None:
        until(lambda: text in self.log.read_text(), f"the log has {text!r}")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        self._notifications.close()

    def _wait_until_loaded(self, models: Sequence[GatewayModel]) -> None:
        while b"READY=1" not in self._notifications.recv(4096):
            pass
        # READY comes a moment before the next reload would be heard; `systemctl reload` is never that quick.
        until(lambda: _catches(self.process.pid, signal.SIGUSR2), "the gateway's master listens for the next reload")
        digest = self.gateway(models).config_digest
        until(lambda: self.loaded() == digest, f"the gateway has loaded its configuration, see {self.log}")

    def loaded(self) -> str | None:
        """The digest of the configuration it runs; None while it takes no connections."""
        try:
            return str(self.ask("GET", "/healthz").json["config"])
        except OSError:
            return None

    def client(self, prefix: str = "/v1", **options: Any) -> openai.OpenAI:
        url = f"http://127.0.0.1:{self.config.port}{prefix}"
        return openai.OpenAI(base_url=url, api_key="a-client-key", max_retries=0, timeout=15, **options)

    def ask(self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None) -> "Answer":
        """A request whose target and headers go out exactly as given. ``body``: bytes, or an object sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.config.port, timeout=15)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if data is not None:
                connection.putheader("Content-Length", str(len(data)))
            connection.endheaders(data)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def raw(self, data: bytes) -> bytes:
        """Bytes as they are, and everything that comes back until the gateway closes."""
        with socket.create_connection(("127.0.0.1", self.config.port), timeout=15) as connection:
            connection.sendall(data)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The ``code`` of an error in OpenAI's shape; fails when it is not one."""
        assert self.headers["content-type"] == "application/json"
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        return str(error["code"])


def _catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal: SigCgt of proc(5)."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
