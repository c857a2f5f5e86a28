"""Stands where Ray Serve is and believes nothing: whatever arrives that is not exactly one plain request on its
connection is a finding, since a more trusting server might read it as two.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from dataclasses import dataclass, field

_LINE = re.compile(
    rb"(?:POST) (?P<path>/m/(?P<slug>[a-z0-9.-]+)/v1(?P<endpoint>/[a-z/]+))(?P<query>\?[!-~]*)? HTTP/1\.[01]"
)
_HEALTH = re.compile(rb"(?:GET|OPTIONS) /m/[a-z0-9.-]+/health HTTP/1\.[01]")
_HEADER = re.compile(rb"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+): ?(?P<value>[^\0\r\n]*)")
_ENDPOINTS = frozenset((b"/chat/completions", b"/completions", b"/embeddings", b"/responses"))
_KNOWN_HEADERS = frozenset((
    b"host", b"accept", b"accept-encoding", b"content-length", b"content-type", b"transfer-encoding", b"user-agent",
    b"x-request-id",
    b"connection",
))  # fmt: skip


@dataclass
class Arrived:
    """A request that has come through the gateway."""

    slug: str
    endpoint: str
    agent: str
    body: bytes


@dataclass
class StrictServe:
    """``findings`` is empty after an attack that led nowhere."""

    arrived: list[Arrived] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(5), "the stand-in of Serve did not start within 5 s"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        listening = asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**22)
        self.port = self._loop.run_until_complete(listening).sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = b""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if not _HEALTH.match(head):
                arrived = await self._request(head, reader)
                self.arrived.append(arrived)
                writer.write(_answer(arrived))
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
            # A connection is for one request (http-server-close): what comes now has been hidden in it.
            if more := await asyncio.wait_for(reader.read(4096), 30):
                self.findings.append(f"after the request {head[:200]!r} came {more[:300]!r}")
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            pass
        except Suspicious as suspicion:
            self.findings.append(f"{suspicion}, in {head[:1000]!r}")
        finally:
            writer.close()

    async def _request(self, head: bytes, reader: asyncio.StreamReader) -> Arrived:
        first, *lines = head[:-4].split(b"\r\n")
        line = _LINE.fullmatch(first)
        if line is None or line["endpoint"] not in _ENDPOINTS:
            raise Suspicious(f"the request line {first[:300]!r}")
        headers: dict[bytes, bytes] = {}
        for text in lines:
            header = _HEADER.fullmatch(text)
            if header is None or header["name"].lower() not in _KNOWN_HEADERS:
                raise Suspicious(f"the header {text[:300]!r} of {first[:200]!r}")
            name = header["name"].lower()
            if name in headers and name in (b"host", b"content-length", b"transfer-encoding"):
                raise Suspicious(f"two headers {name!r}: {head[:500]!r}")
            headers.setdefault(name, header["value"])
        body = await _framed(headers, reader)
        slug, endpoint = line["slug"].decode(), line["endpoint"].decode()
        return Arrived(slug, endpoint, headers.get(b"user-agent", b"").decode("latin-1"), body)


class Suspicious(Exception):
    """What arrived can be read in more than one way, or should not have arrived at all."""


async def _framed(headers: dict[bytes, bytes], reader: asyncio.StreamReader) -> bytes:
    length, encoding = headers.get(b"content-length"), headers.get(b"transfer-encoding")
    if (length is None) == (encoding is None):
        raise Suspicious(f"one of Content-Length and Transfer-Encoding, not both, not none: {headers}")
    if length is not None:
        if not re.fullmatch(rb"\d{1,8}", length):
            raise Suspicious(f"Content-Length {length!r}")
        return await reader.readexactly(int(length))
    if encoding is None or encoding.lower() != b"chunked":
        raise Suspicious(f"Transfer-Encoding {encoding!r}")
    body = b""
    while True:
        size = (await reader.readuntil(b"\r\n"))[:-2]
        if not re.fullmatch(rb"[0-9a-fA-F]{1,8}", size):
            raise Suspicious(f"the chunk size {size!r}")
        if int(size, 16) == 0:
            break
        body += await reader.readexactly(int(size, 16))
        if await reader.readexactly(2) != b"\r\n":
            raise Suspicious("a chunk without its end")
    # HAProxy does not look at trailers. Where they end is read alike by everybody.
    while (trailer := await reader.readuntil(b"\r\n")) != b"\r\n":
        if re.search(rb"[\r\n]", trailer[:-2]):
            raise Suspicious(f"the trailer {trailer!r}")
    return body


def _answer(arrived: Arrived) -> bytes:
    """What a model would say: who asked, in the words of its request; 400 for a body that is no JSON."""
    try:
        user = json.loads(arrived.body).get("user")
    except (ValueError, AttributeError, RecursionError):
        return _http(400, {"error": {"message": "not JSON", "code": 400}})
    return _http(200, {"agent": arrived.agent, "user": user, "model": arrived.slug})


def _http(status: int, body: object) -> bytes:
    data = json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
        status,
        len(data),
        data,
    )
