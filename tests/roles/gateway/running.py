"""The real HAProxy with a rendered configuration, run the way the unit runs it."""

import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
from pyinfra.api.util import get_template

from roles.gateway import steps
from roles.gateway.config import CONFIG_TEMPLATE, UNIT_TEMPLATE, Gateway, GatewayConfig, GatewayModel

HAPROXY = os.environ.get("TEST_HAPROXY", "/usr/sbin/haproxy")
MAX_BODY_KIB = 256


def rendered(gateway: Gateway, template: str = CONFIG_TEMPLATE) -> str:
    return get_template(template).render(gateway=gateway)


def rendered_unit(gateway: Gateway) -> str:
    return rendered(gateway, UNIT_TEMPLATE)


def furnish(directory: Path) -> None:
    """What lies beside a configuration before HAProxy starts: a certificate, and no keys."""
    (directory / "keys").mkdir()
    for name in ("declared.map", "made.map"):
        (directory / "keys" / name).touch()
    program("gateway_certificate", "--directory", directory, "ensure")


def program(name: str, *words: str | Path) -> str:
    """Runs a host program and returns what it prints."""
    command = [sys.executable, steps.HOST / f"{name}.py", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check(gateway: Gateway, directory: Path) -> subprocess.CompletedProcess[str]:
    """``haproxy -c`` on a configuration, with certificate and keys beside it."""
    furnish(directory)
    text = rendered(replace(gateway, directory=str(directory), run_directory=str(directory)))
    path = directory / "checked.cfg"
    path.write_text(text)
    return subprocess.run([HAPROXY, "-c", "-f", path], capture_output=True, text=True, timeout=20, check=False)


def until(true: Callable[[], Any], what: str, within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"{what}: not within {within_s} s"
        time.sleep(0.02)


class RunningGateway:
    """HAProxy on a loopback port of its own, in front of ``serve_port``; ``key`` may use every model."""

    def __init__(self, directory: Path, models: Sequence[GatewayModel], serve_port: int) -> None:
        furnish(directory)
        self.directory = directory
        self.path = directory / "haproxy.cfg"
        self.run_directory = Path(tempfile.mkdtemp(prefix="gateway-"))  # short: a socket's path has 107 bytes at most
        self.master = self.run_directory / "master.sock"
        self.log = directory / "log"
        self.config = GatewayConfig(
            bind="127.0.0.1",
            port=_free_port(),
            serve_port=serve_port,
            maxconn=200,
            max_body_kib=MAX_BODY_KIB,
            metrics_port=_free_port(),
        )
        self.key = self.api_keys("make", "tests").strip()
        self.path.write_text(rendered(self.gateway(models)))
        self._notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)  # systemd's end of Type=notify
        self._notifications.bind(str(directory / "notify"))
        self._notifications.settimeout(10)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [HAPROXY, "-Ws", "-S", f"{self.master},mode,600", "-f", self.path],
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
        wanted = Gateway.of(models, self.config)
        return replace(wanted, directory=str(self.directory), run_directory=str(self.run_directory))

    def api_keys(self, *words: str) -> str:
        return program("api_keys", "--directory", self.directory / "keys", "--master", self.master, *words)

    def held_hashes(self) -> set[str]:
        """Of the keys in the files."""
        files = (self.directory / "keys").glob("*.map")
        return {line.split(" ")[0] for path in files for line in path.read_text().splitlines()}

    @contextmanager
    def as_key(self, value: str) -> Generator[str, None, None]:
        """A key whose line holds ``value``, told to the process past our own programs."""
        key = "a-key-that-no-program-of-ours-made"
        digest = hashlib.sha256(key.encode()).hexdigest()
        path = self.directory / "keys" / "made.map"
        self.tell(f"@1 add map {path} {digest} {value}")
        yield key
        self.tell(f"@1 del map {path} {digest}")

    def tell(self, command: str) -> str:
        """A command to the master's socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.master))
            connection.sendall(f"{command}\n".encode())
            answer = b""
            while not (answer == b"\n" or answer.endswith(b"\n\n")) and (part := connection.recv(65536)):
                answer += part
        return answer.decode()

    def trust(self) -> ssl.SSLContext:
        """What a client needs to know of the gateway: its certificate."""
        return ssl.create_default_context(cafile=self.directory / "tls.pem")

    def connection(self) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.config.port), timeout=15)
        return self.trust().wrap_socket(plain, server_hostname="localhost")

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
        shutil.rmtree(self.run_directory)

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

    def client(
        self, prefix: str = "/v1", key: str | None = None, context: ssl.SSLContext | None = None
    ) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=f"https://127.0.0.1:{self.config.port}{prefix}",
            api_key=key or self.key,
            max_retries=0,
            timeout=15,
            http_client=openai.DefaultHttpxClient(verify=context or self.trust()),
        )

    def ask(self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None) -> "Answer":
        """A request whose target and headers go out exactly as given. ``body``: bytes, or an object sent as JSON.

        Without an Authorization among the headers it has the gateway's own ``key``.
        """
        connection = http.client.HTTPSConnection("127.0.0.1", self.config.port, timeout=15, context=self.trust())
        headers = {"Authorization": f"Bearer {self.key}"} | (headers or {})
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            if data is not None:
                connection.putheader("Content-Length", str(len(data)))
            connection.endheaders(data)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def raw(self, data: bytes) -> bytes:
        """Bytes as they are but for the key, which stands before ``Host:``; and all that comes back until the gateway
        closes.
        """
        with self.connection() as connection:
            # As HTTP clients do: whoever cannot send the rest reads what the gateway has to say.
            with suppress(OSError):
                connection.sendall(
                    data.replace(b"\r\nHost: x", f"\r\nAuthorization: Bearer {self.key}\r\nHost: x".encode())
                )
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def log_lines(self) -> list[dict[str, Any]]:
        """One for each request; connections that came to nothing have lines of their own."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if "request_id" in line]


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
