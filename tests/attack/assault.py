"""Sends malformed requests, many at a time, and judges each answer by itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.attack.attempt import SMUGGLED, Aim, Attempt, Wire
from tests.attack.plan import attempt
from tests.attack.send import Answer, Door, Unreadable, answers, send

# What a malformed request may be told. Without a key HAProxy's own reading of HTTP comes first, then only 401.
FOR_KEYED = frozenset((100, 200, 400, 401, 403, 404, 405, 408, 413, 415, 422, 431))
FOR_STRANGERS = frozenset((400, 401, 408, 422))
_MARKER = re.compile(rb'"(a\d{6})"')


@dataclass
class Report:
    """What an attack has led to."""

    sent: int = 0
    problems: list[str] = field(default_factory=list)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How often, by `keyed` or `stranger` and status; 0 is no answer."""

    def text(self) -> str:
        found = ", ".join(f"{who} {status}: {count}" for (who, status), count in sorted(self.statuses.items()))
        return f"{self.sent} malformed requests; {found}"


def judged(tried: Attempt, received: bytes) -> tuple[list[Answer], list[str]]:
    """The answers to an attempt and what is wrong with them."""
    if tried.wire in (Wire.PLAIN, Wire.CUT_HANDSHAKE):
        return [], ([f"answered in plain text: {received[:200]!r}"] if received.startswith(b"HTTP/") else [])
    try:
        found = answers(received)
    except Unreadable as error:
        return [], [str(error)]
    problems = []
    allowed = FOR_KEYED if tried.keyed else FOR_STRANGERS
    for answer in found:
        alive = answer.status == 200 and answer.body.startswith(b'{"status":"ok","config":')  # /healthz takes no key
        if answer.status not in allowed and not (
            alive or (answer.status == 200 and not answer.body and _asks_healthz(tried))
        ):
            problems.append(f"answered {answer.status}: {answer.body[:300]!r}")
        if SMUGGLED.encode() in answer.body and answer.status == 200:
            problems.append(f"a hidden request was answered: {answer.body[:300]!r}")
        for marker in _MARKER.findall(answer.body):
            if marker.decode() != tried.marker:
                problems.append(f"has the answer of {marker.decode()}: {answer.body[:300]!r}")
    return found, problems


def _asks_healthz(tried: Attempt) -> bool:
    """Whether an empty answer may be that of HEAD /healthz."""
    return b"HEAD /healthz" in b"".join(tried.pieces)


def assault(door: Door, aim: Aim, seed: int, numbers: Iterable[int], *, at_once: int = 24) -> Report:
    """Send the malformed requests of these numbers."""
    report = Report()

    def one(number: int) -> tuple[Attempt, list[Answer], list[str]]:
        tried = attempt(aim, seed, number)
        try:
            return (tried, *judged(tried, send(door, tried)))
        except OSError as error:
            return tried, [], [f"the gateway did not take the connection: {error!r}"]
        except Unreadable as error:
            return tried, [], [str(error)]

    with ThreadPoolExecutor(at_once) as pool:
        for tried, found, problems in pool.map(one, numbers):
            report.sent += 1
            who = "keyed" if tried.keyed else "stranger"
            report.statuses.update((who, answer.status) for answer in found or [Answer(0, b"")])
            report.problems += [f"{problem}\n  {tried}" for problem in problems]
    return report
