"""The load client against a server on loopback that answers as an OpenAI-compatible one does, and as a broken one."""

import asyncio
import json
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.bench.load import Answer, Endpoint, steady_load

Handler = Callable[[dict[str, object], asyncio.StreamWriter], Awaitable[None]]


def json_answer(tokens: object, status: str = "200 OK", extra: str = "") -> bytes:
    body = json.dumps({"usage": {"completion_tokens": tokens}}).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


async def well(request: dict[str, object], writer: asyncio.StreamWriter) -> None:
    writer.write(json_answer(request["max_tokens"]))


class Server:
    """Counts connections and requests, and lets ``handler`` answer."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.connections = 0
        self.requests: list[dict[str, object]] = []
        self.heads: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = next(
                    int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length")
                )
                request = json.loads(await reader.readexactly(length))
                self.requests.append(request)
                await self.handler(request, writer)
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def answers_of(handler: Handler, *, concurrency: int = 1, seconds: float = 0.2) -> tuple[Server, list[Answer]]:
    async def run() -> tuple[Server, list[Answer]]:
        server = Server(handler)
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        endpoint = Endpoint("127.0.0.1", port, "/v1/completions", "tiny-a", tokens=3)
        answers = await steady_load(endpoint, concurrency=concurrency, seconds=seconds, pause_s=0.01)
        listening.close()
        return server, answers

    return asyncio.run(run())


def test_every_request_names_the_model_and_the_number_of_tokens() -> None:
    server, answers = answers_of(well)
    assert len(answers) == len(server.requests) > 3
    assert all(answer.good for answer in answers)
    assert {(request["model"], request["max_tokens"]) for request in server.requests} == {("tiny-a", 3)}


def test_each_worker_keeps_its_connection() -> None:
    server, answers = answers_of(well, concurrency=4)
    assert server.connections == 4
    assert len(answers) > 8


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for loopback, with its key behind it."""
    file = tmp_path / "tls.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj /CN=x -days 2"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{file}.key", "-out", str(file)]
    subprocess.run([*command.split(), *names], capture_output=True, check=True)
    return file


def test_with_a_key_each_worker_keeps_a_tls_connection_and_sends_the_key(certificate: Path) -> None:
    async def run(trusted: str) -> tuple[Server, list[Answer]]:
        server, tls = Server(well), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, f"{certificate}.key")
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
        port = listening.sockets[0].getsockname()[1]
        endpoint = Endpoint("127.0.0.1", port, "/v1/completions", "tiny-a", key="rr-secret", trusted=trusted)
        answers = await steady_load(endpoint, concurrency=2, seconds=0.3, pause_s=0.01)
        listening.close()
        assert "rr-secret" not in repr(endpoint)
        return server, answers

    server, answers = asyncio.run(run(certificate.read_text()))
    assert all(answer.good for answer in answers), answers[0].problem
    assert server.connections == 2
    assert all(b"\r\nAuthorization: Bearer rr-secret\r\n" in head for head in server.heads)


def test_a_chunked_answer_is_read_to_its_end() -> None:
    async def chunked(_request: dict[str, object], writer: asyncio.StreamWriter) -> None:
        body = b'{"usage": {"completion_tokens": 3}}'
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in (body[:10], body[10:]):
            writer.write(b"%x\r\n%s\r\n" % (len(part), part))
        writer.write(b"0\r\n\r\n")

    server, answers = answers_of(chunked)
    assert all(answer.good for answer in answers)
    assert server.connections == 1


def test_a_connection_the_server_closed_while_idle_is_no_failure() -> None:
    async def once(request: dict[str, object], writer: asyncio.StreamWriter) -> None:
        await well(request, writer)
        writer.close()

    server, answers = answers_of(once)
    assert all(answer.good for answer in answers), [answer.problem for answer in answers if answer.problem][:1]
    assert server.connections == len(answers)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (json_answer(3, status="503 Service Unavailable"), "HTTP 503"),
        (json_answer(2), "2 tokens instead of 3"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope", "JSONDecodeError"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\ncut short", "IncompleteReadError"),
        (b"", "IncompleteReadError"),
    ],
)
def test_what_is_not_a_good_answer_is_a_failure_that_says_why(raw: bytes, problem: str) -> None:
    async def badly(_request: dict[str, object], writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        writer.close()

    _, answers = answers_of(badly)
    assert answers
    assert all(not answer.good and problem in answer.problem for answer in answers), answers[0].problem


def test_a_server_that_is_not_there_is_a_failure_and_is_not_hammered() -> None:
    async def run() -> list[Answer]:
        listening = await asyncio.start_server(Server(well).serve, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        listening.close()
        await listening.wait_closed()
        return await steady_load(Endpoint("127.0.0.1", port, "/", "m"), concurrency=1, seconds=0.3)

    answers = asyncio.run(run())
    assert 1 <= len(answers) <= 7
    assert all("ConnectionRefusedError" in answer.problem for answer in answers)


def test_a_load_without_a_duration_ends_when_it_is_told_to() -> None:
    async def run() -> list[Answer]:
        listening = await asyncio.start_server(Server(well).serve, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        done = asyncio.Event()
        load = asyncio.create_task(
            steady_load(Endpoint("127.0.0.1", port, "/", "m"), concurrency=2, until=done, pause_s=0.01)
        )
        await asyncio.sleep(0.1)
        done.set()
        answers = await asyncio.wait_for(load, 2)
        listening.close()
        return answers

    assert len(asyncio.run(run())) > 4
