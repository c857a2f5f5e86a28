from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.storage.drives import Drive
from roles.storage.rules import GIB, Disk, Need, directory_problem, problems, warnings

RAY, RUNTIME, WEIGHTS = "/tmp/ray", "/opt/rayrack/runtime", "/var/lib/rayrack/models"


def disk(path: str, *, free: float, size: float = 100, **fields: Any) -> Disk:
    """A file system of ``size`` GiB with ``free`` GiB free."""
    values: dict[str, Any] = {
        "kind": "directory",
        "owner": "rayrack",
        "device": 1,
        "mount_point": "/",
        "fs_type": "ext4",
        "read_only": False,
        "size_bytes": int(size * GIB),
        "used_bytes": int((size - free) * GIB),
        "free_bytes": int(free * GIB),
        "inodes": 1000,
        "inodes_free": 900,
    }
    return Disk(path, **{**values, **fields})


def need(path: str, gib: float) -> Need:
    names = {RAY: "min_free_gib_ray", RUNTIME: "min_free_gib_runtime", WEIGHTS: "min_free_gib_weights"}
    return Need(path, gib, names[path])


def test_enough_room_is_no_problem() -> None:
    assert problems("gpu-03", [disk(WEIGHTS, free=20)], [need(WEIGHTS, 20)], 90) == []


def test_too_little_room_says_how_much_is_needed_and_which_setting_says_so() -> None:
    found = problems("gpu-03", [disk(WEIGHTS, free=3.1, size=20)], [need(WEIGHTS, 20)], 90)
    assert found == [
        "gpu-03: /var/lib/rayrack/models: 3.1 GiB free, 20 GiB needed (min_free_gib_weights); "
        "free space or set another min_free_gib_weights"
    ]


def test_needs_on_one_file_system_are_added_up() -> None:
    disks = [disk(RAY, free=40), disk(RUNTIME, free=40), disk(WEIGHTS, free=40)]
    needs = [need(RAY, 10), need(RUNTIME, 20), need(WEIGHTS, 20)]
    assert problems("gpu-03", disks, needs, 90) == [
        "gpu-03: /: 40.0 GiB free, 50 GiB needed (min_free_gib_runtime 20 for /opt/rayrack/runtime, "
        "min_free_gib_ray 10 for /tmp/ray, min_free_gib_weights 20 for /var/lib/rayrack/models); "
        "free space or lower these settings"
    ]


def test_needs_on_different_file_systems_are_not_added_up() -> None:
    disks = [disk(RAY, free=12), disk(WEIGHTS, free=25, device=2, mount_point="/var")]
    assert problems("gpu-03", disks, [need(RAY, 10), need(WEIGHTS, 20)], 90) == []


def test_a_file_system_that_is_too_full_is_refused_though_there_is_room() -> None:
    (line,) = problems("gpu-03", [disk(WEIGHTS, free=50, size=1000)], [need(WEIGHTS, 20)], 90)
    assert line == (
        "gpu-03: /var/lib/rayrack/models: 95 % full, 90 % allowed (disk_used_max_percent), "
        "50.0 GiB free for /var/lib/rayrack/models; free space or set another disk_used_max_percent"
    )


def test_too_few_inodes_are_refused() -> None:
    (line,) = problems("gpu-03", [disk(RAY, free=50, inodes_free=10)], [need(RAY, 1)], 90)
    assert "99 % of its inodes are used, 90 % allowed" in line


def test_a_file_system_without_a_fixed_number_of_inodes_has_enough() -> None:
    assert problems("gpu-03", [disk(RAY, free=50, inodes=0, inodes_free=0)], [need(RAY, 1)], 90) == []


def test_read_only_is_the_only_thing_said_of_a_file_system() -> None:
    (line,) = problems("gpu-03", [disk(RAY, free=0, read_only=True)], [need(RAY, 10)], 90)
    assert line == (
        "gpu-03: /tmp/ray: mounted read-only, and /tmp/ray must be written; mount / read-write "
        "(journalctl -k says whether the kernel did that after an error)"
    )


def test_read_only_after_errors_says_that_the_kernel_did_it() -> None:
    (line,) = problems("gpu-03", [disk(RAY, free=9, read_only=True, errors=3, source="/dev/sdb1")], [need(RAY, 1)], 90)
    assert "the kernel did that after 3 errors of the file system" in line
    assert line.endswith("fsck /dev/sdb1 unmounted")


@pytest.mark.parametrize("fs_type", ["tmpfs", "ramfs"])
def test_memory_is_no_disk(fs_type: str) -> None:
    needs = [Need(RAY, 1, "min_free_gib_ray", place="ray_temp_dir")]
    (line,) = problems("gpu-03", [disk(RAY, free=50, fs_type=fs_type, mount_point="/tmp")], needs, 90)
    assert line == (
        f"gpu-03: /tmp/ray: is a {fs_type}, which is memory and empty after a reboot, and /tmp/ray must be on a disk; "
        "set another ray_temp_dir, or mount a disk there"
    )


def test_a_disk_that_is_too_small_even_when_empty_is_told_from_one_that_is_full() -> None:
    (line,) = problems("gpu-03", [disk(WEIGHTS, free=5, size=10)], [need(WEIGHTS, 20)], 90)
    assert "10.0 GiB in all, 20 GiB needed (min_free_gib_weights); use a larger disk or " in line


def test_inodes_are_counted_for_all_that_goes_on_a_file_system() -> None:
    needs = [Need(RAY, 0, None, inodes=500), Need(WEIGHTS, 0, None, inodes=500)]
    disks = [disk(RAY, free=50), disk(WEIGHTS, free=50)]
    (line,) = problems("gpu-03", disks, needs, 90)
    assert "/: 900 inodes free, 1000 needed for /tmp/ray, /var/lib/rayrack/models" in line
    assert problems("gpu-03", disks[:1], needs[:1], 90) == []


@given(taken=st.integers(0, 100), used=st.integers(0, 90))
def test_what_is_taken_for_good_never_leaves_a_disk_that_the_next_run_would_refuse(taken: int, used: int) -> None:
    now = disk(WEIGHTS, free=100 - used)
    found = problems("gpu-03", [now], [Need(WEIGHTS, taken, "weights_gib", taken_gib=taken)], 90)
    if not found:
        then = disk(WEIGHTS, free=100 - used - taken)
        assert problems("gpu-03", [then], [Need(WEIGHTS, 0, None)], 90) == []


def test_errors_of_a_file_system_that_is_still_written_are_a_warning() -> None:
    found = list(warnings("gpu-03", [disk(RAY, free=50, errors=2, mount_point="/tmp", source="/dev/sda2")], RAY))
    assert found == [
        "gpu-03: /tmp: 2 errors of the file system since its last fsck; look at journalctl -k, check the drive, "
        "fsck /dev/sda2 unmounted"
    ]


def test_a_drive_is_named_once_with_all_that_is_on_it() -> None:
    worn = Drive("sda", {"ata_smart_attributes": {"table": [{"id": 5, "raw": {"value": 8}}]}})
    disks = [disk(RAY, free=50, drives=(worn,), mount_point="/data"), disk(WEIGHTS, free=50, drives=(worn,))]
    assert list(warnings("gpu-03", disks, RAY)) == [
        "gpu-03: /dev/sda, under /tmp/ray, /var/lib/rayrack/models: SMART reports 8 reallocated sectors; "
        "plan to replace it"
    ]


def test_a_path_without_a_need_of_its_own_still_needs_a_file_system_that_is_not_full() -> None:
    assert problems("gpu-03", [disk("/cache", free=50)], [Need("/cache", 0, None)], 90) == []
    assert len(problems("gpu-03", [disk("/cache", free=5)], [Need("/cache", 0, None)], 90)) == 1


gib = st.floats(0, 60)


@given(placed=st.lists(st.tuples(st.sampled_from([1, 2]), gib), min_size=3, max_size=3), free=st.tuples(gib, gib))
def test_refused_is_exactly_a_file_system_with_less_than_all_its_needs(
    placed: list[tuple[int, float]], free: tuple[float, float]
) -> None:
    paths = (RAY, RUNTIME, WEIGHTS)
    needs = [need(path, gib) for path, (_, gib) in zip(paths, placed, strict=True)]
    disks = [
        disk(path, free=free[device - 1], device=device, mount_point=f"/disk{device}")
        for path, (device, _) in zip(paths, placed, strict=True)
    ]
    short = {
        device
        for device in {device for device, _ in placed}
        if int(free[device - 1] * GIB) < sum(gib for on, gib in placed if on == device) * GIB
    }
    assert len(problems("gpu-03", disks, needs, 100)) == len(short)


@pytest.mark.parametrize("owner", ["rayrack", "root"])
def test_a_directory_of_the_service_user_or_of_root_is_taken_over(owner: str) -> None:
    assert directory_problem("gpu-03", "ray_temp_dir", disk(RAY, free=1, owner=owner)) is None


def test_a_directory_that_is_not_there_yet_is_no_problem() -> None:
    assert directory_problem("gpu-03", "ray_temp_dir", disk(RAY, free=1, kind="absent", owner=None)) is None


def test_a_directory_is_made_only_where_its_disk_is() -> None:
    new = {"kind": "absent", "owner": None}
    assert directory_problem("gpu-03", "weights_dir", disk("/data/a/models", free=1, parent="absent", **new)) == (
        "gpu-03: /data/a/models: /data/a does not exist; mount the disk there, or make it, or set another weights_dir"
    )
    assert directory_problem("gpu-03", "weights_dir", disk("/srv/x/models", free=1, parent="other", **new)) == (
        "gpu-03: /srv/x/models: /srv/x is not a directory; set another weights_dir"
    )
    # A blank host has no /var/lib/rayrack.
    assert directory_problem("gpu-03", "weights_dir", disk(WEIGHTS, free=1, parent="absent", **new)) is None


def test_a_mount_point_without_its_mount_is_told() -> None:
    found = disk("/data/ray", free=1, owner="rayrack", not_mounted="/data")
    assert directory_problem("gpu-03", "ray_temp_dir", found) == (
        "gpu-03: /data/ray: /data is in /etc/fstab and not mounted; mount it, or set another ray_temp_dir"
    )


def test_a_directory_of_roots_with_files_in_it_is_not_taken_over() -> None:
    assert directory_problem("gpu-03", "weights_dir", disk("/srv/data", free=1, owner="root", empty=False)) == (
        "gpu-03: /srv/data: belongs to root and holds files, and the user rayrack would own it; set another "
        "weights_dir, or move aside what is in it, or give it to that user: "
        "useradd -r -d /var/lib/rayrack -s /usr/sbin/nologin rayrack; chown -R rayrack: /srv/data"
    )
    assert directory_problem("gpu-03", "weights_dir", disk(WEIGHTS, free=1, owner="rayrack", empty=False)) is None


def test_ray_s_directory_is_root_s_once_a_deploy_has_made_it() -> None:
    made = disk(RAY, free=1, owner="root", group="rayrack", empty=False)
    assert directory_problem("gpu-03", "ray_temp_dir", made) is None


def test_a_directory_of_somebody_else_is_refused() -> None:
    line = directory_problem("gpu-03", "ray_temp_dir", disk(RAY, free=1, owner="mallory"))
    assert line is not None
    assert line.startswith("gpu-03: /tmp/ray: belongs to mallory")
    assert "set another ray_temp_dir" in line


@pytest.mark.parametrize(("kind", "what"), [("link", "a symbolic link"), ("other", "not a directory")])
def test_what_is_not_a_directory_is_refused(kind: str, what: str) -> None:
    line = directory_problem("gpu-03", "weights_dir", disk(WEIGHTS, free=1, kind=kind, owner="root"))
    assert line == f"gpu-03: /var/lib/rayrack/models: is {what}; remove it or set another weights_dir"
