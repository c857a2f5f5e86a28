"""What a host's disks must be like before anything is put on them. Pure: no pyinfra.

``problems`` stop a run before any host is changed, ``warnings`` are shown and stop nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import PurePosixPath

from roles.storage import drives
from roles.storage.drives import Drive

GIB = 2**30
# Who may own a directory that rayrack takes over: the service user, or root before the first deploy.
TRUSTED_OWNERS = frozenset({"rayrack", "root"})
# Made by a deploy, with the service user.
OWN_PARENT = "/var/lib/rayrack"
# At 95 % Ray stops spilling objects (RAY_local_fs_capacity_threshold).
OWN_FULL_PERCENT = 90
MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})


@dataclass(frozen=True)
class Disk:
    """A path and the file system it is on, or would be made on. Sizes in bytes, as df(1) counts them."""

    path: str
    kind: str
    """Of the path itself: ``directory``, ``link``, ``file``, ``other`` or ``absent``."""
    owner: str | None
    device: int
    mount_point: str
    fs_type: str
    read_only: bool
    size_bytes: int
    used_bytes: int
    free_bytes: int
    """For ordinary users: without the blocks kept back for root."""
    inodes: int
    """0 on file systems that have no fixed number, btrfs for one."""
    inodes_free: int
    source: str = ""
    """What is mounted: a device, or a name (``tmpfs``, ``nas:/rack``)."""
    image: str | None = None
    """The file behind it, when the device is a loop device."""
    errors: int | None = None
    """Errors noted in an ext4 file system since its last fsck; None: not ext4."""
    empty: bool = True
    file_bytes: int = 0
    """Size of the path itself, when it is a file."""
    is_ext4: bool = True
    """False: a file without an ext4 file system in it."""
    parent: str = "root"
    """Its directory: ``root`` (root alone writes there), ``shared``, ``other`` (no directory), ``absent``."""
    not_mounted: str | None = None
    """A mount point of /etc/fstab that it is or lies below, and that nothing is mounted on."""
    drives: tuple[Drive, ...] = ()
    """The physical drives under it."""
    group: str | None = None

    @property
    def used_percent(self) -> float:
        usable = self.used_bytes + self.free_bytes
        return 100 * self.used_bytes / usable if usable else 100

    @property
    def inodes_used_percent(self) -> float:
        return 100 * (1 - self.inodes_free / self.inodes) if self.inodes else 0


@dataclass(frozen=True)
class Need:
    """Free space a path needs, and the setting that says so (None: it needs none of its own, but room to write)."""

    path: str
    gib: float
    setting: str | None
    inodes: int = 0
    place: str | None = None
    """The setting that says where the path is; None: it is fixed."""
    taken_gib: float = 0
    """What is known to be taken for good."""
    detail: str | None = None
    """What is shown instead of the setting's name: how the number came about."""


def problems(host_name: str, disks: Iterable[Disk], needs: Sequence[Need], used_max_percent: int) -> list[str]:
    """One line per file system that is no disk, is read-only, too full, short of inodes, or too small for all that goes
    on it."""
    needed = {need.path: need for need in needs}
    found = sorted((disk for disk in disks if disk.path in needed), key=lambda disk: disk.device)
    lines: list[str] = []
    for _, group in groupby(found, key=lambda disk: disk.device):
        on_it = sorted(group, key=lambda disk: disk.path)
        lines += _of_file_system(host_name, on_it[0], [needed[disk.path] for disk in on_it], used_max_percent)
    return lines


def _of_file_system(host: str, disk: Disk, needs: Sequence[Need], used_max_percent: int) -> Iterator[str]:
    where = f"{host}: {disk.mount_point}" if len(needs) > 1 else f"{host}: {needs[0].path}"
    paths = ", ".join(need.path for need in needs)
    if disk.fs_type in MEMORY_FILE_SYSTEMS:
        others = " and ".join(need.place for need in needs if need.place)
        yield (
            f"{where}: is a {disk.fs_type}, which is memory and empty after a reboot, and {paths} must be on a disk; "
            + (f"set another {others}, or mount a disk there" if others else "mount a disk there")
        )
        return
    if disk.read_only:
        yield _read_only(where, disk, paths)
        return
    if disk.used_percent > used_max_percent:
        yield (
            f"{where}: {disk.used_percent:.0f} % full, {used_max_percent} % allowed (disk_used_max_percent), "
            f"{_gib(disk.free_bytes)} free for {paths}; free space or set another disk_used_max_percent"
        )
    if disk.inodes_used_percent > used_max_percent:
        yield (
            f"{where}: {disk.inodes_used_percent:.0f} % of its inodes are used, {used_max_percent} % allowed "
            f"(disk_used_max_percent); remove small files, needed for {paths}"
        )
    elif disk.inodes and disk.inodes_free < (inodes := sum(need.inodes for need in needs)):
        yield (
            f"{where}: {disk.inodes_free} inodes free, {inodes} needed for {paths}; remove small files, or use a file "
            "system made with more"
        )
    yield from _room(where, disk, needs, used_max_percent)


def _read_only(where: str, disk: Disk, paths: str) -> str:
    text = f"{where}: mounted read-only, and {paths} must be written; "
    if disk.errors:
        return text + (
            f"the kernel did that after {disk.errors} errors of the file system: look at journalctl -k, check the "
            f"drive, fsck {disk.source} unmounted"
        )
    return f"{text}mount {disk.mount_point} read-write (journalctl -k says whether the kernel did that after an error)"


def _room(where: str, disk: Disk, needs: Sequence[Need], used_max_percent: int) -> Iterator[str]:
    with_setting = [(need, need.setting) for need in needs if need.setting is not None and need.gib]
    wanted = sum(need.gib for need, _ in with_setting)
    if disk.free_bytes >= wanted * GIB:
        yield from _full_afterwards(where, disk, needs, used_max_percent)
        return
    if len(with_setting) == 1:
        need, setting = with_setting[0]
        why, remedy = need.detail or setting, f"set another {need.place if need.detail else setting}"
    else:
        why = ", ".join(f"{need.detail or f'{setting} {need.gib:g}'} for {need.path}" for need, setting in with_setting)
        remedy = "lower these settings" if not any(need.detail for need, _ in with_setting) else "use another disk"
    needed = f"{round(wanted, 1):g} GiB needed ({why})"
    if disk.size_bytes < wanted * GIB:
        yield f"{where}: {_gib(disk.size_bytes)} in all, {needed}; use a larger disk or {remedy}"
    else:
        yield f"{where}: {_gib(disk.free_bytes)} free, {needed}; free space or {remedy}"


def _full_afterwards(where: str, disk: Disk, needs: Sequence[Need], used_max_percent: int) -> Iterator[str]:
    """What this run is known to take for good must not make the next one find the file system too full."""
    taken = {need.path: need.taken_gib for need in needs if need.taken_gib}
    usable = disk.used_bytes + disk.free_bytes
    percent = 100 * (disk.used_bytes + sum(taken.values()) * GIB) / usable if usable else 100
    if taken and disk.used_percent <= used_max_percent < percent:
        what = ", ".join(f"{round(gib, 1):g} GiB for {path}" for path, gib in taken.items())
        yield (
            f"{where}: would be {percent:.0f} % full with {what}, {used_max_percent} % allowed "
            "(disk_used_max_percent); free space or use a larger disk"
        )


def directory_problem(host_name: str, setting: str, disk: Disk) -> str | None:
    """Why a directory that rayrack takes over cannot be trusted; None when it can, or does not exist yet."""
    where = f"{host_name}: {disk.path}"
    if problem := place_problem(disk, setting):
        return f"{where}: {problem}"
    if disk.kind == "absent":
        return None
    if disk.kind != "directory":
        what = "a symbolic link" if disk.kind == "link" else "not a directory"
        return f"{where}: is {what}; remove it or set another {setting}"
    if disk.owner not in TRUSTED_OWNERS:
        return (
            f"{where}: belongs to {disk.owner}, who could read or replace what the services keep there; "
            f"remove it or set another {setting}"
        )
    # What a deploy makes belongs to rayrack at once, at least by its group.
    if disk.owner == "root" and disk.group != "rayrack" and not disk.empty:
        return (
            f"{where}: belongs to root and holds files, and the user rayrack would own it; set another {setting}, or "
            "move aside what is in it, or give it to that user: "
            f"useradd -r -d {OWN_PARENT} -s /usr/sbin/nologin rayrack; chown -R rayrack: {disk.path}"
        )
    return None


def place_problem(disk: Disk, setting: str) -> str | None:
    """What is wrong with where a path lies: a mount point that is missing would put everything on the disk below."""
    if disk.not_mounted:
        return f"{disk.not_mounted} is in /etc/fstab and not mounted; mount it, or set another {setting}"
    parent = str(PurePosixPath(disk.path).parent)
    if disk.parent == "absent" and parent != OWN_PARENT:
        return f"{parent} does not exist; mount the disk there, or make it, or set another {setting}"
    return f"{parent} is not a directory; set another {setting}" if disk.parent == "other" else None


def failing_drives(host_name: str, disks: Sequence[Disk]) -> list[str]:
    """One line per drive that is about to lose data."""
    return [
        f"{host_name}: {drive.title}, under {paths}: SMART says that {why}; replace the drive"
        for drive, paths in _drives(disks)
        for why in drives.failing(drive)
    ]


def warnings(
    host_name: str, disks: Sequence[Disk], ray_temp_dir: str, *, ray_disk_wanted: bool = False
) -> Iterator[str]:
    """One line each of what stops nothing today. ``ray_disk_wanted``: Ray's directory gets a file system from us."""
    ray = next(disk for disk in disks if disk.path == ray_temp_dir)
    if ray_disk_wanted:
        if ray.mount_point == ray.path and ray.used_percent > OWN_FULL_PERCENT:
            yield (
                f"{host_name}: {ray_temp_dir}: {ray.used_percent:.0f} % full; see what fills it (clean_ray, docs/roles/"
                "ray_cleanup.md), or set a larger ray_temp_size_gib"
            )
    elif ray.mount_point == "/":
        yield (
            f"{host_name}: {ray_temp_dir}: on the root file system, which Ray's logs and spilled objects can fill; set "
            "ray_temp_size_gib, or another ray_temp_dir"
        )
    for _, group in groupby(sorted(disks, key=lambda disk: disk.device), key=lambda disk: disk.device):
        disk = next(group)
        if disk.errors and not disk.read_only:
            yield (
                f"{host_name}: {disk.mount_point}: {disk.errors} errors of the file system since its last fsck; look "
                f"at journalctl -k, check the drive, fsck {disk.source} unmounted"
            )
    for drive, paths in _drives(disks):
        for what in drives.worn(drive):
            yield f"{host_name}: {drive.title}, under {paths}: SMART reports {what}; plan to replace it"


def _drives(disks: Sequence[Disk]) -> Iterator[tuple[Drive, str]]:
    """Each drive once, with the paths that are on it."""
    by_name = {drive.name: drive for disk in disks for drive in disk.drives}
    for name, drive in sorted(by_name.items()):
        yield drive, ", ".join(disk.path for disk in disks if name in {each.name for each in disk.drives})


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB"
