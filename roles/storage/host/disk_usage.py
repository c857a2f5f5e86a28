"""Prints, as one line of JSON, what file system each given path is or will be on. Sent to the host and run there.

Standard library only, and nothing newer than Python 3.9: it also runs on hosts that are then refused.
"""

from __future__ import annotations

import json
import os
import pwd
import stat
import sys
from pathlib import Path
from typing import Any


def nearest_existing(path: str) -> str:
    """The path itself, or the closest directory above it that exists: where it would be made."""
    candidate = Path(path)
    while not candidate.exists():
        candidate = candidate.parent
    return str(candidate)


def mount_of(path: str, mountinfo: str) -> tuple[str, str]:
    """Mount point and file system type of an existing path. ``mountinfo`` is /proc/self/mountinfo (proc(5))."""
    real, best = os.path.realpath(path), ("/", "unknown")
    for line in mountinfo.splitlines():
        before, after = line.split(" - ", 1)
        point = before.split()[4]
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        # Of two mounts on one point the later one is on top.
        if inside and len(point) >= len(best[0]):
            best = (point, after.split()[0])
    return best


def owner_of(path: str) -> str | None:
    """Who owns the path itself, not what a link points at; None when there is no such path."""
    try:
        uid = os.lstat(path).st_uid
    except FileNotFoundError:
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def kind_of(path: str) -> str:
    """``directory``, ``link``, ``other``, or ``absent``."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return "absent"
    return "directory" if stat.S_ISDIR(mode) else "link" if stat.S_ISLNK(mode) else "other"


def describe(path: str, mountinfo: str) -> dict[str, Any]:
    existing = nearest_existing(path)
    mount_point, fs_type = mount_of(existing, mountinfo)
    fs = os.statvfs(existing)
    return {
        "path": path,
        "kind": kind_of(path),
        "owner": owner_of(path),
        "device": Path(existing).stat().st_dev,
        "mount_point": mount_point,
        "fs_type": fs_type,
        "read_only": bool(fs.f_flag & os.ST_RDONLY),
        "size_bytes": fs.f_blocks * fs.f_frsize,
        "used_bytes": (fs.f_blocks - fs.f_bfree) * fs.f_frsize,
        "free_bytes": fs.f_bavail * fs.f_frsize,
        "inodes": fs.f_files,
        "inodes_free": fs.f_favail,
    }


def main(paths: list[str]) -> None:
    mountinfo = Path("/proc/self/mountinfo").read_text()
    print(json.dumps([describe(path, mountinfo) for path in paths]))


if __name__ == "__main__":
    main(sys.argv[1:])
