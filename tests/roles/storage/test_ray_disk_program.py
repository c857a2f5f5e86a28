"""The program that makes, grows and mounts Ray's file system: with the real e2fsprogs on small images, and a systemctl
of the test's own. Mounting needs a host: test_storage_in_lab.py."""

import getpass
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import ray_disk
from hypothesis import given
from hypothesis import strategies as st
from ray_disk import GIB, RefusedError, State, Wanted

MIB = 2**20
WANTED = Wanted(Path("/var/lib/rayrack-ray.img"), 50 * GIB, Path("/tmp/ray"), "tmp-ray.mount", "rayrack")
DONE = State(50 * GIB, 50 * GIB, unit_changed=False, enabled=True, active=True)


def test_nothing_is_left_to_do_when_all_is_as_wanted() -> None:
    assert ray_disk.pending(DONE, WANTED) == []


def test_a_blank_host_gets_an_image_that_is_mounted_now_and_at_boot() -> None:
    blank = State(None, None, unit_changed=False, enabled=False, active=False)
    assert ray_disk.pending(blank, WANTED) == [
        "make /var/lib/rayrack-ray.img with 50 GiB",
        "mount it on /tmp/ray, now and at every boot",
    ]


@pytest.mark.parametrize("image_gib", [20, 50], ids=["not begun", "interrupted after the file was grown"])
def test_a_larger_size_grows_the_file_system(image_gib: int) -> None:
    smaller = replace(DONE, image_bytes=image_gib * GIB, fs_bytes=20 * GIB)
    assert ray_disk.pending(smaller, WANTED) == ["grow /var/lib/rayrack-ray.img from 20 GiB to 50 GiB"]


def test_a_smaller_size_is_refused_in_one_line() -> None:
    with pytest.raises(RefusedError, match=r"has 80 GiB and is never shrunk, .* asks for 50 GiB; set at least 80$"):
        ray_disk.pending(replace(DONE, image_bytes=80 * GIB, fs_bytes=80 * GIB), WANTED)


def test_a_file_that_is_no_file_system_is_not_written_over() -> None:
    with pytest.raises(RefusedError, match="holds no ext4 file system"):
        ray_disk.pending(replace(DONE, fs_bytes=None), WANTED)


@given(st.binary(max_size=2048))
def test_no_garbage_is_taken_for_a_file_system(text: bytes) -> None:
    ours = len(text) >= 1024 and text[0x38:0x3A] == b"\x53\xef"
    assert (ray_disk.fs_size(text) is None) != ours


class Host:
    """A directory for the image, and systemd as a table: the program's own commands run for real."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wanted = Wanted(directory / "ray.img", 64 * MIB, directory / "ray", "ray.mount", getpass.getuser())
        self.systemd = {"ActiveState": "inactive", "UnitFileState": "disabled", "NeedDaemonReload": "yes"}
        self.ran: list[str] = []
        self.real_run = ray_disk.run
        monkeypatch.setattr(ray_disk, "run", self.run)

    def run(self, *command: str, accept: tuple[int, ...] = (0,)) -> str:
        self.ran.append(command[0] if command[0] != "systemctl" else command[1])
        if command[0] != "systemctl":
            return self.real_run(*command, accept=accept)
        done = {"start": ("ActiveState", "active"), "enable": ("UnitFileState", "enabled")}
        done["daemon-reload"] = ("NeedDaemonReload", "no")
        self.systemd.update([done[command[1]]] if command[1] in done else [])
        return "".join(f"{name}={value}\n" for name, value in self.systemd.items())

    def apply(self, size_mib: int = 64) -> list[str]:
        self.wanted = replace(self.wanted, size_bytes=size_mib * MIB)
        return list(ray_disk.apply(self.wanted))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    tmp_path.chmod(0o755)
    return Host(tmp_path, monkeypatch)


def test_an_image_is_made_whole_for_root_alone_and_takes_its_room_at_once(host: Host) -> None:
    assert len(host.apply()) == 3
    status = host.wanted.image.stat()
    assert (status.st_size, stat.S_IMODE(status.st_mode)) == (64 * MIB, 0o600)
    assert status.st_blocks * 512 >= 64 * MIB
    assert ray_disk.sizes(host.wanted.image) == (64 * MIB, 64 * MIB)
    assert [each.name for each in host.wanted.image.parent.iterdir()] == ["ray.img"]


def test_its_root_belongs_to_the_service_user(host: Host) -> None:
    host.apply()
    said = host.real_run("debugfs", "-R", "stat <2>", str(host.wanted.image))
    assert f"User: {os.getuid():5}" in said


def test_a_second_run_changes_nothing(host: Host) -> None:
    host.apply()
    written = host.wanted.image.stat().st_mtime_ns
    host.ran.clear()
    assert host.apply() == []
    assert host.wanted.image.stat().st_mtime_ns == written
    assert set(host.ran) == {"show"}


def test_it_grows_and_keeps_what_it_holds(host: Host, tmp_path: Path) -> None:
    host.apply()
    (tmp_path / "kept").write_text("kept")
    image = str(host.wanted.image)
    host.real_run("debugfs", "-w", "-R", f"write {tmp_path / 'kept'} kept", image)
    assert host.apply(128) == [f"grow {image} from 0.0625 GiB to 0.125 GiB"]
    assert ray_disk.sizes(host.wanted.image) == (128 * MIB, 128 * MIB)
    assert host.real_run("debugfs", "-R", "cat kept", image) == "kept"
    host.real_run("e2fsck", "-f", "-n", image)


def test_growth_that_was_interrupted_is_finished(host: Host) -> None:
    host.apply()
    with host.wanted.image.open("r+b") as image:
        image.truncate(128 * MIB)
    host.apply(128)
    assert ray_disk.sizes(host.wanted.image) == (128 * MIB, 128 * MIB)


def test_a_smaller_size_changes_nothing(host: Host) -> None:
    host.apply(128)
    with pytest.raises(RefusedError, match="never shrunk"):
        host.apply(64)
    assert ray_disk.sizes(host.wanted.image) == (128 * MIB, 128 * MIB)


def test_too_little_room_leaves_nothing_behind(host: Host) -> None:
    with pytest.raises(RefusedError, match=r"GiB free, .* GiB more needed for ray.img.new; free space, or"):
        host.apply(2**30)
    assert list(host.wanted.image.parent.iterdir()) == []


def test_too_little_room_to_grow_leaves_the_image_as_it_was(host: Host) -> None:
    host.apply()
    with pytest.raises(RefusedError, match=r"more needed for ray\.img"):
        host.apply(2**30)
    assert ray_disk.sizes(host.wanted.image) == (64 * MIB, 64 * MIB)


def test_a_making_that_fails_or_was_interrupted_leaves_no_image(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    leftover = host.wanted.image.with_name("ray.img.new")
    leftover.write_bytes(b"half")
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(ray_disk, "SBIN", "")
    with pytest.raises(RefusedError, match=r"no program mkfs\.ext4 on this host"):
        host.apply()
    assert list(host.wanted.image.parent.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "directory", "fifo"])
def test_what_is_no_file_of_root_s_is_refused(host: Host, kind: str) -> None:
    image = host.wanted.image
    {"link": lambda: image.symlink_to("/etc/passwd"), "directory": image.mkdir, "fifo": lambda: os.mkfifo(image)}[
        kind
    ]()
    with pytest.raises(RefusedError, match=f"^{image}: .*remove it, or set another ray_temp_image$"):
        host.apply()


def test_a_directory_that_others_can_write_is_refused(host: Host) -> None:
    host.wanted.image.parent.chmod(0o777)
    with pytest.raises(RefusedError, match="not only root can write there"):
        host.apply()


def test_two_at_once_are_one_too_many(host: Host) -> None:
    with ray_disk.alone(host.wanted.image.parent), pytest.raises(RefusedError, match="another ray_disk is at work"):
        host.apply()


def test_a_user_that_is_not_there_is_named(host: Host) -> None:
    host.wanted = replace(host.wanted, owner="nobody-like-this")
    with pytest.raises(RefusedError, match="no user nobody-like-this"):
        host.apply()


def test_a_failure_is_one_line_and_exit_status_1(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    command = [
        sys.executable,
        "-ISc",
        Path(ray_disk.__file__).read_text(),
        "pending",
        "--image",
        str(tmp_path / "a.img"),
    ]
    command += ["--size-gib", "1", "--mount-point", "/tmp/ray", "--unit", "tmp-ray.mount"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        f"ray_disk: {tmp_path}: not only root can write there; set ray_temp_image to another directory"
    ]
