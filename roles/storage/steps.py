"""Makes the directories that grow: Ray's files, weights, caches; and, when asked to, Ray's own file system."""

from collections.abc import Generator
from dataclasses import dataclass

from pyinfra.api.deploy import deploy
from pyinfra.api.operation import operation
from pyinfra.context import host
from pyinfra.operations import files

from roles import host_programs
from roles.base_system import packages, tmpfiles
from roles.shown_command import ShownCommand
from roles.storage.facts import HOST, RayDiskPending, ray_disk_arguments
from roles.storage.ray_disk import UNIT_DIR, RayDisk

TEMPLATES = "templates/storage"
TMPFILES = "/etc/tmpfiles.d/rayrack-storage.conf"


@dataclass(frozen=True)
class Directories:
    """What the template is rendered with; all absolute paths without white space."""

    ray_temp_dir: str
    weights_dir: str
    cache_dir: str


@deploy("Storage")
def install(*, ray_temp_dir: str, weights_dir: str, cache_dir: str, ray_disk: RayDisk | None) -> None:
    """The directories, theirs alone and kept from ageing. Whether there is room was looked at before (preflight).

    ``ray_disk``: the file system to make for Ray's directory; None: it stays where it is.
    """
    if ray_disk is not None:
        _own_file_system(ray_disk)
    files.template(
        name="Declare the directories that grow",
        src=f"{TEMPLATES}/etc/tmpfiles.d/rayrack-storage.conf.j2",
        dest=TMPFILES,
        user="root",
        group="root",
        mode="644",
        create_remote_dir=False,
        directories=Directories(ray_temp_dir, weights_dir, cache_dir),
    )
    tmpfiles.applied(name="Directories that grow as declared", path=TMPFILES)


def _own_file_system(disk: RayDisk) -> None:
    """Mounted before the directories are looked at, which then get the owner and mode of Ray's."""
    packages.present(name="Packages for Ray's file system", packages=("e2fsprogs", "mount"))
    host_programs.install(name="Program of Ray's file system", programs=[HOST / "ray_disk.py"])
    for dest, source in (
        (f"{UNIT_DIR}/{disk.unit}", "etc/systemd/system/ray_temp_dir.mount.j2"),
        ("/etc/udev/rules.d/60-rayrack-ray-disk.rules", "etc/udev/rules.d/60-rayrack-ray-disk.rules.j2"),
    ):
        files.template(
            name=f"Ray's file system in {dest}",
            src=f"{TEMPLATES}/{source}",
            dest=dest,
            user="root",
            group="root",
            mode="644",
            disk=disk,
        )
    mounted(name="Ray's file system made, grown and mounted", disk=disk)


@operation()
def mounted(disk: RayDisk) -> Generator[ShownCommand, None, None]:
    """Make the image, or grow it, and mount it: whatever of that is left to do.

    + disk: the file system that Ray's directory gets
    """
    if not host.get_fact(RayDiskPending, disk=disk):
        host.noop(f"{disk.mount_point} has a file system of {disk.size_gib} GiB")
        return
    yield ShownCommand(f"{host_programs.BIN}/ray_disk apply {ray_disk_arguments(disk)}")
