"""What the clean-up removes, decided. Pure: it is told what there is, and touches nothing.

Always go: dead sessions and dead nodes' spilled objects that are old enough, logs that are too old, the oldest logs
above the budget, and all but the end of a log that runs away. Only when the file system is too full, and only until it
is not: younger dead sessions, then logs that nobody has open, the oldest first, then all but the end of big logs.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

MIB = 2**20
# What was written to since then may be about to be used: a session that starts, a log that is just being rotated.
SETTLED_S = 120
# What stays of a log that is cut: its end, which tells why it ran away.
KEPT_OF_LOG_BYTES = MIB
# On a full disk a log in use is cut at this size. Ray's own rotation (100 MiB in ray.env) never lets one come so far.
EAGER_LOG_BYTES = 128 * MIB

Kind = Literal["session", "spill", "log", "cut"]


@dataclass(frozen=True)
class Limits:
    """The settings of the clean-up."""

    min_age_s: float
    log_max_age_s: float
    log_budget_bytes: int
    """For all logs of the living sessions together."""
    runaway_log_bytes: int
    eager_percent: float
    warn_percent: float


@dataclass(frozen=True)
class FileSystem:
    """The file system of Ray's directory, as statvfs(3) counts it."""

    size_bytes: int
    available_bytes: int
    inodes: int
    """0 on file systems that have no fixed number, btrfs for one."""
    inodes_available: int

    @property
    def used_percent(self) -> float:
        """As Ray counts before it refuses objects at 95 %: what is kept back for root is not available.
        https://github.com/ray-project/ray/blob/master/src/ray/common/file_system_monitor.cc"""
        return 100 * (1 - self.available_bytes / self.size_bytes) if self.size_bytes else 0

    @property
    def inodes_used_percent(self) -> float:
        return 100 * (1 - self.inodes_available / self.inodes) if self.inodes else 0

    def bytes_above(self, percent: float) -> float:
        """How many bytes must go to come down to ``percent``; infinite when it is inodes that are short."""
        if self.inodes_used_percent > percent:
            return math.inf
        return max(0.0, self.size_bytes * (1 - percent / 100) - self.available_bytes)

    def is_above(self, percent: float) -> bool:
        return max(self.used_percent, self.inodes_used_percent) > percent


@dataclass(frozen=True)
class Part:
    """A log file (path below its session) or a directory of spilled objects, as far as it takes room on the disk."""

    path: str
    bytes: int
    age_s: float
    used_by: str | None


@dataclass(frozen=True)
class Session:
    """A session; only of one in use the parts are told, only of a dead one its own bytes and age."""

    name: str
    used_by: str | None
    bytes: int = 0
    age_s: float = 0
    logs: tuple[Part, ...] = ()
    spills: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Action:
    """One thing to remove, or one log to cut (kind ``cut``), what that frees, and why."""

    kind: Kind
    session: str
    path: str
    bytes: int
    """That it frees, about."""
    why: str

    @property
    def full_path(self) -> str:
        return f"{self.session}/{self.path}" if self.path else self.session

    @property
    def verb(self) -> str:
        return "cut" if self.kind == "cut" else "remove"

    def __str__(self) -> str:
        return f"{self.verb} {self.full_path} ({self.bytes / MIB:.1f} MiB): {self.why}"


def plan(sessions: Sequence[Session], file_system: FileSystem, limits: Limits) -> list[Action]:
    """Everything to do, in this order."""
    actions = [
        *_dead_sessions(sessions, limits.min_age_s),
        *_dead_spills(sessions, limits.min_age_s),
        *_logs(sessions, limits),
        *_cuts(sessions, limits.runaway_log_bytes, f"in use and above {_mib(limits.runaway_log_bytes)}"),
    ]
    to_free = file_system.bytes_above(limits.eager_percent) - sum(action.bytes for action in actions)
    planned = {action.full_path for action in actions}
    for action in _eager(sessions, f", and the file system is more than {limits.eager_percent:g} % full"):
        if to_free <= 0:
            break
        # An empty file gives back an inode and no bytes.
        if action.full_path not in planned and (action.bytes or to_free == math.inf):
            actions.append(action)
            to_free -= action.bytes
    return actions


def _dead_sessions(sessions: Iterable[Session], min_age_s: float, because: str = "") -> Iterator[Action]:
    for session in sessions:
        if session.used_by is None and session.age_s >= min_age_s:
            why = f"no process uses it, last written to {ago(session.age_s)}{because}"
            yield Action("session", session.name, "", session.bytes, why)


def _dead_spills(sessions: Iterable[Session], min_age_s: float, because: str = "") -> Iterator[Action]:
    for session in sessions:
        for spill in session.spills:
            if spill.used_by is None and spill.age_s >= min_age_s:
                why = f"no process of that node is left, last written to {ago(spill.age_s)}{because}"
                yield Action("spill", session.name, spill.path, spill.bytes, why)


def _logs(sessions: Iterable[Session], limits: Limits) -> Iterator[Action]:
    """Logs that are too old, then the oldest until the rest is within the budget."""
    logs = [(session, log) for session in sessions for log in session.logs]
    excess = sum(log.bytes for _, log in logs) - limits.log_budget_bytes
    for session, log in _unused_oldest_first(logs):
        if log.age_s >= limits.log_max_age_s:
            why = f"nobody has it open, last written to {ago(log.age_s)}"
        elif excess > 0 and log.bytes:
            why = f"all logs are above {_mib(limits.log_budget_bytes)}, this is the oldest, {ago(log.age_s)}"
        else:
            continue
        excess -= log.bytes
        yield Action("log", session.name, log.path, log.bytes, why)


def _cuts(sessions: Iterable[Session], above_bytes: int, why: str) -> Iterator[Action]:
    logs = [(session, log) for session in sessions for log in session.logs]
    for session, log in sorted(logs, key=lambda each: each[1].bytes, reverse=True):
        if log.used_by is not None and log.bytes > max(above_bytes, KEPT_OF_LOG_BYTES):
            yield Action("cut", session.name, log.path, log.bytes - KEPT_OF_LOG_BYTES, f"{why}; {log.used_by}")


def _eager(sessions: Sequence[Session], because: str) -> Iterator[Action]:
    """What may go besides on a full disk, what is missed least first."""
    yield from _dead_sessions(sorted(sessions, key=lambda session: -session.age_s), SETTLED_S, because)
    yield from _dead_spills(sessions, SETTLED_S, because)
    logs = [(session, log) for session in sessions for log in session.logs]
    for session, log in _unused_oldest_first(logs):
        yield Action("log", session.name, log.path, log.bytes, f"nobody has it open{because}")
    yield from _cuts(sessions, EAGER_LOG_BYTES, f"in use and above {_mib(EAGER_LOG_BYTES)}{because}")


def _unused_oldest_first(logs: Iterable[tuple[Session, Part]]) -> list[tuple[Session, Part]]:
    settled = [(session, log) for session, log in logs if log.used_by is None and log.age_s >= SETTLED_S]
    return sorted(settled, key=lambda each: -each[1].age_s)


def _mib(count: int) -> str:
    return f"{count / MIB:.0f} MiB"


def ago(age_s: float) -> str:
    minutes = age_s / 60
    return f"{minutes:.0f} min ago" if minutes < 120 else f"{minutes / 60:.0f} h ago"
