"""Looks for secrets that a test has planted, in every shape they may have been copied in.

    canary_search.py search < question.json    files, the journal, and what processes show, as JSON
    canary_search.py watch < question.json     all command lines, again and again, until standard input ends

The question is ``{"canaries": {NAME: SECRET}, "roots": [...], "skip": [...], "since": SECONDS}``: on standard input,
since what a command line or a file holds would be found. Files that were last changed before ``since`` are passed over.
Runs on a host: standard library only.
"""

import base64
import contextlib
import grp
import json
import os
import pwd
import re
import select
import stat
import subprocess
import sys
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

FILES_AT_ONCE = 500
WATCH_EVERY_S = 0.05
# Of a secret; long enough that nothing else has it.
PIECE = 24
Hit = dict[str, str]


def forms(secret: str) -> set[bytes]:
    """Every shape of every piece of the secret. Pieces, as a copy may be cut off, or broken into lines."""
    starts = range(0, max(1, len(secret) - PIECE + 1), PIECE // 2)
    pieces = {secret[start : start + PIECE] for start in starts} | {secret[-PIECE:]}
    return set().union(*map(_shapes, pieces))


def _shapes(secret: str) -> set[bytes]:
    """A text as it is, URL-encoded, in hexadecimal, and in base64 wherever it begins in what was encoded."""
    raw = secret.encode()
    found = {raw, quote(secret, safe="").encode(), quote(secret).encode(), quote_plus(secret).encode()}
    found |= {raw.hex().encode(), raw.hex().upper().encode(), json.dumps(secret)[1:-1].encode()}
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw)
        # Characters that what stands before and after has no part in.
        own = encoded[(0, 2, 3)[before] : (before + len(raw)) * 8 // 6]
        found |= {own, own.translate(bytes.maketrans(b"+/", b"-_"))}
    return found


class Canaries:
    """The secrets to look for, by name."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self.forms = {name: forms(secret) for name, secret in secrets.items()}
        self.all_forms = sorted(set().union(*self.forms.values()))

    def found_in(self, data: bytes) -> list[str]:
        return [name for name, each in self.forms.items() if any(form in data for form in each)]


def files(canaries: Canaries, roots: Iterable[str], skip: Iterable[str], since: float) -> Iterator[Hit]:
    with os.fdopen(os.memfd_create("canaries"), "wb") as patterns:
        patterns.write(b"\n".join(canaries.all_forms) + b"\n")
        patterns.flush()
        # A thousand times faster than looking for one after the other.
        grep: list[str | Path] = ["grep", "-alsF", "-f", f"/proc/self/fd/{patterns.fileno()}", "--"]
        paths = list(_files(roots, {*map(Path, skip), Path("/proc"), Path("/sys")}, since))
        for start in range(0, len(paths), FILES_AT_ONCE):
            command = [*grep, *paths[start : start + FILES_AT_ONCE]]
            run = subprocess.run(command, pass_fds=[patterns.fileno()], capture_output=True, check=False)
            for path in map(Path, map(os.fsdecode, run.stdout.splitlines())):
                yield from _file(canaries, path)


def _files(roots: Iterable[str], skip: Container[Path], since: float) -> Iterator[Path]:
    """The regular files below ``roots`` that have changed since then."""
    for root in roots:
        for directory, names, entries in os.walk(root):
            here = Path(directory)
            names[:] = [name for name in names if here / name not in skip]
            for path in (here / entry for entry in entries):
                with contextlib.suppress(OSError):  # gone
                    state = path.lstat()
                    if path not in skip and stat.S_ISREG(state.st_mode) and state.st_ctime >= since:
                        yield path


def _file(canaries: Canaries, path: Path) -> Iterator[Hit]:
    try:
        state, names = path.lstat(), canaries.found_in(path.read_bytes())
    except OSError:  # gone
        return
    mode = f"{stat.S_IMODE(state.st_mode):o} {_owner(state)}"
    yield from ({"canary": name, "kind": "file", "where": str(path), "how": mode} for name in names)


def _owner(state: os.stat_result) -> str:
    try:
        return f"{pwd.getpwuid(state.st_uid).pw_name}:{grp.getgrgid(state.st_gid).gr_name}"
    except KeyError:
        return f"{state.st_uid}:{state.st_gid}"


def processes(canaries: Canaries, parts: Iterable[str] = ("cmdline", "environ")) -> Iterator[Hit]:
    pids = [each.name for each in Path("/proc").iterdir() if each.name.isdigit() and each.name != str(os.getpid())]
    for part in parts:
        shown = {pid: _read(pid, part) for pid in pids}
        if not canaries.found_in(b"\n".join(shown.values())):
            continue
        for pid, data in shown.items():
            for name in canaries.found_in(data):
                command = _read(pid, "cmdline").replace(b"\0", b" ")[:100].decode(errors="replace")
                secrets = re.search(rb"(?:^|\0)RAYRACK_SECRETS=([^\0]*)", data)
                how = f"secrets {secrets[1].decode(errors='replace')}" if secrets else ""
                yield {"canary": name, "kind": part, "where": command if part == "environ" else _unit(pid), "how": how}


def _read(pid: str, part: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{part}").read_bytes()
    except OSError:
        return b""


def _unit(pid: str) -> str:
    units = re.findall(rb"/([^/\n]+\.(?:service|scope))", _read(pid, "cgroup"))
    return units[-1].decode() if units else "no unit"


def journal(canaries: Canaries) -> Iterator[Hit]:
    """Entries of the journal, whole: journald packs long ones, so its files tell nothing."""
    run = subprocess.run(["journalctl", "-o", "export", "--all", "--no-pager"], capture_output=True, check=False)
    for entry in run.stdout.split(b"\n\n"):
        for name in canaries.found_in(entry):
            unit = re.search(rb"^(?:_SYSTEMD_UNIT|UNIT|SYSLOG_IDENTIFIER)=(.*)$", entry, re.MULTILINE)
            yield {"canary": name, "kind": "journal", "where": unit[1].decode() if unit else "?", "how": ""}


def search(question: Mapping[str, Any]) -> list[Hit]:
    canaries = Canaries(question["canaries"])
    found = [
        *files(canaries, question["roots"], question["skip"], question["since"]),
        *processes(canaries),
        *(journal(canaries) if question.get("journal", True) else ()),
    ]
    return _unique(found)


def watch(question: Mapping[str, Any]) -> list[Hit]:
    """Until standard input ends: what command lines have shown meanwhile."""
    canaries = Canaries(question["canaries"])
    found: list[Hit] = []
    while not select.select([sys.stdin], [], [], WATCH_EVERY_S)[0]:
        found = _unique([*found, *processes(canaries, ["cmdline"])])
    return found


def _unique(hits: Iterable[Hit]) -> list[Hit]:
    return list({tuple(hit.values()): hit for hit in hits}.values())


if __name__ == "__main__":
    asked = json.loads(sys.stdin.readline())
    os.nice(5)
    print(json.dumps(search(asked) if sys.argv[1] == "search" else watch(asked)))
