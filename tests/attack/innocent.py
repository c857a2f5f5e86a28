"""A well-behaved client that goes on asking while others attack."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.attack.send import Door


@dataclass(frozen=True)
class Exchange:
    """A question with its marker, and the answer to it."""

    marker: str
    answer: dict[str, Any]
    headers: Mapping[str, str]


@dataclass
class Innocent:
    """Asks one thing after the other, over connections that it keeps, and compares each answer with what it asked."""

    door: Door
    key: str
    body: Callable[[str], dict[str, Any]]
    right: Callable[[Exchange], bool]
    """Whether an answer belongs to its question."""
    path: str = "/v1/chat/completions"
    pause_s: float = 0.02
    name: str = "good"
    asked: int = 0
    problems: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Innocent:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        connection = self._connection()
        while not self._stop.wait(self.pause_s):
            if self.asked % 50 == 49:
                connection.close()
                connection = self._connection()
            self.ask(connection)
        connection.close()

    def _connection(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self.door.host, self.door.port, timeout=60, context=self.door.trust)

    def ask(self, connection: http.client.HTTPSConnection) -> None:
        marker = f"{self.name}-{self.asked}"
        self.asked += 1
        headers = {"Authorization": f"Bearer {self.key}", "User-Agent": marker, "Content-Type": "application/json"}
        began = time.monotonic()
        try:
            connection.request("POST", self.path, json.dumps(self.body(marker)), headers)
            response = connection.getresponse()
            text = response.read()
            headers = {name.lower(): value for name, value in response.getheaders()}
            if response.status != 200 or not self.right(Exchange(marker, json.loads(text), headers)):
                self.problems.append(f"{marker}: {response.status} {text[:300]!r}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.problems.append(f"{marker}: {error!r}")
            connection.close()
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
