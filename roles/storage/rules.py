"""What a host's disks must be like before anything is put on them. Pure: no pyinfra."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

GIB = 2**30
# Who may own a directory that rayrack takes over: the service user, or root before the first deploy.
TRUSTED_OWNERS = frozenset({"rayrack", "root"})


@dataclass(frozen=True)
class Disk:
    """A path and the file system it is on, or would be made on. Sizes in bytes, as df(1) counts them."""

    path: str
    kind: str
    """Of the path itself: ``directory``, ``link``, ``other`` or ``absent``."""
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


def problems(host_name: str, disks: Iterable[Disk], needs: Sequence[Need], used_max_percent: int) -> list[str]:
    """One line per file system that is read-only, too full, short of inodes, or too small for all that goes on it."""
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
    if disk.read_only:
        yield f"{where}: mounted read-only, and {paths} must be written; mount {disk.mount_point} read-write"
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
    with_setting = [(need, need.setting) for need in needs if need.setting is not None and need.gib]
    wanted = sum(need.gib for need, _ in with_setting)
    if disk.free_bytes < wanted * GIB:
        if len(with_setting) == 1:
            why, remedy = with_setting[0][1], f"set another {with_setting[0][1]}"
        else:
            why = ", ".join(f"{setting} {need.gib:g} for {need.path}" for need, setting in with_setting)
            remedy = "lower these settings"
        yield f"{where}: {_gib(disk.free_bytes)} free, {wanted:g} GiB needed ({why}); free space or {remedy}"


def directory_problem(host_name: str, setting: str, disk: Disk) -> str | None:
    """Why a directory that rayrack takes over cannot be trusted; None when it can, or does not exist yet."""
    if disk.kind == "absent":
        return None
    where = f"{host_name}: {disk.path}"
    if disk.kind != "directory":
        what = "a symbolic link" if disk.kind == "link" else "not a directory"
        return f"{where}: is {what}; remove it or set another {setting}"
    if disk.owner not in TRUSTED_OWNERS:
        return (
            f"{where}: belongs to {disk.owner}, who could read or replace what the services keep there; "
            f"remove it or set another {setting}"
        )
    return None


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB"
