#!/usr/bin/python3 -EsB
"""Removes the sessions that no process uses from Ray's temporary directory. Standard library only; run by cron as root.

Ray never deletes a session, and neither a session's age nor the link session_latest tells whether it is in use. In use
is what a running process names in its command line or holds open: a file, a mapped library, its working directory, a
socket, a mount.

Exit status: 0 done, also when there was nothing to do; 1 something could not be removed; 2 refused;
75 another one is at work (EX_TEMPFAIL of sysexits.h).
"""

import argparse
import contextlib
import fcntl
import math
import os
import pwd
import re
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# As Ray names a session: date, time, microseconds, pid of `ray start` (ray/_private/node.py). Nothing else is touched.
SESSION = re.compile(rb"session_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_\d{6}_\d+")
# Ray writes to <session>/logs/<file> until the session ends: two levels down tell when that was.
LEVELS_OF_AGE = 2
# What is in use is looked up again before a removal once the last look is older than this.
LOOK_VALID_S = 1.0
# The first process runs the host and uses no session; a container may hide it even from root.
INIT = "1"
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
DONE, FAILED, REFUSED, BUSY = 0, 1, 2, 75


class RefusedError(Exception):
    """Nothing may be removed, and why."""


@dataclass
class Outcome:
    """What became of the sessions."""

    removed: int = 0
    freed_bytes: int = 0
    in_use: int = 0
    young: int = 0
    failed: int = 0


def open_directory(path: str) -> int | None:
    """A descriptor of Ray's temporary directory; None when there is none yet.

    Raises:
        RefusedError: when it is a link, or belongs to a user who could put anything into it.
    """
    try:
        directory = os.open(path, DIRECTORY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RefusedError(f"not a directory that can be opened ({error.strerror})") from None
    owner = os.fstat(directory).st_uid
    if owner not in trusted_owners():
        os.close(directory)
        raise RefusedError(f"belongs to uid {owner}, neither to rayrack nor to root; look who made it")
    return directory


def trusted_owners() -> set[int]:
    """Root, whoever runs this, and the user rayrack where it exists."""
    owners = {0, os.geteuid()}
    with contextlib.suppress(KeyError):
        owners.add(pwd.getpwnam("rayrack").pw_uid)
    return owners


def sessions(directory: int) -> list[str]:
    """Names of the session directories; a link such as ``session_latest`` is none."""
    with os.scandir(directory) as entries:
        found = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    return sorted(name for name in found if SESSION.fullmatch(os.fsencode(name)))


def last_written(parent: int, name: str, levels: int = LEVELS_OF_AGE) -> float:
    """The newest modification time (seconds since the epoch) of an entry and of ``levels`` below it."""
    newest = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mtime
    here = os.open(name, DIRECTORY, dir_fd=parent)
    try:
        with os.scandir(here) as entries:
            for entry in entries:
                if levels > 1 and entry.is_dir(follow_symlinks=False):
                    newest = max(newest, last_written(here, entry.name, levels - 1))
                else:
                    newest = max(newest, entry.stat(follow_symlinks=False).st_mtime)
    except FileNotFoundError:
        return math.inf  # it changes while one looks
    finally:
        os.close(here)
    return newest


def in_use() -> set[str]:
    """Names of all sessions that anything running refers to.

    Raises:
        RefusedError: when a process may not be looked at, since it might use any session.
    """
    found: set[bytes] = set()
    for system_wide in (Path("/proc/net/unix"), Path("/proc/self/mountinfo")):
        found.update(SESSION.findall(system_wide.read_bytes()))
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and process.name != INIT:
            found.update(SESSION.findall(references(process)))
    return {os.fsdecode(name) for name in found}


def references(process: Path) -> bytes:
    """Everything a process (its directory in /proc) names or holds open, in one text."""
    parts: list[bytes] = []
    try:
        parts += (gone_is_empty(process / name) for name in ("cmdline", "maps"))
        parts += (link(process / name) for name in ("cwd", "root", "exe"))
        parts += (link(descriptor) for descriptor in descriptors(process))
    except PermissionError as error:
        raise RefusedError(
            f"cannot see what process {process.name} holds open ({error.filename}); run as root"
        ) from None
    return b"\n".join(parts)


def gone_is_empty(file: Path) -> bytes:
    """A file of /proc; processes end while they are looked at."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return file.read_bytes()
    return b""


def link(path: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return os.fsencode(path.readlink())
    return b""


def descriptors(process: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        yield from (process / "fd").iterdir()


def disk_usage(parent: int, name: str) -> int:
    """Bytes that a directory's files take on the disk."""
    total = 0
    for _, _, files, here in os.fwalk(name, dir_fd=parent):
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(file, dir_fd=here, follow_symlinks=False).st_blocks * 512
    return total


def clean(directory: int, min_age_s: float, *, dry_run: bool) -> Outcome:
    """Remove (or only count) the sessions in ``directory`` that are old enough and in nobody's use."""
    outcome = Outcome()
    used: set[str] = set()
    looked_at = -math.inf
    for name in sessions(directory):
        if last_written(directory, name) > time.time() - min_age_s:
            outcome.young += 1
            continue
        if time.monotonic() - looked_at > LOOK_VALID_S:
            used, looked_at = in_use(), time.monotonic()
        if name in used:
            outcome.in_use += 1
            continue
        try:
            size = disk_usage(directory, name)
            if not dry_run:
                # By descriptor from directory to directory, so that a link put in its way leads nowhere.
                shutil.rmtree(name, dir_fd=directory)
        except (OSError, RecursionError) as error:
            outcome.failed += 1
            print(f"could not remove {name}: {error}", file=sys.stderr)
        else:
            outcome.removed += 1
            outcome.freed_bytes += size
    return outcome


def summary(outcome: Outcome, min_age_minutes: int, *, dry_run: bool) -> str:
    verb = "would remove" if dry_run else "removed"
    text = f"{verb} {outcome.removed} sessions ({outcome.freed_bytes / 2**20:.1f} MiB)"
    text += f"; kept {outcome.in_use} in use, {outcome.young} younger than {min_age_minutes} min"
    return text + (f"; {outcome.failed} could not be removed" if outcome.failed else "")


def run(temp_dir: str, min_age_minutes: int, *, dry_run: bool) -> int:
    """Clean one directory, print one line, and return the exit status."""
    try:
        directory = open_directory(temp_dir)
        if directory is None:
            print(f"{temp_dir}: not there, nothing to do")
            return DONE
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{temp_dir}: another clean-up is at work", file=sys.stderr)
            return BUSY
        outcome = clean(directory, min_age_minutes * 60, dry_run=dry_run)
    except RefusedError as error:
        print(f"{temp_dir}: {error}", file=sys.stderr)
        return REFUSED
    print(f"{temp_dir}: {summary(outcome, min_age_minutes, dry_run=dry_run)}")
    return FAILED if outcome.failed else DONE


def main() -> int:
    parser = argparse.ArgumentParser(description="Remove the sessions that no process uses from Ray's directory.")
    parser.add_argument("--temp-dir", required=True, help="Ray's temporary directory")
    parser.add_argument("--min-age-minutes", required=True, type=int, help="leave alone what was written to since then")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    options = parser.parse_args()
    return run(options.temp_dir, options.min_age_minutes, dry_run=options.dry_run)


if __name__ == "__main__":
    sys.exit(main())
