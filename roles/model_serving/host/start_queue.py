"""Whose turn it is to start: one model at a time, in the order of the model list. Standard library only.

Two engines that start together on one GPU charge each other's memory (vllm#55827). And Ray never moves what it has
placed, so the order decides what fits: the plan of a deploy is made for the order of the list.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from serve_api import Unreachable

ORDER_FILE = Path("/etc/rayrack/start-order")
POLL_S = 1.0
# Units that systemd starts together come here within this time of each other; the first of them is not yet the first
# of the list.
GATHER_S = 1.5


class StartQueue:
    """The place of one model among those that want to start. The kernel gives it up when its process ends."""

    def __init__(self, run_dir: Path, slug: str, order_file: Path = ORDER_FILE) -> None:
        self._directory = run_dir / "model-starts"
        self._lock = run_dir / "model-start.lock"
        self._slug = slug
        self._order_file = order_file
        self._ticket: int | None = None
        self._since = 0.0

    def __enter__(self) -> "StartQueue":
        self.join()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def join(self) -> None:
        """Be seen by the models that come later in the list."""
        if self._ticket is None:
            self._directory.mkdir(mode=0o755, exist_ok=True)
            self._ticket = os.open(self._directory / self._slug, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            fcntl.flock(self._ticket, fcntl.LOCK_EX)
            self._since = time.monotonic()

    def leave(self) -> None:
        """Let later models pass by."""
        if self._ticket is not None:
            (self._directory / self._slug).unlink(missing_ok=True)
            os.close(self._ticket)
            self._ticket = None

    @contextmanager
    def turn(self, limit_s: float, waiting: Callable[[str], None]) -> Iterator[None]:
        """Hold the turn. ``waiting`` is called every second with the model whose start is waited for.

        Raises:
            Unreachable: it was not this model's turn within ``limit_s``.
        """
        deadline = time.monotonic() + limit_s
        self.join()
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        try:
            while (other := self._ahead(lock)) is not None:
                if time.monotonic() > deadline:
                    raise Unreachable(f"waited {limit_s:g} s for the start of {other}")
                if other != self._slug:
                    waiting(other)
                time.sleep(POLL_S)
            self._lock.write_text(self._slug)
            yield
        finally:
            os.close(lock)

    def _ahead(self, lock: int) -> str | None:
        """The model that starts now or comes first; itself while others may still arrive; None with ``lock`` held."""
        if self._since + GATHER_S > time.monotonic():
            return self._slug
        if (earlier := self._earlier()) is not None:
            return earlier
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._lock.read_text() or "another model"
        return None

    def _earlier(self) -> str | None:
        """The first model of the list that waits, too, and comes before this one."""
        order = self._order()
        own = _place(order, self._slug)
        waiting = sorted(_place(order, file.name) for file in self._directory.iterdir() if _is_held(file))
        return waiting[0][1] if waiting and waiting[0] < own else None

    def _order(self) -> dict[str, int]:
        try:
            return {slug: place for place, slug in enumerate(self._order_file.read_text().split())}
        except OSError:
            return {}


def _place(order: dict[str, int], slug: str) -> tuple[int, str]:
    return order.get(slug, len(order)), slug


def _is_held(ticket: Path) -> bool:
    """Whether its process lives. A shared lock, so that models that look at the same time do not see each other."""
    try:
        descriptor = os.open(ticket, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
