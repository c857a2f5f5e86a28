"""A small HTTP server that stands where Ray Serve's HTTP port is, behind the real HAProxy under test.

It answers as Serve and vLLM do: applications under /m/<slug>, plain text for an application that is not there,
OpenAI's shapes otherwise. What it is to do with one request stands in the body's ``play``.
"""

import asyncio
import contextlib
import json
import threading
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Seen:
    """A request as it arrived, and whether its client left before the answer."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    abandoned: threading.Event = field(default_factory=threading.Event)


class ServeSide:
    def __init__(self, applications: set[str]) -> None:
        self.applications = applications
        self.healthy = set(applications)
        self.requests: list[Seen] = []
        self.port = 0
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(5), "the upstream did not start within 5 s"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (seen := await _read(reader)) is not None:
                await self._answer(seen, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        slug = seen.path.split("/")[2] if seen.path.startswith("/m/") else ""
        if slug not in self.applications:
            return await _send(writer, 404, "text/plain", f"Path '{seen.path}' not found.")
        if seen.path == f"/m/{slug}/health":
            return await _send(writer, 200 if slug in self.healthy else 503, "text/plain", "")
        self.requests.append(seen)
        body = json.loads(seen.body.replace(rb"\/", b"/"))
        match body.get("play"):
            case "plain-500":
                return await _send(writer, 500, "text/plain", "Internal Server Error")
            case "no-such-api":
                return await _send(writer, 404, "application/json", '{"detail":"Not Found"}')
            case "vllm-error":
                return await _send(writer, 400, "application/json", '{"error":{"message":"too long","code":400}}')
            case "break-off":
                return writer.close()
            case "think":
                with contextlib.suppress(ConnectionError):
                    await reader.read(1)  # nothing comes after a request, so this returns when the client is gone
                seen.abandoned.set()
                return None
        if body.get("stream"):
            try:
                return await _stream(writer, slug, body)
            except ConnectionError:
                seen.abandoned.set()
                raise
        await asyncio.sleep(body.get("pause_s", 0))
        return await _send(writer, 200, "application/json", json.dumps(_completion(slug, seen.path)))


async def _read(reader: asyncio.StreamReader) -> Seen | None:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = b""
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Seen(method, path, headers, body)


async def _send(writer: asyncio.StreamWriter, status: int, content_type: str, text: str) -> None:
    body = text.encode()
    writer.write(
        f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
    )
    await writer.drain()


async def _stream(writer: asyncio.StreamWriter, slug: str, body: dict[str, Any]) -> None:
    """Server-sent events, one every 50 ms unless ``pause_s`` says otherwise, as many as ``max_tokens``."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    for number in range(body["max_tokens"]):
        choice = {"index": 0, "delta": {"content": f"{number} "}, "finish_reason": None}
        await _chunk(
            writer, json.dumps({"id": "c", "object": "chat.completion.chunk", "model": slug, "choices": [choice]})
        )
        await asyncio.sleep(body.get("pause_s", 0.05))
    await _chunk(writer, "[DONE]")
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _chunk(writer: asyncio.StreamWriter, event: str) -> None:
    data = f"data: {event}\n\n".encode()
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    await writer.drain()


def _completion(slug: str, path: str) -> dict[str, Any]:
    if path.endswith("/embeddings"):
        return {"object": "list", "model": slug, "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}]}
    answer = {"role": "assistant", "content": f"hello from {slug}"}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": slug,
        "choices": [{"index": 0, "message": answer, "text": answer["content"], "finish_reason": "stop"}],
    }
