"""The runtimes under /opt/rayrack: which one is in use, which one came before, and which ones may go.

Standard library only. ``current`` and ``previous`` are relative links into ``runtime/``; a runtime counts only
with its ``.complete`` file, which is written last and removed first.
"""

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path("/opt/rayrack")
LOCK_WAIT_S = 900
LOCK_REPORT_S = 10


class RuntimeProblem(Exception):
    """One line for the operator: what went wrong and what to do."""


class Runtimes:
    """The directory of runtimes below ``root``."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        self.directory = root / "runtime"

    def path(self, digest: str) -> Path:
        return self.directory / digest

    def work(self, digest: str) -> Path:
        """Downloads and unpacked wheels of an installation under way; kept when it is interrupted."""
        return self.directory / f".work-{digest}"

    def linked(self, link: str) -> str | None:
        """The digest that ``current`` or ``previous`` names."""
        try:
            return (self.root / link).readlink().name
        except OSError:
            return None

    def is_complete(self, digest: str) -> bool:
        return (self.path(digest) / ".complete").is_file()

    def mark_complete(self, digest: str, facts: dict[str, Any]) -> None:
        temporary = self.path(digest) / ".complete.new"
        temporary.write_text(json.dumps({"digest": digest, **facts}, indent=2) + "\n")
        temporary.replace(self.path(digest) / ".complete")

    def switch(self, digest: str) -> None:
        """Make ``digest`` the current runtime, at once and whole; the one it replaces becomes ``previous``."""
        old = self.linked("current")
        if old != digest and old is not None and self.is_complete(old):
            self._link("previous", old)
        self._link("current", digest)

    def roll_back(self) -> str:
        """Exchange ``current`` and ``previous``; returns the digest now in use."""
        previous = self.linked("previous")
        if previous is None or not self.is_complete(previous):
            raise RuntimeProblem(f"no complete previous runtime in {self.directory}; deploy the one you want instead")
        self.switch(previous)
        return previous

    def remove_unused(self) -> tuple[list[str], list[str]]:
        """Remove runtimes that are neither current nor previous nor in use by a process; returns (removed, in use)."""
        keep = {self.linked("current"), self.linked("previous")}
        entries = [path for path in self.directory.iterdir() if path.name != ".lock" and _digest_of(path) not in keep]
        busy = {_digest_of(path) for path in _used_by_processes([path for path in entries if path.is_dir()])}
        removed = []
        for path in entries:
            if _digest_of(path) in busy:
                continue
            if path.is_dir():
                (path / ".complete").unlink(missing_ok=True)
                shutil.rmtree(path)
                removed.append(path.name)
            else:
                path.unlink()
        return removed, sorted(busy)

    @contextlib.contextmanager
    def locked(self, wait_s: float = LOCK_WAIT_S) -> Iterator[int]:
        """Hold the installation lock. Its descriptor is handed to child processes: while one lives, it is held."""
        self.directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _wait_for(descriptor, self.directory / ".lock", wait_s)
            yield descriptor
        finally:
            os.close(descriptor)

    def _link(self, link: str, digest: str) -> None:
        temporary = self.root / f".{link}.new"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(Path("runtime") / digest)
        temporary.replace(self.root / link)


def _digest_of(path: Path) -> str:
    return path.name.removeprefix(".work-").removesuffix(".txt")


def _wait_for(descriptor: int, path: Path, wait_s: float) -> None:
    start = reported = time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            now = time.monotonic()
            if now - start > wait_s:
                raise RuntimeProblem(
                    f"another installation has held {path} for {wait_s:.0f} s; see `fuser -v {path}`, then deploy again"
                ) from None
            if now - reported >= LOCK_REPORT_S:
                reported = now
                print(f"waiting for another installation on this host, {now - start:.0f} s", flush=True)
            time.sleep(0.2)
        else:
            return


def _used_by_processes(directories: list[Path]) -> set[Path]:
    """Those of ``directories`` that a process runs from, works in, or has mapped a file of.

    Libraries are mapped by their real path, so this also finds processes that were started through ``current``.
    """
    used: set[Path] = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # the process ended, or belongs to a kernel thread
            named = f"{(process / 'cwd').readlink()}/\n" + (process / "maps").read_text(errors="replace")
            named += (process / "cmdline").read_bytes().replace(b"\0", b"\n").decode(errors="replace")
            used.update(path for path in directories if f"{path}/" in named)
    return used
