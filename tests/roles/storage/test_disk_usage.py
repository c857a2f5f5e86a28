"""The program that looks at a host's disks, run as the fact runs it."""

import os
import subprocess
import sys
import time
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
        "file",
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
    assert found == [
        ("/", "ext4", "/dev/sda1"),
        ("/var/lib", "xfs", "/dev/sdb1"),
        ("/var/lib/rayrack", "nfs4", "nas:/rack"),
        ("/var/libx", "btrfs", "/dev/sdc"),
    ]


def test_an_empty_directory_is_told_from_one_with_files_and_lost_and_found_does_not_count(tmp_path: Path) -> None:
    for name, holds in {"a": None, "b": "lost+found", "c": "session_1"}.items():
        (tmp_path / name).mkdir()
        if holds:
            (tmp_path / name / holds).mkdir()
    found = look(tmp_path / "a", tmp_path / "b", tmp_path / "c", tmp_path / "absent")
    assert [disk.empty for disk in found] == [True, True, False, True]


def test_a_file_is_described_with_its_size(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(bytes(5000))
    (disk,) = look(tmp_path / "image")
    assert (disk.kind, disk.file_bytes) == ("file", 5000)


def test_the_directory_that_a_path_lies_in_is_described(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(2048))
    for name, mode in {"own": 0o755, "open": 0o777}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    found = look(*(tmp_path / name / "x" for name in ("own", "open", "file", "gone")))
    assert [disk.parent for disk in found] == ["root", "shared", "other", "absent"]
    assert {disk.kind for disk in found} == {"absent"}


def test_a_file_without_an_ext4_file_system_is_told_from_one_with(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(bytes(2048))
    (tmp_path / "image").write_bytes(bytes(1024 + 0x38) + b"\x53\xef" + bytes(100))
    assert [disk.is_ext4 for disk in look(tmp_path / "other", tmp_path / "image")] == [False, True]


def test_a_mount_point_of_fstab_that_is_not_mounted_is_found_above_a_path() -> None:
    fstab = "# <file system> <mount point>\nUUID=1 / ext4\n/dev/sdd /data xfs\nnas:/rack /var/lib/rayrack nfs4\n\n"
    paths = ("/data", "/data/ray", "/database", "/var/lib/rayrack/models")
    assert [disk_usage.not_mounted(path, fstab, MOUNTINFO) for path in paths] == ["/data", "/data", None, None]


def test_a_mount_point_of_fstab_may_be_spelled_otherwise_and_lie_above_one_that_is_mounted(tmp_path: Path) -> None:
    real = tmp_path / "big"
    (real / "models").mkdir(parents=True)
    (tmp_path / "link").symlink_to(real)
    mountinfo = f"36 25 8:1 / {real} rw - ext4 /dev/sdb rw\n37 25 8:2 / {real}/models/disk rw - ext4 /dev/sdc rw\n"
    for fstab in (f"/dev/sdb {real}/ xfs\n", f"/dev/sdb {tmp_path}/link xfs\n", f"/dev/sdx {real}/models xfs nofail\n"):
        path = f"{real}/models/disk/a" if "models" in fstab else f"{tmp_path}/link/a"
        assert disk_usage.not_mounted(path, fstab, mountinfo) is None
    assert disk_usage.not_mounted(f"{real}/models/a", f"/dev/sdx {real}/models xfs\n", mountinfo) == f"{real}/models"


def block_device(
    sysfs: Path, name: str, *, parent: str = "", slaves: tuple[str, ...] = (), drive: bool = False
) -> None:
    """A block device as /sys/class/block shows it."""
    here = sysfs / "devices" / parent / name
    here.mkdir(parents=True)
    if parent:
        (here / "partition").write_text("1")
    if drive:
        (here / "device").mkdir()
    for slave in slaves:
        (here / "slaves" / slave).mkdir(parents=True)
    (sysfs / "class").mkdir(exist_ok=True)
    (sysfs / "class" / name).symlink_to(here)


def test_drives_are_found_below_partitions_raid_and_lvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block_device(tmp_path, "sda", drive=True)
    block_device(tmp_path, "sdb", drive=True)
    block_device(tmp_path, "sda1", parent="sda")
    block_device(tmp_path, "sdb1", parent="sdb")
    block_device(tmp_path, "md0", slaves=("sda1", "sdb1"))
    block_device(tmp_path, "dm-0", slaves=("md0",))
    block_device(tmp_path, "zram0")
    real = disk_usage.Path
    monkeypatch.setattr(
        disk_usage, "Path", lambda text: real(str(text).replace("/sys/class/block", f"{tmp_path}/class"))
    )
    assert {name: list(disk_usage.drives_under(name)) for name in ("sda1", "dm-0", "zram0")} == {
        "sda1": ["sda"],
        "dm-0": ["sda", "sdb"],
        "zram0": [],
    }


@pytest.mark.parametrize("source", ["tmpfs", "nas:/rack", "overlay"])
def test_what_is_not_on_a_block_device_has_no_drives(source: str) -> None:
    assert list(disk_usage.drives_of(source)) == []


@pytest.fixture
def smartctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A smartctl of the test's own: a shell script to be written."""
    program = tmp_path / "smartctl"
    program.touch(mode=0o755)
    monkeypatch.setattr(disk_usage.shutil, "which", lambda *_, **__: str(program))
    disk_usage.smart.cache_clear()
    return program


def test_a_failing_drive_is_read_though_smartctl_exits_with_an_error(smartctl: Path) -> None:
    smartctl.write_text(
        """#!/bin/sh
[ "$*" = "--json --health --attributes /dev/sda" ] || exit 1
echo '{"smartctl": {"exit_status": 8}, "model_name": "M", "smart_status": {"passed": false}, "other": 1}'; exit 8
"""
    )
    assert disk_usage.smart("sda") == {"model_name": "M", "smart_status": {"passed": False}}


@pytest.mark.parametrize(
    "script",
    [
        "exit 127",
        "echo nonsense",
        "echo '[]'",
        """echo '{"model_name": "M", "smartctl": {"exit_status": 2}}'; exit 2""",
    ],
)
def test_a_drive_that_smartctl_cannot_read_is_unknown(smartctl: Path, script: str) -> None:
    smartctl.write_text(f"#!/bin/sh\n{script}\n")
    assert disk_usage.smart("sda") is None


def test_a_smartctl_that_hangs_is_given_up(smartctl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_usage, "SMARTCTL_LIMIT_S", 0.2)
    smartctl.write_text("#!/bin/sh\nexec sleep 20\n")
    assert disk_usage.smart("sda") is None


def test_without_smartctl_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    disk_usage.smart.cache_clear()
    monkeypatch.setattr(disk_usage.shutil, "which", lambda *_, **__: None)
    assert disk_usage.smart("sda") is None


def test_a_drive_that_hangs_smartctl_is_not_waited_for(smartctl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in an uninterruptible call outlives its kill; here it is not killed at all."""
    smartctl.write_text("#!/bin/sh\nexec sleep 5\n")
    monkeypatch.setattr(disk_usage, "SMARTCTL_LIMIT_S", 0.2)
    monkeypatch.setattr(disk_usage.subprocess.Popen, "kill", lambda _: None)
    began = time.monotonic()
    assert disk_usage.smart("sdz") is None
    assert time.monotonic() - began < 4


def test_a_look_that_hangs_is_ended_with_a_line_that_says_what_to_look_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "LOOK_LIMIT_S", 1)
    result = subprocess.run(
        ["sh", "-c", facts.bounded("sleep 60") + " && echo more"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("a disk or a mount does not answer within 1 s: look for a network mount")


def test_another_failure_of_a_look_keeps_its_own_words() -> None:
    result = subprocess.run(["sh", "-c", facts.bounded("ls /none")], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "does not answer" not in result.stderr
