"""Keys and certificates that change while clients are served: nobody's request fails, and who is out is out at once."""

import http.client
import re
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import openai
import pytest

from roles.gateway import facts
from roles.gateway.facts import GatewayState
from tests.roles.gateway.conftest import MODELS
from tests.roles.gateway.running import RunningGateway, program, until
from tests.roles.gateway.serve_side import ServeSide
from tests.roles.gateway.test_reload import Load

HELLO: Any = [{"role": "user", "content": "hello"}]


class Stream:
    """A stream of 50 ms a token, read to its end on a thread of its own, on a connection of its own."""

    def __init__(self, gateway: RunningGateway, key: str, tokens: int) -> None:
        self.received: list[str] = []
        self.failure: Exception | None = None
        self._open = gateway.client(key=key).chat.completions.create(
            model="tiny-a", messages=HELLO, max_tokens=tokens, stream=True
        )
        self.expected = [f"{number} " for number in range(tokens)]
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            self.received += [chunk.choices[0].delta.content or "" for chunk in self._open]
        except Exception as error:
            self.failure = error

    def finish(self) -> None:
        self._thread.join(60)
        assert (self.failure, self.received) == (None, self.expected)


def status(gateway: RunningGateway, key: str) -> int:
    return gateway.ask("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"}).status


class KeptConnection:
    """A connection that its client keeps, with a key. Once it is closed, it is not opened again."""

    def __init__(self, gateway: RunningGateway, key: str) -> None:
        self._connection = http.client.HTTPSConnection(
            "127.0.0.1", gateway.config.port, timeout=15, context=gateway.trust()
        )
        self._connection.connect()
        self._connection.auto_open = 0
        self._headers = {"Authorization": f"Bearer {key}"}

    def status(self) -> int:
        self._connection.request("GET", "/v1/models", headers=self._headers)
        response = self._connection.getresponse()
        response.read()
        return response.status


def test_keys_come_and_go_under_load_and_nobody_else_notices(own_gateway: RunningGateway) -> None:
    """200 requests and a long stream, while eight keys are made, used and revoked, with two reloads in between."""
    with Load(own_gateway) as load:
        stream = Stream(own_gateway, own_gateway.key, tokens=120)
        for number in range(8):
            key = own_gateway.api_keys("make", f"key-{number}").strip()
            assert status(own_gateway, key) == 200, "a key works as soon as it is shown"
            own_gateway.api_keys("revoke", f"key-{number}")
            assert status(own_gateway, key) == 401, "a key is out as soon as revoke returns"
            if number in (2, 5):
                own_gateway.reload(MODELS)
        until(lambda: load.answered >= 200, "200 requests were answered", 30)
        stream.finish()
    assert load.failures == []


def test_a_revoked_key_is_out_on_a_connection_that_is_open_and_its_stream_goes_on(own_gateway: RunningGateway) -> None:
    key = own_gateway.api_keys("make", "leaver").strip()
    connection = KeptConnection(own_gateway, key)
    assert connection.status() == 200
    stream = Stream(own_gateway, key, tokens=40)
    own_gateway.api_keys("revoke", "leaver")
    assert connection.status() == 401
    stream.finish()


def test_a_revoked_key_is_out_in_the_old_process_of_a_reload_too(own_gateway: RunningGateway) -> None:
    """A connection that was idle at the reload has one more request of the old process."""
    key = own_gateway.api_keys("make", "leaver").strip()
    connections = [KeptConnection(own_gateway, key) for _ in range(2)]
    assert [connection.status() for connection in connections] == [200, 200]
    stream = Stream(own_gateway, key, tokens=80)
    own_gateway.reload(MODELS)
    assert len(workers(own_gateway)) == 2
    assert connections[0].status() == 200, "the old process answers"
    assert "2 processes hold these keys" in apply(own_gateway)
    own_gateway.api_keys("revoke", "leaver")
    assert connections[1].status() == 401
    assert status(own_gateway, key) == 401, "the new process refuses it, too"
    stream.finish()


def test_a_key_that_is_made_works_in_the_old_process_too(own_gateway: RunningGateway) -> None:
    stream = Stream(own_gateway, own_gateway.key, tokens=60)
    kept = http.client.HTTPSConnection("127.0.0.1", own_gateway.config.port, timeout=15, context=own_gateway.trust())
    kept.request("GET", "/healthz")
    kept.getresponse().read()
    own_gateway.reload(MODELS)
    key = own_gateway.api_keys("make", "late").strip()
    kept.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"})
    assert kept.getresponse().status == 200
    stream.finish()


def workers(gateway: RunningGateway) -> list[str]:
    return [line.split()[0] for line in gateway.tell("show proc").splitlines() if " worker " in line]


def apply(gateway: RunningGateway) -> str:
    command = ["apply"]
    done = subprocess.run(
        ["python3", program_path("api_keys"), *at(gateway), *command], capture_output=True, text=True, check=True
    )
    return done.stderr


def check(gateway: RunningGateway) -> subprocess.CompletedProcess[str]:
    command = ["python3", program_path("api_keys"), *at(gateway), "check"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def program_path(name: str) -> Path:
    from roles.gateway import steps

    return steps.HOST / f"{name}.py"


def at(gateway: RunningGateway) -> list[str]:
    return ["--directory", str(gateway.directory / "keys"), "--master", str(gateway.master)]


def test_what_a_deploy_declares_is_applied_and_a_difference_is_told(own_gateway: RunningGateway) -> None:
    declared = own_gateway.directory / "keys" / "declared.map"
    assert check(own_gateway).returncode == 0
    declared.write_text(f"{'a' * 64} team-a|9999999999|0|*\n" + "".join(
        f"{number:064x} many-{number}|9999999999|{number}|,m-{number},\n" for number in range(1000)
    ))  # fmt: skip
    before = check(own_gateway)
    assert before.returncode == 1
    assert any(line.endswith(": the key team-a is not known") for line in before.stdout.splitlines())
    assert "1 process holds these keys" in apply(own_gateway)
    assert (check(own_gateway).returncode, check(own_gateway).stdout) == (0, "")
    held = own_gateway.tell(f"@1 show map {declared}")
    assert f"{999:064x} many-999|9999999999|999|,m-999," in held
    declared.write_text("")
    apply(own_gateway)
    assert own_gateway.tell(f"@1 show map {declared}").strip() == ""


def knows_all(gateway: RunningGateway) -> bool:
    """The two lowest flags of its peers: this host's earlier process, and others, were asked."""
    flags = re.search(r" flags=(0x[0-9a-f]+) ", gateway.tell("@1 show peers"))
    return flags is not None and int(flags[1], 16) & 3 == 3


def test_the_counts_of_a_limit_outlive_a_reload(own_gateway: RunningGateway) -> None:
    """Asked within one minute of the clock; where the minute ends in between, once more in the next."""
    key = own_gateway.api_keys("make", "slow", "--requests-per-minute", "5").strip()
    # In its first five seconds a gateway still asks whether there is an older one to learn from, and teaches nobody.
    until(lambda: knows_all(own_gateway), "it has asked everybody")
    for _ in range(2):
        minute = time.time() // 60
        before = [status(own_gateway, key) for _ in range(5)]
        own_gateway.reload(MODELS)
        until(lambda: "key=slow:" in own_gateway.tell("@1 show table key_requests"), "the new process has the counts")
        after = status(own_gateway, key)
        if time.time() // 60 == minute:
            break
    assert (before, after) == ([200] * 5, 429)


def new_certificate(gateway: RunningGateway) -> bytes:
    """Another pair of files, as certbot puts them there; in DER."""
    for name in ("tls.pem", "tls.pem.key"):
        (gateway.directory / name).unlink()
    program("gateway_certificate", "--directory", gateway.directory, "ensure", "renewed.example.org")
    return ssl.PEM_cert_to_DER_cert((gateway.directory / "tls.pem").read_text())


def shown_certificate(gateway: RunningGateway) -> bytes:
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", gateway.config.port)))


def shown_if_any(gateway: RunningGateway) -> bytes | None:
    try:
        return shown_certificate(gateway)
    except OSError:
        return None


def test_a_new_certificate_is_shown_after_a_reload_and_no_request_notices(own_gateway: RunningGateway) -> None:
    """Clients that know the old certificate alone go on, on the connections they have."""
    old = own_gateway.trust()
    kept = http.client.HTTPSConnection("127.0.0.1", own_gateway.config.port, timeout=15, context=old)
    kept.connect()
    stream = Stream(own_gateway, own_gateway.key, tokens=60)
    with Load(own_gateway, context=trust_anything()) as load:
        wanted = new_certificate(own_gateway)
        own_gateway.reload(MODELS)
        assert shown_certificate(own_gateway) == wanted
        kept.request("GET", "/healthz")
        assert kept.getresponse().status == 200
        answered = load.answered
        until(lambda: load.answered >= answered + 50, "requests go on", 20)
    assert load.failures == []
    stream.finish()
    assert own_gateway.client().models.list(), "whoever was given the new certificate trusts it"


def trust_anything() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def test_a_certificate_without_its_key_is_refused_and_the_old_one_goes_on(own_gateway: RunningGateway) -> None:
    before = shown_certificate(own_gateway)
    key = (own_gateway.directory / "tls.pem.key").read_text()
    new_certificate(own_gateway)
    (own_gateway.directory / "tls.pem.key").write_text(key)
    own_gateway.signal_reload()
    own_gateway.wait_for_log("Loading failure!")
    until(lambda: shown_if_any(own_gateway) == before, "the old process takes connections again")


def test_a_deploy_sees_that_the_gateway_shows_an_older_certificate(
    own_gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "CERTIFICATE", str(own_gateway.directory / "tls.pem"))
    assert not seen(own_gateway).certificate_differs
    new_certificate(own_gateway)
    assert seen(own_gateway).certificate_differs
    own_gateway.reload(MODELS)
    assert not seen(own_gateway).certificate_differs


def seen(gateway: RunningGateway) -> Any:
    """What the fact finds on this machine; systemd is not asked here."""
    command = GatewayState().command(gateway.gateway(MODELS).health_url)
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30, check=False)
    state = GatewayState().process(done.stdout.splitlines())
    assert state.loaded_config == gateway.gateway(MODELS).config_digest
    return state


@pytest.mark.long
def test_a_stream_may_pause_for_longer_than_a_client_may_be_silent(gateway: RunningGateway) -> None:
    """17 s before the first token and as long between two, where a client's own silence is cut after 15 s."""
    stream = (
        gateway.client()
        .with_options(timeout=60)
        .chat.completions.create(model="tiny-a", messages=HELLO, max_tokens=2, stream=True, extra_body={"pause_s": 17})
    )
    assert [chunk.choices[0].delta.content for chunk in stream] == ["0 ", "1 "]


@pytest.mark.long
def test_an_answer_may_take_its_time(gateway: RunningGateway) -> None:
    client = gateway.client().with_options(timeout=60)
    completion = client.chat.completions.create(model="tiny-a", messages=HELLO, extra_body={"pause_s": 17})
    assert completion.choices[0].message.content == "hello from tiny-a"


def test_a_client_that_leaves_in_the_midst_of_a_stream_ends_it(gateway: RunningGateway, serve: ServeSide) -> None:
    stream = gateway.client().chat.completions.create(model="tiny-a", messages=HELLO, max_tokens=2000, stream=True)
    next(iter(stream))
    seen = serve.requests[-1]
    stream.response.close()
    assert seen.abandoned.wait(5), "the engine is told within a few tokens"


def test_a_client_that_is_gone_without_a_word_ends_its_request(gateway: RunningGateway, serve: ServeSide) -> None:
    """Without TLS's own goodbye, as a process that was killed."""
    connection = gateway.connection()
    body = b'{"model":"tiny-a","play":"think"}'
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.key}\r\n"
    before = len(serve.requests)
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    until(lambda: len(serve.requests) > before, "the engine has the request")
    connection.shutdown(socket.SHUT_RDWR)
    connection.close()
    assert serve.requests[-1].abandoned.wait(5)


@pytest.mark.long
def test_a_body_that_comes_byte_by_byte_is_cut_off_after_a_minute(gateway: RunningGateway) -> None:
    with gateway.connection() as slow:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.key}\r\n"
        slow.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode())
        slow.settimeout(1)
        began, answer = time.monotonic(), b""
        while time.monotonic() - began < 70 and not answer:
            slow.sendall(b" ")
            try:
                answer = slow.recv(65536)
            except TimeoutError:
                continue
        assert 55 < time.monotonic() - began < 65
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in answer


def test_the_official_client_knows_each_refusal(gateway: RunningGateway) -> None:
    limited = gateway.api_keys("make", "official", "--models", "tiny-a").strip()
    with pytest.raises(openai.AuthenticationError):
        gateway.client(key="sk-wrong").models.list()
    with pytest.raises(openai.PermissionDeniedError):
        gateway.client(key=limited).completions.create(model="Qwen/Qwen2.5-0.5B:it", prompt="x")
    with pytest.raises(openai.NotFoundError):
        gateway.client(key=limited).completions.create(model="nope", prompt="x")
    gateway.api_keys("revoke", "official")
