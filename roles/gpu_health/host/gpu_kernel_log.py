"""Xid errors in the kernel's log, of this boot only. Standard library only.

How a line looks: https://docs.nvidia.com/deploy/xid-errors/ ("Viewing Xid Error Messages").
"""

import contextlib
import errno
import os
import re
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]{7,})\): (\d{1,4})\b,? ?(.*)")
RECORD_MAX_BYTES = 16_384
JOURNAL_LIMIT_S = 20
MAX_TEXT = 200
# A GPU that is broken can fill a log: of each GPU's Xid the number of times, the first and the last line are kept.
Xids = list[dict[str, Any]]


def add(found: dict[tuple[str, int, bool], dict[str, Any]], line: str, when: str | None) -> None:
    """Count the Xid in this line of the log, if there is one."""
    match = XID.search(line)
    if match is None:
        return
    address, number, said = match.groups()
    text = "".join(letter if letter.isprintable() else " " for letter in said)[:MAX_TEXT]
    new = {"pci_address": address.lower(), "xid": int(number), "count": 0, "first": when, "text": text}
    entry = found.setdefault(kind(new), new)
    entry.update(count=entry["count"] + 1, last=when, text=text)


def kind(entry: dict[str, Any]) -> tuple[str, int, bool]:
    """What is counted as one. Of NVLink's Xids some are fatal and some are not: one kind must not hide the other."""
    return entry["pci_address"], entry["xid"], " Fatal" in entry["text"]


def of_kmsg(text: str, booted_at: float) -> tuple[Xids, bool]:
    """Xids in the records of /dev/kmsg, and whether none of this boot's records is missing.

    A record is ``priority,sequence,microseconds since boot,flags;text`` (Documentation/ABI/testing/dev-kmsg); sequence
    numbers begin with 0 at boot, so a log that begins later has lost its oldest records.
    """
    found: dict[tuple[str, int, bool], dict[str, Any]] = {}
    first_sequence = None
    for line in text.splitlines():
        head, separator, said = line.partition(";")
        fields = head.split(",")
        if line.startswith(" ") or not separator or len(fields) < 3 or not (fields[1] + fields[2]).isdigit():
            continue
        if first_sequence is None:
            first_sequence = int(fields[1])
        add(found, said, iso(booted_at + int(fields[2]) / 1e6))
    return list(found.values()), first_sequence == 0


def of_journal(text: str) -> Xids:
    """Xids in what ``journalctl -o short-iso`` printed."""
    found: dict[tuple[str, int, bool], dict[str, Any]] = {}
    for line in text.splitlines():
        when = line.partition(" ")[0]
        add(found, line, when if when[:4].isdigit() else None)
    return list(found.values())


def read(root: Path) -> dict[str, Any]:
    """``xids`` since boot, and ``failure``: why they are not known, or not all of them."""
    try:
        records = read_kmsg(root / "dev/kmsg")
    except OSError as error:
        records, failure = "", f"/dev/kmsg: {error.strerror}"
    else:
        failure = "the oldest messages of this boot are no longer in /dev/kmsg"
    xids, complete = of_kmsg(records, time.time() - time.monotonic())
    if complete:
        return {"xids": xids, "failure": None}
    journal = read_journal() if root == Path("/") else None
    if journal is None:
        return {"xids": xids, "failure": failure}
    from_journal = of_journal(journal)
    known = {kind(entry) for entry in from_journal}
    missing = [entry for entry in xids if kind(entry) not in known]
    return {"xids": from_journal + missing, "failure": None}


def read_kmsg(path: Path) -> str:
    """Every record there is now. One read gives one record; a file, as in a test, comes in pieces.

    Raises:
        OSError: when it cannot be opened.
    """
    parts = []
    log = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while True:
            try:
                part = os.read(log, RECORD_MAX_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.EPIPE:  # overwritten while one reads: go on with the next
                    continue
                raise
            if not part:
                break
            parts.append(part)
    finally:
        os.close(log)
    return b"".join(parts).decode(errors="replace")


def read_journal() -> str | None:
    """This boot's lines about Xids; None when there is no journal of this boot to ask."""
    command = ["journalctl", "-k", "-b", "0", "-q", "--no-pager", "-o", "short-iso", "-g", "NVRM: Xid"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=JOURNAL_LIMIT_S, check=False
        )
        # 1: nothing matched, which it also says when there are no entries at all; anything on stderr is a failure.
        if result.returncode in (0, 1) and not result.stderr.strip():
            return result.stdout.decode(errors="replace")
    return None


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
