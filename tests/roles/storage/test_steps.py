import shlex
from pathlib import Path
from typing import Any

from roles.storage import steps
from roles.storage.facts import HOST
from roles.storage.ray_disk import RayDisk
from tests.roles.fake_host import Change, changes

DIRECTORIES: dict[str, Any] = {
    "ray_temp_dir": "/data/ray",
    "weights_dir": "/data/models",
    "cache_dir": "/var/cache/rayrack",
}
DISK = RayDisk("/var/lib/rayrack-ray.img", 50, "/data/ray")
PENDING = shlex.quote((HOST / "ray_disk.py").read_text()) + " pending"
OPERATION = "Ray's file system made, grown and mounted"


def install(responses: dict[str, Any], ray_disk: RayDisk | None = DISK) -> dict[str, Change]:
    return changes(steps.install, {"uname -s": "Linux", **responses}, **DIRECTORIES, ray_disk=ray_disk)


def test_directories_are_declared_for_the_service_user_and_rays_is_never_aged() -> None:
    (text,) = install({}, None)["Declare the directories that grow"].files.values()
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        "d /data/ray 0770 root rayrack -",
        "x /data/ray",
        "d /data/models 0750 rayrack rayrack -",
        "d /var/cache/rayrack 0750 rayrack rayrack -",
    ]


def test_without_a_size_nothing_is_made_or_mounted() -> None:
    assert list(install({PENDING: "make it"}, None)) == ["Declare the directories that grow"]


def test_the_file_system_is_made_and_mounted_before_the_directories_on_it_get_their_owner() -> None:
    changed = install({PENDING: "make /var/lib/rayrack-ray.img with 50 GiB"})
    assert changed[OPERATION].commands == (
        "/opt/rayrack/bin/ray_disk apply --image /var/lib/rayrack-ray.img --size-gib 50 --mount-point /data/ray "
        "--unit data-ray.mount",
    )
    names = list(changed)
    assert names.index(OPERATION) < names.index("Declare the directories that grow")


def test_its_unit_and_its_rule_are_put_where_systemd_and_udev_read_them() -> None:
    files = {path: text for change in install({PENDING: "x"}).values() for path, text in change.files.items()}
    unit = files["/etc/systemd/system/data-ray.mount"].splitlines()
    assert {"What=/var/lib/rayrack-ray.img", "Where=/data/ray", "WantedBy=local-fs.target"} <= set(unit)
    (rule,) = [line for line in files["/etc/udev/rules.d/60-rayrack-ray-disk.rules"].splitlines() if line[0] != "#"]
    assert 'ATTR{loop/backing_file}=="/var/lib/rayrack-ray.img", ATTR{queue/discard_max_bytes}="0"' in rule
    assert "/opt/rayrack/lib/ray_disk.py" in files


def test_a_file_system_that_is_there_is_left_alone() -> None:
    assert OPERATION not in install({PENDING: ""})


def test_the_program_fits_into_a_command_line() -> None:
    longest_argument_bytes = 131_072  # MAX_ARG_STRLEN: `sh -c COMMAND` is one
    assert len(shlex.quote(Path(HOST / "ray_disk.py").read_text())) < longest_argument_bytes / 4
