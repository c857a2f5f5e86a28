"""Prints, as one line of JSON, what file system each given path is or will be on, and what SMART says of the drives
under it. Sent to the host and run there as root; it changes nothing and installs nothing.

Standard library only, and nothing newer than Python 3.9: it also runs on hosts that are then refused.
"""

from __future__ import annotations

import contextlib
import functools
import grp
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

SMARTCTL_LIMIT_S = 20
# What the rules read of a report, which has thousands of lines.
SMART_PARTS = ("model_name", "smart_status", "nvme_smart_health_information_log", "ata_smart_attributes")


def nearest_existing(path: str) -> str:
    """The path itself, or the closest directory above it that exists: where it would be made."""
    candidate = Path(path)
    while not candidate.exists():
        candidate = candidate.parent
    return str(candidate)


def mount_of(path: str, mountinfo: str) -> tuple[str, str, str]:
    """Mount point, file system type and source of an existing path. ``mountinfo`` is /proc/self/mountinfo (proc(5))."""
    real, best = os.path.realpath(path), ("/", "unknown", "unknown")
    for line in mountinfo.splitlines():
        before, after = line.split(" - ", 1)
        point = before.split()[4]
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        # Of two mounts on one point the later one is on top.
        if inside and len(point) >= len(best[0]):
            fs_type, source = after.split()[:2]
            best = (point, fs_type, source)
    return best


def owner_of(path: str) -> str | None:
    """Who owns the path itself, not what a link points at; None when there is no such path."""
    try:
        uid = os.lstat(path).st_uid
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_of(path: str) -> str | None:
    """The group of the path itself; None when there is no such path."""
    try:
        gid = os.lstat(path).st_gid
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def kind_of(path: str) -> str:
    """``directory``, ``link``, ``file``, ``other``, or ``absent``."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "absent"
    for kind, is_kind in (("directory", stat.S_ISDIR), ("link", stat.S_ISLNK), ("file", stat.S_ISREG)):
        if is_kind(mode):
            return kind
    return "other"


def parent_of(path: str) -> str:
    """The directory that the path lies in, links followed: ``root`` (root alone writes there), ``shared``, ``other``
    (something else than a directory), or ``absent``."""
    try:
        status = Path(path).parent.stat()
    except FileNotFoundError:
        return "absent"
    except NotADirectoryError:
        return "other"
    if not stat.S_ISDIR(status.st_mode):
        return "other"
    return "root" if status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o022 else "shared"


def not_mounted(path: str, fstab: str, mountinfo: str) -> str | None:
    """A mount point of fstab(5) that the path is, or lies below, and that nothing is mounted on.

    The nearest one decides: above a file system that is mounted, another may be missing.
    """
    mounted = {line.split()[4] for line in mountinfo.splitlines()}
    entries = (line.split() for line in fstab.splitlines() if not line.lstrip().startswith("#"))
    points = {os.path.realpath(fields[1]): fields[1] for fields in entries if len(fields) > 1 and fields[1][0] == "/"}
    real = PurePath(os.path.realpath(path))
    for place in map(str, (real, *real.parents)):
        if place in mounted:
            return None
        if place in points:
            return points[place]
    return None


def is_ext4(path: str) -> bool:
    """A file with an ext4 file system in it: the magic number of its superblock, at byte 1024 + 0x38."""
    with contextlib.suppress(OSError), open(path, "rb") as file:  # noqa: PTH123
        file.seek(1024 + 0x38)
        return file.read(2) == b"\x53\xef"
    return False


def is_empty(path: str) -> bool:
    """A directory with nothing in it, or none; a file system's own lost+found does not count."""
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        return all(entry.name == "lost+found" for entry in entries)
    return True


def read(path: str) -> str:
    """A file's text; empty when it is not there."""
    with contextlib.suppress(OSError):
        return Path(path).read_text(errors="replace").strip()
    return ""


def ext4_errors(device: str) -> int | None:
    """Errors that the kernel has noted in an ext4 file system since its last fsck (Documentation/ABI, fs-ext4)."""
    count = read(f"/sys/fs/ext4/{device}/errors_count")
    return int(count) if count.isdigit() else None


def drives_under(device: str) -> Iterator[str]:
    """The physical drives under a block device: past partitions, LVM, MD and loop devices."""
    backing = read(f"/sys/class/block/{device}/loop/backing_file")
    if backing.startswith("/") and Path(backing).exists():
        _, _, source = mount_of(backing, Path("/proc/self/mountinfo").read_text())
        yield from drives_of(source)
        return
    here = Path(f"/sys/class/block/{device}").resolve()
    if (here / "partition").exists():
        here = here.parent
    # Parts of one: LVM, RAID, encryption
    below = sorted(each.name for each in here.glob("slaves/*"))
    for name in below:
        yield from drives_under(name)
    # No hardware behind it: zram, device-mapper without slaves
    if not below and (here / "device").exists():
        yield here.name


def drives_of(source: str) -> Iterator[str]:
    """The physical drives under a mount's source; none for network, memory and overlay file systems."""
    if source.startswith("/dev/"):
        yield from drives_under(Path(os.path.realpath(source)).name)


def output_of(command: list[str]) -> bytes:
    """What a program prints; nothing when it hangs.

    It is killed then and not waited for, as subprocess.run() would: in a drive's uninterruptible call it ends much
    later or never. Nor may it hold this program's own output open.
    """
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        return child.communicate(timeout=SMARTCTL_LIMIT_S)[0]
    except subprocess.TimeoutExpired:
        child.kill()
        return b""


@functools.cache
def smart(drive: str) -> dict[str, Any] | None:
    """What the rules need of the drive's report; None without smartctl, or where it cannot tell (a RAID controller)."""
    program = shutil.which("smartctl", path="/usr/sbin:/sbin:/usr/bin:/usr/local/sbin")
    if program is None:
        return None
    try:
        # The exit status is a set of bits that a failing drive sets, too (smartctl(8)): what was said counts.
        command = [program, "--json", "--health", "--attributes", f"/dev/{drive}"]
        report = json.loads(output_of(command))
    except (OSError, ValueError):
        return None
    found = {name: report[name] for name in SMART_PARTS if name in report} if isinstance(report, dict) else {}
    return found if found.keys() - {"model_name"} else None


def describe(path: str, mountinfo: str) -> dict[str, Any]:
    existing = nearest_existing(path)
    mount_point, fs_type, source = mount_of(existing, mountinfo)
    device = Path(os.path.realpath(source)).name if source.startswith("/dev/") else ""
    fs = os.statvfs(existing)
    kind = kind_of(path)
    return {
        "path": path,
        "kind": kind,
        "owner": owner_of(path),
        "group": group_of(path),
        "device": Path(existing).stat().st_dev,
        "mount_point": mount_point,
        "fs_type": fs_type,
        "read_only": bool(fs.f_flag & os.ST_RDONLY),
        "size_bytes": fs.f_blocks * fs.f_frsize,
        "used_bytes": (fs.f_blocks - fs.f_bfree) * fs.f_frsize,
        "free_bytes": fs.f_bavail * fs.f_frsize,
        "inodes": fs.f_files,
        "inodes_free": fs.f_favail,
        "source": source,
        "image": read(f"/sys/class/block/{device}/loop/backing_file") or None if device else None,
        "errors": ext4_errors(device) if device else None,
        "parent": parent_of(path),
        "not_mounted": not_mounted(path, read("/etc/fstab"), mountinfo),
        "is_ext4": kind != "file" or is_ext4(path),
        "empty": is_empty(path),
        "file_bytes": os.lstat(path).st_size if kind == "file" else 0,
        "drives": [{"name": name, "smart": smart(name)} for name in drives_of(source)],
    }


def main(paths: list[str]) -> None:
    mountinfo = Path("/proc/self/mountinfo").read_text()
    print(json.dumps([describe(path, mountinfo) for path in paths]))


if __name__ == "__main__":
    main(sys.argv[1:])
