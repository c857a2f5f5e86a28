"""Sends a malformed request and reads every answer that comes."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import struct
import time
from dataclasses import dataclass

from tests.attack.attempt import Attempt, Ending, Wire

MOST_S = 20.0
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes


class Unreadable(Exception):
    """What came back is no sequence of HTTP answers: one has been split, or mixed with another."""


@dataclass(frozen=True)
class Door:
    """Where the gateway listens, and what its certificate is verified with."""

    host: str
    port: int
    trust: ssl.SSLContext
    silence_s: float = 0.4
    """A connection that says nothing for so long is left: the gateway waits longer for the rest of a request."""

    def connect(self, timeout_s: float) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=timeout_s)

    def connect_tls(self, timeout_s: float) -> ssl.SSLSocket:
        return self.trust.wrap_socket(self.connect(timeout_s), server_hostname=self.host)


def send(door: Door, attempt: Attempt) -> bytes:
    """What came back, up to the end of the connection or a long silence."""
    with contextlib.ExitStack() as stack:
        tls = attempt.wire in (Wire.TLS, Wire.BROKEN_RECORD)
        connection: socket.socket = door.connect_tls(MOST_S) if tls else door.connect(MOST_S)
        stack.callback(_close, connection, reset=attempt.ending is Ending.RESET)
        with contextlib.suppress(OSError):
            for piece in attempt.pieces:
                _send(connection, piece, below=attempt.wire is Wire.BROKEN_RECORD)
                time.sleep(attempt.pause_s) if attempt.pause_s else None
        if attempt.ending is not Ending.READ:
            return b""
        return b"" if attempt.wire is Wire.BROKEN_RECORD else _read(connection, door.silence_s)


def _send(connection: socket.socket, data: bytes, *, below: bool) -> None:
    if below:
        os.write(connection.fileno(), data)
    else:
        connection.sendall(data)


def _read(connection: socket.socket, silence_s: float) -> bytes:
    received = bytearray()
    connection.settimeout(silence_s)
    deadline = time.monotonic() + MOST_S
    with contextlib.suppress(OSError):
        while data := connection.recv(65536):
            received += data
            if time.monotonic() > deadline:
                raise Unreadable(f"an answer without end: {bytes(received[:300])!r}")
    return bytes(received)


def _close(connection: socket.socket, *, reset: bool) -> None:
    with contextlib.suppress(OSError):
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


def answers(received: bytes) -> list[Answer]:
    """Every whole answer in what came back; the last may be cut off.

    Raises:
        Unreadable: there is something else.
    """
    found = []
    while received:
        match = _STATUS.match(received)
        if match is None:
            raise Unreadable(f"no answer begins with {received[:300]!r}")
        head, complete, rest = received.partition(b"\r\n\r\n")
        if not complete:
            break
        body, received = _body(head + b"\r\n", rest)
        found.append(Answer(int(match[1]), body))
    return found


def _body(head: bytes, rest: bytes) -> tuple[bytes, bytes]:
    """The body of an answer, and what follows it."""
    length = _LENGTH.search(head)
    if _STATUS.match(rest) or head.split(b" ", 2)[1].startswith(b"1"):
        return b"", rest  # an interim answer, or the answer to a HEAD
    if length is not None:
        size = int(length[1])
        return rest[:size], rest[size:]
    if _CHUNKED.search(head):
        body = b""
        while rest:
            size_line, _, rest = rest.partition(b"\r\n")
            size = int(size_line, 16)
            body, rest = body + rest[:size], rest[size + 2 :]
            if size == 0:
                break
        return body, rest
    return rest, b""
