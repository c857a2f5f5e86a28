"""Ray's own file system, as the operator's side sees it: the unit's name, and what forbids it."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyinfra.api.util import get_template

from roles.ray_cluster.node import NodeConfig
from roles.settings import Settings
from roles.storage.ray_disk import FoundMount, RayDisk, mount_unit, of, problems
from roles.storage.rules import GIB, Disk

IMAGE, DIRECTORY = "/var/lib/rayrack-ray.img", "/var/lib/rayrack/ray"
DISK = RayDisk(IMAGE, 50, DIRECTORY)
OURS = FoundMount("var-lib-rayrack-ray.mount", IMAGE, DIRECTORY)


def disk(path: str, **fields: Any) -> Disk:
    values: dict[str, Any] = {
        "kind": "absent",
        "owner": None,
        "device": 1,
        "mount_point": "/",
        "fs_type": "ext4",
        "read_only": False,
        "size_bytes": 1000 * GIB,
        "used_bytes": 0,
        "free_bytes": 500 * GIB,
        "inodes": 0,
        "inodes_free": 0,
    }
    return Disk(path, **{**values, **fields})


def found(
    wanted: RayDisk | None = DISK,
    *mounts: FoundMount,
    ray: dict[str, Any] | None = None,
    image: dict[str, Any] | None = None,
    loop_devices: bool = True,
) -> list[str]:
    disks = [disk(DIRECTORY, **(ray or {})), disk(IMAGE, **(image or {}))]
    return list(problems("gpu-01", wanted, disks, mounts, loop_devices=loop_devices))


MOUNTED = {"kind": "directory", "owner": "rayrack", "mount_point": DIRECTORY, "image": IMAGE, "source": "/dev/loop0"}


def test_without_a_size_there_is_no_file_system() -> None:
    assert of(None, IMAGE, DIRECTORY) is None
    assert of(50, IMAGE, DIRECTORY) == DISK
    assert found(None) == []


def test_a_blank_host_and_one_that_has_it_are_fine() -> None:
    assert found() == []
    assert (
        found(
            DISK, OURS, ray={**MOUNTED, "empty": False}, image={"kind": "file", "owner": "root", "file_bytes": 50 * GIB}
        )
        == []
    )


def test_files_that_the_mount_would_hide_are_not_hidden() -> None:
    (line,) = found(ray={"kind": "directory", "owner": "rayrack", "empty": False})
    assert "holds files, which a file system mounted there would hide; systemctl stop rayrack.target, empty it" in line


def test_a_file_system_that_somebody_else_has_mounted_there_is_left_alone() -> None:
    (line,) = found(ray={**MOUNTED, "image": None, "source": "/dev/sdb1"})
    assert "is a file system of its own already (/dev/sdb1); leave ray_temp_size_gib out" in line


def test_an_image_is_never_shrunk() -> None:
    (line,) = found(DISK, OURS, ray=MOUNTED, image={"kind": "file", "owner": "root", "file_bytes": 80 * GIB})
    assert "has 80 GiB and is never shrunk, ray_temp_size_gib is 50; set at least 80" in line


@pytest.mark.parametrize(
    "wanted",
    [None, RayDisk("/data/ray.img", 50, DIRECTORY), RayDisk(IMAGE, 50, "/tmp/ray")],
    ids=["none", "image", "dir"],
)
def test_a_file_system_that_the_settings_no_longer_ask_for_is_not_forgotten(wanted: RayDisk | None) -> None:
    disks = [disk(path) for path in (DIRECTORY, "/tmp/ray", IMAGE, "/data/ray.img")]
    (line,) = problems("gpu-01", wanted, disks, [OURS], loop_devices=True)
    assert line.startswith(f"gpu-01: {DIRECTORY}: is set up on {IMAGE}, which the settings no longer say")
    assert f"rm '/etc/systemd/system/{OURS.unit}' {IMAGE}" in line


@pytest.mark.parametrize(
    ("image", "line"),
    [
        (
            {"parent": "absent"},
            "/var/lib does not exist; mount the disk there, or make it, or set another ray_temp_image",
        ),
        ({"parent": "other"}, "/var/lib is not a directory; set another ray_temp_image"),
        ({"not_mounted": "/var"}, "/var is in /etc/fstab and not mounted; mount it, or set another ray_temp_image"),
        ({"parent": "shared"}, "not only root can write in that directory; set ray_temp_image to a file in another"),
        ({"kind": "directory", "owner": "root"}, "is not a file of root's; remove it, or set another ray_temp_image"),
        ({"kind": "link", "owner": "root"}, "is not a file of root's; remove it, or set another ray_temp_image"),
        ({"kind": "file", "owner": "ray"}, "is not a file of root's; remove it, or set another ray_temp_image"),
        (
            {"kind": "file", "owner": "root", "is_ext4": False},
            "holds no ext4 file system; move it away, or set another ray_temp_image",
        ),
    ],
)
def test_an_image_that_cannot_be_made_or_trusted_is_told_before_any_change(image: dict[str, Any], line: str) -> None:
    assert found(image=image) == [f"gpu-01: {IMAGE}: {line}"]


def test_a_container_without_loop_devices_is_told_so() -> None:
    (line,) = found(loop_devices=False)
    assert "no loop devices here" in line


def test_the_unit_is_named_after_its_mount_point() -> None:
    assert DISK.unit == "var-lib-rayrack-ray.mount"
    assert mount_unit("/tmp/ray/") == "tmp-ray.mount"
    assert mount_unit("/.ray/a-b+c") == r"\x2eray-a\x2db\x2bc.mount"


@given(
    st.from_regex(r"(/[A-Za-z0-9._+-]+){1,4}", fullmatch=True).filter(
        lambda path: not {".", ".."} & set(path.split("/"))
    )
)
@example("/-/.a/..b")
@settings(max_examples=25, deadline=None, database=None, derandomize=True)
def test_it_is_the_name_that_systemd_gives_it(path: str) -> None:
    said = subprocess.run(
        ["systemd-escape", "--path", "--suffix=mount", path], capture_output=True, text=True, check=True, timeout=20
    )
    assert mount_unit(path) == said.stdout.strip()


def node_unit(size_gib: int | None) -> str:
    node = NodeConfig.from_settings(
        Settings(ray_temp_dir=DIRECTORY, ray_temp_size_gib=size_gib),
        role="worker",
        node_ip="10.0.0.12",
        head_ip="10.0.0.11",
        alone=False,
    )
    return get_template("templates/ray_cluster/etc/systemd/system/rayrack-worker.service.j2").render(node=node)


def test_a_node_does_not_start_on_the_disk_below() -> None:
    lines = node_unit(50).splitlines()
    assert any(line.startswith(f"RequiresMountsFor={DIRECTORY} ") for line in lines)
    assert f"AssertPathIsMountPoint={DIRECTORY}" in lines
    assert "AssertPathIsMountPoint" not in node_unit(None)


def test_no_inode_table_is_zeroed_in_the_background_which_would_give_its_room_back() -> None:
    unit = get_template("templates/storage/etc/systemd/system/ray_temp_dir.mount.j2").render(disk=DISK)
    (options,) = (line for line in unit.splitlines() if line.startswith("Options="))
    assert "noinit_itable" in options.split(",")


def test_growing_restarts_no_node() -> None:
    assert node_unit(50) == node_unit(60)


def test_systemd_finds_nothing_to_say_about_the_units(tmp_path: Path) -> None:
    """Where systemd-analyze is: the node's unit pulls the mount in, and neither has a line it does not know."""
    units = tmp_path / "units"
    units.mkdir()
    mount = get_template("templates/storage/etc/systemd/system/ray_temp_dir.mount.j2").render(disk=DISK)
    (units / DISK.unit).write_text(mount)
    # The program of the node is not on this machine.
    node = node_unit(50).replace("ExecStart=/opt/rayrack/bin/ray_node run", "ExecStart=/bin/true")
    (units / "rayrack-worker.service").write_text(node)
    (units / "rayrack.target").write_text("[Unit]\n")
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no"]
    command += [str(units / "rayrack-worker.service"), str(units / DISK.unit)]
    assert shutil.which("systemd-analyze"), "this machine has no systemd-analyze"
    said = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        env={"SYSTEMD_UNIT_PATH": f"{units}:", "PATH": "/usr/bin:/bin"},
    )
    assert [line for line in said.stderr.splitlines() if "rayrack" in line or "ray.mount" in line] == []
