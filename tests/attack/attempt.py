"""One malformed request, and what its makers share."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

T = TypeVar("T")

# In requests hidden within others; a request that begins with it has been smuggled past the gateway's reading.
SMUGGLED = "smuggled"


class Wire(enum.Enum):
    """How the bytes travel."""

    TLS = "in TLS"
    PLAIN = "as they are, to a port that speaks TLS"
    CUT_HANDSHAKE = "the beginning of a handshake"
    BROKEN_RECORD = "as they are, after a good handshake"


class Ending(enum.Enum):
    """What the client does when all is sent."""

    READ = "reads what comes"
    CLOSE = "closes"
    RESET = "resets the connection"


@dataclass(frozen=True)
class Attempt:
    """A malformed request. ``keyed``: it carries a valid API key, where one belongs."""

    number: int
    family: str
    marker: str
    keyed: bool
    limited: bool
    pieces: tuple[bytes, ...]
    pause_s: float = 0.0
    wire: Wire = Wire.TLS
    ending: Ending = Ending.READ

    def __str__(self) -> str:
        shown = repr(b"".join(self.pieces))
        shown = shown if len(shown) < 700 else f"{shown[:400]} ... {shown[-200:]} ({len(shown)} characters)"
        key = ("a key for one model" if self.limited else "a key") if self.keyed else "no key"
        return f"attempt {self.number}, {self.family}, {key}, {self.wire.value}, {self.ending.value}: {shown}"


@dataclass(frozen=True)
class Aim:
    """What is attacked: names and keys that are good there."""

    key: str
    limited_key: str
    """May use the first model alone."""
    models: tuple[str, ...]
    prefix: str = "/v1"


@dataclass(frozen=True)
class Sent:
    """What a maker makes: bytes, and how they are sent."""

    pieces: tuple[bytes, ...]
    pause_s: float = 0.0
    wire: Wire = Wire.TLS
    ending: Ending = Ending.READ

    @classmethod
    def of(cls, *pieces: bytes) -> Sent:
        return cls(pieces)


class Craft:
    """What a maker works with: chance, a marker of its own, and requests that are right but for what it does."""

    def __init__(self, aim: Aim, random: Random, marker: str, *, keyed: bool, limited: bool) -> None:
        self.aim = aim
        self.random = random
        self.marker = marker
        self.keyed = keyed
        self.key = (aim.limited_key if limited else aim.key) if keyed else None

    def pick(self, values: Sequence[T]) -> T:
        return self.random.choice(values)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    @property
    def path(self) -> str:
        """An API path that generates."""
        return self.aim.prefix + self.pick(("/chat/completions", "/completions", "/embeddings", "/responses"))

    @property
    def authorization(self) -> tuple[bytes, ...]:
        """The key's header, or none, or one with a guess that holds nothing of the good key."""
        if self.key is not None:
            return (b"Authorization: Bearer " + self.key.encode(),)
        guess = "rr-" + "".join(self.random.choices("abcXYZ019-_", k=self.pick((0, 1, 40, 43, 300))))
        return self.pick(((), (b"Authorization: Bearer " + guess.encode(),)))

    def body(self, **more: object) -> bytes:
        """A body that a model takes."""
        whole = {"model": self.pick(self.aim.models), "messages": [{"role": "user", "content": "hi"}], "prompt": "hi"}
        return json.dumps(whole | {"max_tokens": 1, "user": self.marker} | more).encode()

    def head(
        self,
        line: bytes | None = None,
        headers: Sequence[bytes] = (),
        *,
        length: int | None = None,
        authorization: Sequence[bytes] | None = None,
        end: bytes = b"\r\n",
    ) -> bytes:
        """Request line and headers; the connection ends with the answer, so that a reader need not guess."""
        lines = [line if line is not None else b"POST %s HTTP/1.1" % self.path.encode(), b"Host: rack"]
        lines += [b"User-Agent: " + self.marker.encode(), b"Connection: close", b"Content-Type: application/json"]
        lines += self.authorization if authorization is None else authorization
        lines += headers
        lines += [] if length is None else [b"Content-Length: %d" % length]
        return end.join((*lines, b"", b""))

    def request(self, line: bytes | None = None, headers: Sequence[bytes] = (), body: bytes | None = None) -> bytes:
        """A whole request, right unless the arguments are wrong."""
        body = self.body() if body is None else body
        return self.head(line, headers, length=len(body)) + body

    def hidden(self) -> bytes:
        """A request without a key, to be hidden in another; nobody should ever see it beyond the gateway."""
        body = json.dumps({"model": self.pick(self.aim.models), "prompt": "x", "max_tokens": 1}).encode()
        path = self.pick((self.path, f"/m/{self.aim.models[0]}/v1/completions", "/m/x/health")).encode()
        agent = f"User-Agent: {SMUGGLED}-{self.marker}".encode()
        return b"POST %s HTTP/1.1\r\nHost: rack\r\n%s\r\nContent-Length: %d\r\n\r\n%s" % (path, agent, len(body), body)

    def noise(self, most: int = 60) -> bytes:
        return self.random.randbytes(self.random.randint(1, most))
