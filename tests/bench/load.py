"""A client for steady load: HTTP/1.1 over asyncio streams, one connection per worker, nothing else.

It shares its two cores with what it measures, so it does as little as it can: the official client would take a good
part of the time itself and make both sides look alike.
"""

import asyncio
import json
import ssl
import time
from dataclasses import dataclass, field

REQUEST_LIMIT_S = 60.0


@dataclass(frozen=True)
class Endpoint:
    """One URL and the JSON body that is posted to it again and again. ``tokens``: what every answer must count.

    With a ``key``, it is asked over TLS, and every answer must come with the certificate in ``trusted`` (PEM).
    """

    host: str
    port: int
    path: str
    model: str
    prompt: str = "Name a few things"
    tokens: int = 16
    key: str = field(default="", repr=False)
    trusted: str = field(default="", repr=False)

    @property
    def tls(self) -> ssl.SSLContext | None:
        """One for all connections of a load, as a client library keeps one."""
        return ssl.create_default_context(cadata=self.trusted) if self.key else None

    @property
    def body(self) -> bytes:
        fields = {"model": self.model, "prompt": self.prompt, "max_tokens": self.tokens, "temperature": 0}
        return json.dumps(fields).encode()

    @property
    def request(self) -> bytes:
        body = self.body
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        )
        if self.key:
            head += f"Authorization: Bearer {self.key}\r\n"
        return head.encode() + b"\r\n" + body


@dataclass(frozen=True)
class Answer:
    """One request. Times in seconds of the monotonic clock; ``problem`` is empty when the answer was good."""

    began_s: float
    ended_s: float
    problem: str = ""

    @property
    def good(self) -> bool:
        return not self.problem


class BadAnswerError(Exception):
    """The server answered, and the answer is not what was asked for."""


class Connection:
    """A kept-alive connection, opened when it is needed and after every failure."""

    def __init__(self, endpoint: Endpoint, tls: ssl.SSLContext | None) -> None:
        self._endpoint = endpoint
        self._tls = tls
        self._request = endpoint.request
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self) -> Answer:
        """Send the request once and wait for its whole answer; never raises for what the network or server does."""
        began = time.monotonic()
        problem = ""
        try:
            async with asyncio.timeout(REQUEST_LIMIT_S):
                await self._ask()
        except BadAnswerError as error:
            problem = str(error)
        except (OSError, asyncio.IncompleteReadError, ValueError, KeyError) as error:  # OSError: TimeoutError, too
            problem = f"{type(error).__name__}: {error}"
        if problem:
            self.close()
        return Answer(began, time.monotonic(), problem)

    async def _ask(self) -> None:
        # A server may close an idle connection at any time; real clients look before they use one again, and so do we.
        if self._streams and self._streams[0].at_eof():
            self.close()
        if not self._streams:
            self._streams = await asyncio.open_connection(self._endpoint.host, self._endpoint.port, ssl=self._tls)
        reader, writer = self._streams
        writer.write(self._request)
        status, headers, body = await _read_answer(reader)
        if headers.get("connection", "").lower() == "close":
            self.close()
        if status != 200:
            raise BadAnswerError(f"HTTP {status}: {body[:200].decode(errors='replace')}")
        tokens = json.loads(body)["usage"]["completion_tokens"]
        if tokens != self._endpoint.tokens:
            raise BadAnswerError(f"{tokens} tokens instead of {self._endpoint.tokens}")

    def close(self) -> None:
        if self._streams:
            self._streams[1].close()
            self._streams = None


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (names in lower case) and body of one answer, whose length it must say (RFC 9112, 6.3)."""
    status_line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
    }
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_chunks(reader)
    else:
        body = await reader.readexactly(int(headers["content-length"]))
    return int(status_line.split()[1]), headers, body


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return body


async def steady_load(
    endpoint: Endpoint,
    *,
    concurrency: int,
    seconds: float | None = None,
    until: asyncio.Event | None = None,
    pause_s: float = 0,
) -> list[Answer]:
    """Keep ``concurrency`` requests going, for ``seconds`` or until ``until`` is set, and return every answer.

    Each worker asks, waits for the answer and asks again after ``pause_s``. Requests under way at the end are finished
    and counted.
    """
    end = time.monotonic() + seconds if seconds is not None else float("inf")
    stop = until or asyncio.Event()
    answers: list[Answer] = []
    tls = endpoint.tls

    async def worker() -> None:
        connection = Connection(endpoint, tls)
        while time.monotonic() < end and not stop.is_set():
            answer = await connection.ask()
            answers.append(answer)
            # A server that refuses at once must not be asked thousands of times a second.
            await asyncio.sleep(pause_s if answer.good else max(pause_s, 0.05))
        connection.close()

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return answers
