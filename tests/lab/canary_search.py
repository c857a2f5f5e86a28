"""Looks for secrets that a test has planted, in every shape they may have been copied in.

    canary_search.py search < question.json    files, the journal, and what processes show, as JSON
    canary_search.py watch < question.json     all command lines, again and again, until standard input ends

The question is ``{"canaries": {NAME: SECRET}, "roots": [...], "skip": [...], "since": SECONDS}``: on standard input,
since what a command line or a file holds would be found. Files that were last changed before ``since`` are passed over.
Runs on a host: standard library only.
"""

import base64
import json
import os
import re
import select
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

CHUNK = 4 * 2**20
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
        self.longest = max(len(form) for each in self.forms.values() for form in each)

    def found_in(self, data: bytes) -> list[str]:
        return [name for name, each in self.forms.items() if any(form in data for form in each)]


def files(canaries: Canaries, roots: Iterable[str], skip: Iterable[str], since: float) -> Iterator[Hit]:
    skipped = {*map(Path, skip), Path("/proc"), Path("/sys")}
    for root in roots:
        for directory, names, entries in os.walk(root):
            here = Path(directory)
            names[:] = [name for name in names if here / name not in skipped]
            for entry in entries:
                if here / entry not in skipped:
                    yield from _file(canaries, here / entry, since)


def _file(canaries: Canaries, path: Path, since: float) -> Iterator[Hit]:
    try:
        state = path.lstat()
        if not stat.S_ISREG(state.st_mode) or state.st_ctime < since:
            return
        names: set[str] = set()
        with path.open("rb") as file:
            tail = b""
            while chunk := file.read(CHUNK):
                names.update(canaries.found_in(tail + chunk))
                tail = chunk[-canaries.longest :]
    except OSError:  # gone, or nobody's to read
        return
    mode = f"{stat.S_IMODE(state.st_mode):o} {state.st_uid}:{state.st_gid}"
    yield from ({"canary": name, "kind": "file", "where": str(path), "how": mode} for name in sorted(names))


def processes(canaries: Canaries, parts: Iterable[str] = ("cmdline", "environ")) -> Iterator[Hit]:
    for pid in (each.name for each in Path("/proc").iterdir() if each.name.isdigit()):
        if int(pid) == os.getpid():
            continue
        for part in parts:
            data = _read(pid, part)
            for name in canaries.found_in(data):
                shown = _read(pid, "cmdline").replace(b"\0", b" ")[:100].decode(errors="replace")
                secrets = re.search(rb"(?:^|\0)RAYRACK_SECRETS=([^\0]*)", data)
                how = f"secrets {secrets[1].decode(errors='replace')}" if secrets else ""
                yield {"canary": name, "kind": part, "where": shown if part == "environ" else _unit(pid), "how": how}


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
