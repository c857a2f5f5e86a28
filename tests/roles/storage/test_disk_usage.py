"""The program that looks at a host's disks, run as the fact runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from roles.storage import facts
from roles.storage.host import disk_usage
from roles.storage.rules import Disk

MOUNTINFO = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 8:17 / /var/lib rw - xfs /dev/sdb1 rw
31 30 0:40 / /var/lib/rayrack rw master:2 - nfs4 nas:/rack rw
32 22 0:50 / /var/libx rw - tmpfs tmpfs rw
33 32 0:51 / /var/libx rw - btrfs /dev/sdc rw
"""


@pytest.fixture(autouse=True)
def _this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's distribution may have no Python of its own."""
    monkeypatch.setattr(facts, "PYTHON", sys.executable)


def look(*paths: object) -> tuple[Disk, ...]:
    command = facts.command([str(path) for path in paths])
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20, check=True)
    return facts.parse(result.stdout)


def test_sizes_are_those_of_the_file_system(tmp_path: Path) -> None:
    (disk,) = look(tmp_path)
    fs = os.statvfs(tmp_path)
    assert disk.size_bytes == fs.f_blocks * fs.f_frsize
    assert disk.inodes == fs.f_files
    assert not disk.read_only
    assert disk.device == tmp_path.stat().st_dev


def test_a_path_that_does_not_exist_yet_is_judged_by_what_it_would_be_made_in(tmp_path: Path) -> None:
    (disk,) = look(tmp_path / "a" / "b")
    assert (disk.path, disk.kind, disk.owner) == (str(tmp_path / "a/b"), "absent", None)
    assert disk.device == tmp_path.stat().st_dev


def test_a_link_is_told_from_the_directory_it_points_at(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").touch()
    assert [disk.kind for disk in look(tmp_path, tmp_path / "link", tmp_path / "file")] == [
        "directory",
        "link",
        "other",
    ]


def test_several_paths_are_answered_in_order_and_on_one_line(tmp_path: Path) -> None:
    assert [disk.path for disk in look("/", "/proc", tmp_path)] == ["/", "/proc", str(tmp_path)]


def test_proc_is_found_as_a_mount_of_its_own() -> None:
    (disk,) = look("/proc/self")
    assert (disk.mount_point, disk.fs_type) == ("/proc", "proc")


def test_the_closest_mount_counts_and_the_one_on_top() -> None:
    found = [
        disk_usage.mount_of(path, MOUNTINFO) for path in ("/srv", "/var/lib", "/var/lib/rayrack/models", "/var/libx/y")
    ]
    assert found == [("/", "ext4"), ("/var/lib", "xfs"), ("/var/lib/rayrack", "nfs4"), ("/var/libx", "btrfs")]
