"""What the running processes refer to below Ray's temporary directory. Standard library only; runs on the host.

In use is what a process names in its command line or holds open: a file, a mapped library, its working directory, a
socket, a mount. Names, not inodes, are compared: what is asked of /proc here never waits for a file system that hangs.
"""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# As Ray names a session: date, time, microseconds, pid of `ray start` (ray/_private/node.py). Nothing else is touched.
SESSION = re.compile(rb"session_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_\d{6}_\d+")
# How processes of a node name it: --node_id= (raylet), --node-id= (GCS, agents); ray/_private/services.py.
NODE_ID = re.compile(rb"--node[-_]id=([0-9a-f]+)")
# What the kernel appends to the name of an open file that was deleted (proc(5)).
DELETED = b" (deleted)"
# The first process runs the host and uses no session; a container may hide it even from root.
INIT = "1"
GONE = (errno.ENOENT, errno.ESRCH, errno.EINVAL)  # EINVAL: the mounts of a process that has ended (zombie)


class RefusedError(Exception):
    """Nothing may be removed, and why."""


@dataclass(frozen=True)
class Uses:
    """Who uses what, as ``raylet (pid 4711)``; paths begin with the session's name."""

    sessions: dict[str, str]
    held: dict[str, str]
    """By path: what is open, mapped, bound or somebody's working directory."""
    named: dict[str, str]
    """By text: what command lines say, from a session's name to the end of the argument."""
    nodes: dict[str, str]
    """By id: Ray's nodes that are named in a command line."""

    def of_session(self, name: str) -> str | None:
        return self.sessions.get(name)

    def of_file(self, path: str) -> str | None:
        """Who holds or names a file. One whose name only begins like a named one counts, too."""
        return self.held.get(path) or next((who for text, who in self.named.items() if text.startswith(path)), None)

    def below(self, path: str) -> str | None:
        """Who holds or names a directory, or something in it."""
        inside = (who for name, who in self.held.items() if name == path or name.startswith(path + "/"))
        return next(inside, None) or self.of_file(path)


def look(proc: Path = Path("/proc")) -> Uses:
    """Look at every process.

    Raises:
        RefusedError: when a process may not be looked at, since it might use any session.
    """
    found = Uses({}, {}, {}, {})
    namespaces: set[bytes] = set()
    for process in proc.iterdir():
        if process.name.isdigit() and process.name != INIT:
            try:
                _look_at(process, found, namespaces)
            except PermissionError as error:
                raise RefusedError(
                    f"cannot see what process {process.name} holds open ({error.filename}); run as root"
                ) from None
    return found


def _look_at(process: Path, found: Uses, namespaces: set[bytes]) -> None:
    who = f"{os.fsdecode(_file(process / 'comm').strip())} (pid {process.name})"
    command_line = _file(process / "cmdline")
    for node in NODE_ID.findall(command_line):
        found.nodes.setdefault(node.decode(), who)
    _note(found.named, found.sessions, command_line.split(b"\0"), who)
    held = [_link(process / name) for name in ("cwd", "root", "exe")]
    held += (_link(descriptor) for descriptor in _descriptors(process))
    held += _file(process / "maps").splitlines()
    # Of sockets and mounts the tables know, one for each namespace; a mount's source names a session, too.
    for namespace, table in (("net", "net/unix"), ("mnt", "mountinfo")):
        here = _link(process / "ns" / namespace)
        if here not in namespaces:
            held += _file(process / table).split()
            namespaces.add(here)
    _note(found.held, found.sessions, held, who)


def _note(texts: dict[str, str], sessions: dict[str, str], seen: list[bytes], who: str) -> None:
    for text in seen:
        for match in SESSION.finditer(text):
            sessions.setdefault(os.fsdecode(match.group()), who)
            path = text[match.start() :]
            texts.setdefault(os.fsdecode(path), who)
            texts.setdefault(os.fsdecode(path.removesuffix(DELETED)), who)


def _file(path: Path) -> bytes:
    """A file of /proc; processes end while they are looked at."""
    with _may_be_gone():
        return path.read_bytes()
    return b""


def _link(path: Path) -> bytes:
    with _may_be_gone():
        return os.fsencode(path.readlink())
    return b""


def _descriptors(process: Path) -> Iterator[Path]:
    with _may_be_gone():
        yield from (process / "fd").iterdir()


@contextlib.contextmanager
def _may_be_gone() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in GONE:
            raise
