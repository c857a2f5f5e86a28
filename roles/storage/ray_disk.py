"""Ray's directory on a file system of its own: its unit, and what forbids it. Pure: no pyinfra.

The program that makes, grows and mounts it is ``host/ray_disk.py``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from roles.storage.rules import GIB, Disk, place_problem

UNIT_DIR = "/etc/systemd/system"
# Of systemd's own: all but these become \xNN in a unit's name, "/" becomes "-" (systemd.unit(5), string escaping).
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:_.")


@dataclass(frozen=True)
class RayDisk:
    """An image file of a fixed size, mounted on Ray's directory."""

    image: str
    size_gib: int
    mount_point: str

    @property
    def unit(self) -> str:
        return mount_unit(self.mount_point)


@dataclass(frozen=True)
class FoundMount:
    """A mount unit that rayrack has made on the host."""

    unit: str
    image: str
    mount_point: str


def of(size_gib: int | None, image: str, ray_temp_dir: str) -> RayDisk | None:
    """What the settings ask for; None: Ray's directory has no file system of its own from us."""
    return None if size_gib is None else RayDisk(image, size_gib, ray_temp_dir)


def mount_unit(path: str) -> str:
    """As ``systemd-escape --path --suffix=mount`` names the unit of an absolute mount point."""
    parts = [part for part in PurePosixPath(path).parts if part != "/"]
    text = "/".join(parts)
    escaped = "".join(
        "-" if character == "/" else character if _is_plain(character, at) else f"\\x{ord(character):02x}"
        for at, character in enumerate(text)
    )
    return f"{escaped or '-'}.mount"


def _is_plain(character: str, at: int) -> bool:
    return character in _PLAIN and not (at == 0 and character == ".")


def problems(
    host_name: str, wanted: RayDisk | None, disks: Sequence[Disk], mounts: Sequence[FoundMount], *, loop_devices: bool
) -> Iterator[str]:
    """One line each: what stands in the way of Ray's file system on this host."""
    for found in mounts:
        if wanted is None or (found.image, found.mount_point) != (wanted.image, wanted.mount_point):
            yield (
                f"{host_name}: {found.mount_point}: is set up on {found.image}, which the settings no longer say "
                "(ray_temp_size_gib, ray_temp_image, ray_temp_dir); set them again, or take it away: systemctl stop "
                f"rayrack.target '{found.unit}'; systemctl disable '{found.unit}'; "
                f"rm '{UNIT_DIR}/{found.unit}' {found.image}"
            )
    if wanted is None:
        return
    by_path = {disk.path: disk for disk in disks}
    directory, image = by_path[wanted.mount_point], by_path[wanted.image]
    if not loop_devices:
        yield (
            f"{host_name}: {wanted.mount_point}: no loop devices here to mount an image with (a container?); leave "
            "ray_temp_size_gib out and mount a file system there from outside"
        )
    if directory.mount_point == directory.path:
        if directory.image != wanted.image:
            yield (
                f"{host_name}: {directory.path}: is a file system of its own already ({directory.source}); "
                "leave ray_temp_size_gib out, or unmount it"
            )
    elif not directory.empty:
        yield (
            f"{host_name}: {directory.path}: holds files, which a file system mounted there would hide; systemctl stop "
            "rayrack.target, empty it and deploy again, or leave ray_temp_size_gib out"
        )
    if problem := _image_problem(image):
        yield f"{host_name}: {wanted.image}: {problem}"
    elif image.file_bytes > wanted.size_gib * GIB:
        yield (
            f"{host_name}: {wanted.image}: has {image.file_bytes / GIB:g} GiB and is never shrunk, ray_temp_size_gib "
            f"is {wanted.size_gib}; set at least {-(-image.file_bytes // GIB)}, or take it away: systemctl stop "
            f"rayrack.target '{wanted.unit}'; rm {wanted.image}"
        )


def _image_problem(image: Disk) -> str | None:
    """Whoever could put another file in the image's place would have root mount it."""
    if problem := place_problem(image, "ray_temp_image"):
        return problem
    if image.parent == "shared":
        return "not only root can write in that directory; set ray_temp_image to a file in another"
    if image.kind == "absent":
        return None
    if image.kind != "file" or image.owner != "root":
        return "is not a file of root's; remove it, or set another ray_temp_image"
    return None if image.is_ext4 else "holds no ext4 file system; move it away, or set another ray_temp_image"
