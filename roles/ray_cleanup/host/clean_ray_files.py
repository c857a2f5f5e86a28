"""Ray's directory seen and changed through descriptors alone. Standard library only; runs on the host as root.

The user rayrack can replace anything below it at any time, by a link for one. So every step is taken from an open
directory to a name in it, and no step follows a link or enters another file system.
"""

import contextlib
import ctypes
import errno
import math
import os
import pwd
import re
import stat
from collections.abc import Iterator

from clean_ray_plan import KEPT_OF_LOG_BYTES, FileSystem, Part, Session
from clean_ray_uses import SESSION, RefusedError, Uses

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Never waits for the other end of a FIFO.
FILE_TO_CUT = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# What the kernel says of a name that is no (longer a) directory, or of a link or FIFO in place of a file.
NOT_THAT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
# A descriptor is held for each level that is looked at. What lies deeper is not counted, but removed all the same.
LEVELS_COUNTED = 64
# What Ray and Serve call their logs, rotated ones included: raylet.out, raylet.1.out, dashboard.log.3, debug_state.txt.
LOG = re.compile(r".*\.(log|out|err|txt)(\.\d+)?(\.gz)?")
# Where a node spills objects unless told otherwise (ray/_private/external_storage.py).
SPILL = re.compile(r"ray_spilled_objects_([0-9a-f]+)")
FALLOC_FL_COLLAPSE_RANGE = 0x08  # linux/falloc.h


class ChangedError(Exception):
    """Something is no longer what it was when it was looked at: it is left to the next run."""


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


# --- what there is ----------------------------------------------------------------------------------------------


def file_system(directory: int) -> FileSystem:
    fs = os.fstatvfs(directory)
    return FileSystem(fs.f_blocks * fs.f_frsize, fs.f_bavail * fs.f_frsize, fs.f_files, fs.f_favail)


def sessions(directory: int, uses: Uses, now: float) -> list[Session]:
    """The sessions in Ray's directory. A link such as ``session_latest`` is none."""
    names = [entry.name for entry in _entries(directory) if _is_directory(entry)]
    return [_session(directory, name, uses, now) for name in names if SESSION.fullmatch(os.fsencode(name))]


def _session(directory: int, name: str, uses: Uses, now: float) -> Session:
    used_by = uses.of_session(name)
    if used_by is None:
        whole = _measured(directory, name, "", None, now)
        return Session(name, None, whole.bytes, whole.age_s)
    with opened(directory, name) as session:
        if session is None:
            return Session(name, used_by)
        logs = tuple(
            Part(path, state.st_blocks * 512, abs(now - state.st_mtime), uses.of_file(f"{name}/{path}"))
            for path, state in walk(session, "logs", "logs")
            if stat.S_ISREG(state.st_mode) and LOG.fullmatch(path)
        )
        below = [entry.name for entry in _entries(session) if _is_directory(entry)]
        spills = tuple(
            _measured(session, spill[0], spill[0], user_of_spill(name, spill, uses), now)
            for spill in map(SPILL.fullmatch, below)
            if spill
        )
    return Session(name, used_by, logs=logs, spills=spills)


def user_of_spill(session: str, spill: re.Match[str], uses: Uses) -> str | None:
    """Who uses a directory of spilled objects: its node, while one of the node's processes lives."""
    return uses.nodes.get(spill[1]) or uses.below(f"{session}/{spill[0]}")


def _measured(parent: int, name: str, path: str, used_by: str | None, now: float) -> Part:
    """A directory with the bytes on the disk and the youngest age of all below it.

    A time in the future, of before a clock was set right, is as far from now as one in the past.
    """
    total, age_s = 0, math.inf
    for _, state in walk(parent, name, name):
        total += state.st_blocks * 512
        age_s = min(age_s, abs(now - state.st_mtime))
    # Gone meanwhile, or replaced by a link: as if just written to.
    return Part(path, total, 0 if age_s == math.inf else age_s, used_by)


def walk(parent: int, name: str, path: str, levels: int = LEVELS_COUNTED) -> Iterator[tuple[str, os.stat_result]]:
    """A directory and everything below it, with ``path`` put before the names."""
    with opened(parent, name) as here:
        if here is None:
            return
        yield path, os.fstat(here)
        for entry in _entries(here):
            if _is_directory(entry) and levels > 1:
                yield from walk(here, entry.name, f"{path}/{entry.name}", levels - 1)
            else:
                with contextlib.suppress(FileNotFoundError):
                    yield f"{path}/{entry.name}", entry.stat(follow_symlinks=False)


@contextlib.contextmanager
def opened(parent: int, name: str) -> Iterator[int | None]:
    """A directory in ``parent``; None when that is none, not there, or the root of another file system."""
    here = None
    try:
        here = os.open(name, DIRECTORY, dir_fd=parent)
    except OSError as error:
        if error.errno not in NOT_THAT:
            raise
    try:
        yield here if here is not None and os.fstat(here).st_dev == os.fstat(parent).st_dev else None
    finally:
        if here is not None:
            os.close(here)


def _entries(directory: int) -> list[os.DirEntry[str]]:
    with os.scandir(directory) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _is_directory(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


# --- what is done to it -----------------------------------------------------------------------------------------


def remove_tree(directory: int, path: str) -> None:
    """Remove a directory and everything below it, however deep, with a handful of descriptors.

    Directories are moved up until none has another in it. What cannot be removed stays, the rest goes.

    Raises:
        ChangedError: there is no such directory.
        OSError: something is left; the first reason.
    """
    problems: list[OSError] = []
    with _parent_of(directory, path) as (parent, name):
        with opened(parent, name) as top:
            if top is None:
                raise ChangedError(f"{path} is no longer a directory")
            waiting = _empty(top, top, problems)
            while waiting:
                below = waiting.pop()
                with opened(top, below) as here:
                    if here is not None:
                        waiting += _empty(here, top, problems)
                with _noted(problems):
                    os.rmdir(below, dir_fd=top)
        with _noted(problems):
            os.rmdir(name, dir_fd=parent)
    if problems:
        raise problems[0]


def _empty(here: int, top: int, problems: list[OSError]) -> list[str]:
    """Remove what is in a directory and move its directories up to ``top``; their names there."""
    directories = []
    for entry in _entries(here):
        with _noted(problems):
            if not _is_directory(entry):
                os.unlink(entry.name, dir_fd=here)
            elif here == top:
                directories.append(entry.name)
            else:
                fresh = f".removed-{os.urandom(8).hex()}"
                os.rename(entry.name, fresh, src_dir_fd=here, dst_dir_fd=top)
                directories.append(fresh)
    return directories


@contextlib.contextmanager
def _noted(problems: list[OSError]) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        pass
    except OSError as error:
        problems.append(error)


def remove_log(directory: int, path: str) -> None:
    """Remove a regular file.

    Raises:
        ChangedError: it is something else by now, or gone.
    """
    with _parent_of(directory, path) as (parent, name):
        try:
            state = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            raise ChangedError(f"{path} is gone") from None
        if not stat.S_ISREG(state.st_mode):
            raise ChangedError(f"{path} is no longer a file")
        os.unlink(name, dir_fd=parent)


def cut_log(directory: int, path: str) -> None:
    """Give back what a log in use takes, all but its end where the file system can do that (ext4, XFS), else all.

    A process that does not append goes on writing where it was, after a hole that takes no room.

    Raises:
        ChangedError: it is something else by now, or has another name, too, and so may not be Ray's.
    """
    with _parent_of(directory, path) as (parent, name):
        try:
            file = os.open(name, FILE_TO_CUT, dir_fd=parent)
        except OSError as error:
            if error.errno not in NOT_THAT:
                raise
            raise ChangedError(f"{path} is no longer a file") from None
        try:
            state = os.fstat(file)
            if not stat.S_ISREG(state.st_mode) or state.st_nlink != 1 or state.st_dev != os.fstat(parent).st_dev:
                raise ChangedError(f"{path} is no longer a file with one name")
            if not _collapse(file, state):
                os.ftruncate(file, 0)
        finally:
            os.close(file)


def _collapse(file: int, state: os.stat_result) -> bool:
    """Take whole blocks out of a file's beginning (fallocate(2)); False where that cannot be done."""
    blocks = (state.st_size - KEPT_OF_LOG_BYTES) // state.st_blksize
    length = ctypes.c_int64(blocks * state.st_blksize)
    libc = ctypes.CDLL(None, use_errno=True)
    return length.value > 0 and libc.fallocate64(file, FALLOC_FL_COLLAPSE_RANGE, ctypes.c_int64(0), length) == 0


@contextlib.contextmanager
def _parent_of(directory: int, path: str) -> Iterator[tuple[int, str]]:
    """The directory that holds the last name of a path below ``directory``, and that name."""
    *parents, name = path.split("/")
    with contextlib.ExitStack() as stack:
        here = directory
        for parent in parents:
            below = stack.enter_context(opened(here, parent))
            if below is None:
                raise ChangedError(f"{path} is no longer there")
            here = below
        yield here, name
