"""Session trees on a real disk, and a process table made of files, for the tests of the clean-up."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from clean_ray_plan import Limits

HOUR_S = 3600
DAY_S = 24 * HOUR_S
MIB = 2**20
# Names of this run's own: real sessions on this machine must not decide a test.
_numbers = count(os.getpid() * 1000)


def session_name() -> str:
    return f"session_2026-11-21_18-30-00_123456_{next(_numbers)}"


def limits(
    *,
    min_age_s: float = HOUR_S,
    log_max_age_s: float = 7 * DAY_S,
    log_budget_bytes: int = 10**12,
    runaway_log_bytes: int = 10**12,
    eager_percent: float = 100,
    warn_percent: float = 100,
) -> Limits:
    """Limits that forbid nothing but what a test is about."""
    return Limits(min_age_s, log_max_age_s, log_budget_bytes, runaway_log_bytes, eager_percent, warn_percent)


def make_session(ray: Path, *, hours_old: float = 5) -> Path:
    session = ray / session_name()
    (session / "logs/old").mkdir(parents=True)
    (session / "sockets").mkdir()
    (session / "logs/raylet.out").write_text("x" * 5000)
    (session / "logs/old/deeper.log").write_text("x")
    set_age(session, hours_old)
    return session


def make_file(path: Path, *, size: int = 10, hours_old: float = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    set_age(path, hours_old)
    return path


def set_age(path: Path, hours: float) -> None:
    then = time.time() - hours * HOUR_S
    for entry in [*path.rglob("*"), path]:
        os.utime(entry, (then, then), follow_symlinks=False)


@dataclass
class FakeProcess:
    """What /proc would tell of a process."""

    command_line: tuple[str, ...] = ("sleep", "1")
    open_paths: tuple[str, ...] = ()
    working_directory: str = "/"
    mapped: tuple[str, ...] = ()
    bound_sockets: tuple[str, ...] = ()
    mount_sources: tuple[str, ...] = ()
    comm: str = "raylet"


@dataclass
class ProcessTable:
    """A directory like /proc (proc(5))."""

    proc: Path
    pids: Iterable[int] = field(default_factory=lambda: count(1000))

    def add(self, process: FakeProcess) -> Path:
        directory = self.proc / str(next(iter(self.pids)))
        (directory / "fd").mkdir(parents=True)
        (directory / "ns").mkdir()
        (directory / "net").mkdir()
        (directory / "comm").write_text(process.comm + "\n")
        (directory / "cmdline").write_bytes(b"".join(os.fsencode(each) + b"\0" for each in process.command_line))
        lines = [f"7f00-7f01 r-xp 00000000 fe:00 12  {path}\n" for path in ("[heap]", *process.mapped)]
        (directory / "maps").write_text("".join(lines))
        for name, target in (("cwd", process.working_directory), ("root", "/"), ("exe", "/usr/bin/sleep")):
            (directory / name).symlink_to(target)
        for number, target in enumerate(("/dev/null", "socket:[123]", "anon_inode:[eventpoll]", *process.open_paths)):
            (directory / "fd" / str(number)).symlink_to(target)
        # Each in namespaces of its own, as containers are.
        for namespace in ("net", "mnt"):
            (directory / "ns" / namespace).symlink_to(f"{namespace}:[{directory.name}]")
        lines = [f"0000: 00000002 00000000 00010000 0001 01 999 {path}\n" for path in process.bound_sockets]
        (directory / "net/unix").write_text("Num RefCount Protocol Flags Type St Inode Path\n" + "".join(lines))
        mounts = [f"36 35 98:0 {source} /elsewhere rw - ext4 /dev/vda rw\n" for source in process.mount_sources]
        (directory / "mountinfo").write_text("".join(mounts))
        return directory
