#!/usr/bin/python3
"""The lab's way out: a small forward proxy on the bridge, for package hosts only.

    proxy.py ADDRESS PORT CACHE_DIRECTORY

Plain `http` requests with an absolute URI (apt) and CONNECT (pip, uv) are served, one per connection, to hosts that
match the regular expression in LAB_ALLOW. Debian packages and indexes named by their hash never change, so they are
kept in CACHE_DIRECTORY: the second host, and the next run, get them from this disk. apt checks their digests itself.
"""

import hashlib
import os
import re
import select
import socket
import sys
import tempfile
import threading
import urllib.parse
from pathlib import Path

IDLE_SECONDS = 300
CHUNK = 65536
HEAD_MAX_BYTES = 65536
NEVER_CHANGES = re.compile(r"(\.deb|/by-hash/SHA256/[0-9a-f]{64})$")


class Refused(Exception):
    """The client asked for a host that is not a package host."""


def read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    """The head of an HTTP message without its empty line, and what was read beyond it."""
    buffer = b""
    while b"\r\n\r\n" not in buffer:
        data = connection.recv(CHUNK)
        if not data or len(buffer) > HEAD_MAX_BYTES:
            raise ConnectionError("no complete HTTP head")
        buffer += data
    head, rest = buffer.split(b"\r\n\r\n", 1)
    return head, rest


def relay(client: socket.socket, upstream: socket.socket) -> None:
    """Copy both ways until one side closes or nothing moves for IDLE_SECONDS."""
    while ready := select.select([client, upstream], [], [], IDLE_SECONDS)[0]:
        for source in ready:
            data = source.recv(CHUNK)
            if not data:
                return
            (upstream if source is client else client).sendall(data)


def fetch(client: socket.socket, upstream: socket.socket, kept: Path) -> None:
    """Pass the answer on and keep its body, if it came whole."""
    head, body = read_head(upstream)
    client.sendall(head + b"\r\n\r\n" + body)
    length = re.search(rb"(?im)^content-length: *(\d+)", head)
    complete = head.split(b" ", 2)[1] == b"200" and length is not None
    with tempfile.NamedTemporaryFile(dir=kept.parent) as partial:
        partial.write(body)
        while data := upstream.recv(CHUNK):
            client.sendall(data)
            partial.write(data)
        partial.flush()
        if complete and length is not None and partial.tell() == int(length[1]):
            Path(partial.name).chmod(0o644)
            # A hard link makes the whole file appear at once; somebody else may have been faster.
            kept.unlink(missing_ok=True)
            os.link(partial.name, kept)


def send_kept(client: socket.socket, kept: Path) -> None:
    """Answer from the cache."""
    with kept.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        client.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode())
        client.sendfile(file)


class Proxy:
    """One listening socket, one thread per connection."""

    def __init__(self, address: str, port: int, cache: Path, allowed: str) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        self.cache = cache
        self.allowed = re.compile(allowed)
        self.socket = socket.create_server((address, port), backlog=64)

    def run(self) -> None:
        while True:
            client, _ = self.socket.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client: socket.socket) -> None:
        with client:
            try:
                self.answer(client)
            except Refused as refusal:
                print("refused:", refusal, flush=True)
                client.sendall(b"HTTP/1.1 403 Forbidden by the lab's proxy\r\nContent-Length: 0\r\n\r\n")
            except OSError as error:
                print("failed:", repr(error), flush=True)

    def connect(self, target: urllib.parse.SplitResult) -> socket.socket:
        host, port = target.hostname or "", target.port or 80
        if not self.allowed.fullmatch(host) or port not in (80, 443):
            raise Refused(f"{host}:{port}")
        upstream = socket.create_connection((host, port), 60)
        upstream.settimeout(IDLE_SECONDS)
        return upstream

    def answer(self, client: socket.socket) -> None:
        head, rest = read_head(client)
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split()
        if method == "CONNECT":
            with self.connect(urllib.parse.urlsplit("//" + target)) as upstream:
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                upstream.sendall(rest)
                relay(client, upstream)
            return
        kept = None
        if method == "GET" and NEVER_CHANGES.search(target) and not re.search(rb"(?im)^range:", head):
            kept = self.cache / hashlib.sha256(target.encode()).hexdigest()
            if kept.exists():
                send_kept(client, kept)
                return
        url = urllib.parse.urlsplit(target)
        with self.connect(url) as upstream:
            upstream.sendall(request(method, url, head) + rest)
            if kept is not None:
                fetch(client, upstream, kept)
            else:
                relay(client, upstream)


def request(method: str, url: urllib.parse.SplitResult, head: bytes) -> bytes:
    """The client's request as the origin server wants it: a path instead of a URL, one request per connection."""
    path = urllib.parse.urlunsplit(("", "", url.path or "/", url.query, ""))
    kept = [line for line in head.split(b"\r\n")[1:] if not line.lower().startswith((b"proxy-", b"connection:"))]
    return b"\r\n".join([f"{method} {path} HTTP/1.1".encode(), *kept, b"Connection: close", b"", b""])


if __name__ == "__main__":
    Proxy(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), os.environ["LAB_ALLOW"]).run()
