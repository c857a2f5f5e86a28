"""Ray's own file system on a real host: made, mounted, grown, back after a reboot, and nobody else's when it is full.

A lab of its own, with the machine's loop devices (LAB_LOOP). It grows unmounted here: a mounted file system grows only
where the machine has CAP_SYS_RESOURCE, which not every one has.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TEST_LAB
from tests.lab.lab import Lab, Result, Tell
from tests.lab.test_deploy_again import changes

pytestmark = [pytest.mark.lab, pytest.mark.long]

LOOPS = Lab(
    Path(f"{TEST_LAB.directory}-3"),
    f"{TEST_LAB.net.rpartition('.')[0]}.8",
    f"{TEST_LAB.bridge}y",
    TEST_LAB.cache,
    loops=True,
)
DIRECTORY, IMAGE, UNIT = "/var/lib/rayrack/ray", "/var/lib/rayrack-ray.img", "var-lib-rayrack-ray.mount"


@pytest.fixture(scope="module")
def loops(tell: Tell) -> Iterator[Lab]:
    """One blank host that can mount images."""
    LOOPS.down(keep_cache=True)
    try:
        LOOPS.up(1, tell)
        yield LOOPS
    finally:
        LOOPS.down(keep_cache=True)


def deploy(lab: Lab, size_gib: int, *, check: bool = True) -> Result:
    """What the role does, after the preflight, on the one host."""
    files = ("deploy/00_preflight.py", "deploy/05_verdict.py", "deploy/10_host.py")
    data = (f"ray_temp_dir={DIRECTORY}", f"ray_temp_size_gib={size_gib}")
    arguments = [argument for each in data for argument in ("--data", each)]
    return lab.pyinfra(*files, "-y", "--limit", "h1", *arguments, check=check)


@pytest.fixture(scope="module")
def mounted(loops: Lab) -> Lab:
    """The host with a file system of 1 GiB for Ray."""
    deploy(loops, 1)
    return loops


def size_mib(lab: Lab) -> int:
    return int(lab.read("h1", f"df --output=size -BM {DIRECTORY} | tail -1 | tr -d ' M'"))


def room_bytes(lab: Lab) -> int:
    """What the image takes of the disk below."""
    return int(lab.read("h1", f"stat -c %b {IMAGE}")) * 512


def test_it_is_mounted_with_ray_s_owner_and_mode_and_takes_its_room_at_once(mounted: Lab) -> None:
    assert mounted.read("h1", f"findmnt -no FSTYPE {DIRECTORY}") == "ext4"
    assert 900 < size_mib(mounted) <= 1024
    assert mounted.read("h1", f"stat -c '%U %G %a' {DIRECTORY}") == "root rayrack 770"
    assert mounted.read("h1", f"stat -c '%U %a' {IMAGE}") == "root 600"
    assert room_bytes(mounted) >= 2**30


def test_a_second_run_changes_nothing(mounted: Lab) -> None:
    look = f"stat -c %Z /etc/systemd/system/{UNIT}; systemctl show -P InvocationID {UNIT}"
    before = mounted.read("h1", look)
    assert changes(deploy(mounted, 1)) == set()
    assert mounted.read("h1", look) == before


def test_systemd_finds_nothing_to_say_about_the_unit(mounted: Lab) -> None:
    verified = mounted.ssh("h1", f"systemd-analyze verify --man=no {UNIT} 2>&1", check=False)
    assert (verified.returncode, verified.stdout) == (0, "")


def test_when_it_is_full_the_root_disk_is_not_touched(mounted: Lab) -> None:
    free = "df --output=avail -BM / | tail -1 | tr -d ' M'"
    before = int(mounted.read("h1", free))
    filled = mounted.ssh(
        "h1", f"runuser -u rayrack -- dd if=/dev/zero of={DIRECTORY}/fill bs=1M; sync", check=False, timeout_s=120
    )
    try:
        assert "No space left on device" in filled.stdout
        # Other hosts and the machine itself write to the same disk meanwhile; the image has 1024 MiB.
        assert before - int(mounted.read("h1", free)) < 300
        assert f"{DIRECTORY}: 100 % full" in deploy(mounted, 1).stdout
    finally:
        mounted.ssh("h1", f"rm -f {DIRECTORY}/fill")


def test_a_smaller_size_is_refused_and_changes_nothing(mounted: Lab) -> None:
    mounted.ssh("h1", f"systemctl stop {UNIT}; truncate -s 3G {IMAGE}")
    try:
        said = deploy(mounted, 2, check=False).stdout
    finally:
        mounted.ssh("h1", f"truncate -s 1G {IMAGE}; systemctl start {UNIT}")
    assert "has 3 GiB and is never shrunk, ray_temp_size_gib is 2; set at least 3" in said
    assert "Beginning operation run" not in said


def test_a_node_does_not_start_without_it(mounted: Lab) -> None:
    unit = "/run/systemd/system/needs-ray.service"
    text = f"[Unit]\\nRequiresMountsFor={DIRECTORY}\\n[Service]\\nType=oneshot\\nExecStart=/bin/true\\n"
    mounted.ssh(
        "h1", f"systemctl stop {UNIT}; mv {IMAGE} {IMAGE}.away; printf '{text}' > {unit}; systemctl daemon-reload"
    )
    try:
        assert mounted.ssh("h1", "systemctl start needs-ray", check=False, timeout_s=180).returncode != 0
    finally:
        mounted.ssh("h1", f"mv {IMAGE}.away {IMAGE}; systemctl reset-failed; systemctl start {UNIT}; rm {unit}")


def test_it_grows_and_keeps_what_it_holds(mounted: Lab) -> None:
    mounted.ssh("h1", f"echo kept > {DIRECTORY}/kept; systemctl stop {UNIT}")
    said = deploy(mounted, 2).stdout
    assert "grow /var/lib/rayrack-ray.img from 1 GiB to 2 GiB" in said
    assert 1900 < size_mib(mounted) <= 2048
    assert mounted.read("h1", f"cat {DIRECTORY}/kept; rm {DIRECTORY}/kept") == "kept"
    assert changes(deploy(mounted, 2)) == set()


def test_a_reboot_brings_it_back(mounted: Lab) -> None:
    size = size_mib(mounted)
    mounted.ssh("h1", f"echo kept > {DIRECTORY}/kept")
    mounted.reboot("h1")
    assert mounted.read("h1", f"systemctl is-active {UNIT}") == "active"
    assert size_mib(mounted) == size
    assert mounted.read("h1", f"cat {DIRECTORY}/kept; stat -c '%U %a' {DIRECTORY}") == "kept\nroot 770"


def test_its_room_stays_taken_when_it_has_been_mounted_for_a_while(mounted: Lab) -> None:
    # The kernel would begin to zero inode tables within 5 s, and on a loop device that makes holes in the image.
    mounted.ssh("h1", "sleep 15")
    assert room_bytes(mounted) >= 2 * 2**30
