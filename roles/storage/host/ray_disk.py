#!/usr/bin/python3 -EsB
"""Gives Ray's directory a file system of its own with a fixed size: an ext4 image file, mounted by a systemd unit.

``ray_disk pending`` prints what is left to do, one line each, and changes nothing; ``ray_disk apply`` does it. An image
is made whole under another name first, grown while it is mounted, and never shrunk.

Exit status: 0 done, also when there was nothing to do; 1 refused or failed, with one line that says why.
Runs on the host as root: standard library and e2fsprogs.
"""

import argparse
import contextlib
import fcntl
import os
import pwd
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

GIB = 2**30
BLOCK_BYTES = 4096
# ext4's superblock: at byte 1024, little endian (https://docs.kernel.org/filesystems/ext4/super.html)
SUPERBLOCK_AT, SUPERBLOCK_BYTES = 1024, 1024
MAGIC = 0xEF53
SBIN = ":/usr/sbin:/sbin"  # not everybody's PATH has them
LIMIT_S = 900  # mkfs and resize2fs write some MB for each GiB; a disk under load takes its time


class RefusedError(Exception):
    """The host is not as it must be, or a program failed; the message is one line with what to do."""


@dataclass(frozen=True)
class Wanted:
    """The arguments: an image of that size, mounted on ``mount_point`` by ``unit``, its root owned by ``owner``."""

    image: Path
    size_bytes: int
    mount_point: Path
    unit: str
    owner: str


@dataclass(frozen=True)
class State:
    """What is there. Sizes in bytes; None: no image, or no ext4 in it."""

    image_bytes: int | None
    fs_bytes: int | None
    unit_changed: bool
    """The unit file is newer than what systemd has read."""
    enabled: bool
    active: bool


def pending(state: State, wanted: Wanted) -> list[str]:
    """What is left to do.

    Raises:
        RefusedError: when the image is larger than wanted, or no image of ours.
    """
    steps = []
    if state.image_bytes is None:
        steps.append(f"make {wanted.image} with {gib(wanted.size_bytes)}")
    elif state.fs_bytes is None:
        raise RefusedError(f"{wanted.image}: holds no ext4 file system; look what it is, and move it away")
    elif max(state.image_bytes, state.fs_bytes) > wanted.size_bytes:
        raise RefusedError(
            f"{wanted.image}: has {gib(state.image_bytes)} and is never shrunk, ray_temp_size_gib asks for "
            f"{gib(wanted.size_bytes)}; set at least {-(-state.image_bytes // GIB)}"
        )
    elif state.fs_bytes < wanted.size_bytes:
        steps.append(f"grow {wanted.image} from {gib(state.fs_bytes)} to {gib(wanted.size_bytes)}")
    if state.unit_changed:
        steps.append(f"have systemd read {wanted.unit}")
    if not (state.enabled and state.active):
        steps.append(f"mount it on {wanted.mount_point}, now and at every boot")
    return steps


def gib(count: int) -> str:
    return f"{count / GIB:g} GiB"


def look(wanted: Wanted) -> State:
    """Read the state of image and unit; the image's directory must be one that root alone can change."""
    check_directory(wanted.image.parent)
    image_bytes, fs_bytes = sizes(wanted.image)
    names = "ActiveState,UnitFileState,NeedDaemonReload"
    shown = dict(line.split("=", 1) for line in run("systemctl", "show", "-p", names, wanted.unit).splitlines())
    return State(
        image_bytes,
        fs_bytes,
        unit_changed=shown["NeedDaemonReload"] == "yes",
        enabled=shown["UnitFileState"] == "enabled",
        active=shown["ActiveState"] == "active",
    )


def check_directory(directory: Path) -> None:
    """Whoever may write there could put another file in the image's place, and root would mount it."""
    try:
        status = directory.stat()
    except OSError as error:
        raise RefusedError(f"{directory}: {error.strerror}; make it, or set another ray_temp_image") from None
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
        raise RefusedError(f"{directory}: not only root can write there; set ray_temp_image to another directory")


def sizes(image: Path) -> tuple[int | None, int | None]:
    """Bytes of the image file and of the ext4 file system in it.

    Raises:
        RefusedError: when something else stands there than a file of root's.
    """
    try:
        descriptor = os.open(image, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None, None
    except OSError as error:
        raise RefusedError(f"{image}: {error.strerror}; remove it, or set another ray_temp_image") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in (0, os.geteuid()):
            raise RefusedError(f"{image}: not a file of root's; remove it, or set another ray_temp_image")
        return status.st_size, fs_size(os.pread(descriptor, SUPERBLOCK_BYTES, SUPERBLOCK_AT))
    finally:
        os.close(descriptor)


def fs_size(superblock: bytes) -> int | None:
    """Bytes of an ext4 file system, from its superblock; None when it is none."""
    if len(superblock) < SUPERBLOCK_BYTES or struct.unpack_from("<H", superblock, 0x38)[0] != MAGIC:
        return None
    low, log_block = struct.unpack_from("<I", superblock, 0x04)[0], struct.unpack_from("<I", superblock, 0x18)[0]
    wide = struct.unpack_from("<I", superblock, 0x60)[0] & 0x80  # INCOMPAT_64BIT: the upper half counts
    high = struct.unpack_from("<I", superblock, 0x150)[0] if wide else 0
    return int(low + (high << 32)) * (1024 << int(log_block))


def apply(wanted: Wanted) -> Iterator[str]:
    """Do what is pending; yields each step when it is done."""
    with alone(wanted.image.parent):
        state = look(wanted)
        steps = pending(state, wanted)
        if state.image_bytes is None:
            make(wanted)
        elif state.fs_bytes is not None and state.fs_bytes < wanted.size_bytes:
            grow(wanted, state.image_bytes)
        if state.unit_changed:
            run("systemctl", "daemon-reload")
        if not (state.enabled and state.active):
            run("systemctl", "enable", "--quiet", wanted.unit)
            mount(wanted)
        if left := pending(look(wanted), wanted):
            raise RefusedError(f"{wanted.image}: this did not last: {'; '.join(left)}")
        yield from steps


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Two deploys at once would make, or grow, one image together."""
    check_directory(directory)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise RefusedError(f"{directory}: another ray_disk is at work; deploy again when it is done") from None
    finally:
        os.close(descriptor)


def make(wanted: Wanted) -> None:
    """The image under a name of its own until it is whole: what is left by an interrupted run is made anew."""
    new = wanted.image.with_name(f"{wanted.image.name}.new")
    new.unlink(missing_ok=True)
    try:
        account = pwd.getpwnam(wanted.owner)
    except KeyError:
        raise RefusedError(f"no user {wanted.owner} on this host; a deploy makes it") from None
    options = f"nodiscard,root_owner={account.pw_uid}:{account.pw_gid}"  # a discard would give the reserved room back
    try:
        reserve(new, wanted.size_bytes)
        # No blocks kept back for root: nobody but Ray writes there.
        run("mkfs.ext4", "-q", "-F", "-m", "0", "-b", str(BLOCK_BYTES), "-L", "rayrack-ray", "-E", options, str(new))
        new.rename(wanted.image)
    finally:
        new.unlink(missing_ok=True)


def grow(wanted: Wanted, image_bytes: int) -> None:
    """The file, then the loop device that has it open, then the file system; mounted or not."""
    reserve(wanted.image, wanted.size_bytes, now_bytes=image_bytes)
    device = loop_device(wanted.image)
    if device is None:
        run("e2fsck", "-f", "-p", str(wanted.image), accept=(0, 1))  # 1: errors corrected (e2fsck(8))
        run("resize2fs", str(wanted.image))
        return
    run("losetup", "--set-capacity", device)
    try:
        run("resize2fs", device)
    except RefusedError as error:  # while it is mounted it takes CAP_SYS_RESOURCE, which a container may lack
        raise RefusedError(
            f"{error}; or grow it unmounted: systemctl stop rayrack.target {wanted.unit}, and deploy again"
        ) from None
    run("sync", "--file-system", str(wanted.mount_point))  # so that the image file shows the new size


def reserve(file: Path, size_bytes: int, now_bytes: int = 0) -> None:
    """Make a file that large with all its blocks on the disk, or leave it as it was."""
    fs = os.statvfs(file.parent)
    free = fs.f_bavail * fs.f_frsize
    if free < size_bytes - now_bytes:
        raise RefusedError(
            f"{file.parent}: {free / GIB:.1f} GiB free, {gib(size_bytes - now_bytes)} more needed for {file.name}; "
            "free space, or set a smaller ray_temp_size_gib or another ray_temp_image"
        )
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError as error:
        os.ftruncate(descriptor, now_bytes)
        raise RefusedError(f"{file}: cannot have {gib(size_bytes)}: {error.strerror}") from None
    finally:
        os.close(descriptor)


def loop_device(image: Path) -> str | None:
    """The loop device that has the image open."""
    return run("losetup", "--noheadings", "--output", "NAME", "--associated", str(image)).strip() or None


def mount(wanted: Wanted) -> None:
    try:
        run("systemctl", "start", wanted.unit)
    except RefusedError:
        said = run("journalctl", "-u", wanted.unit, "-n", "20", "-o", "cat", "--no-pager", "-t", "mount").splitlines()
        why = said[-1].strip() if said else f"see journalctl -u {wanted.unit}"
        raise RefusedError(f"{wanted.mount_point}: {wanted.image} could not be mounted: {why}") from None


def run(*command: str, accept: tuple[int, ...] = (0,)) -> str:
    """A program's output.

    Raises:
        RefusedError: with the last line that it said, when it is missing, fails or takes too long.
    """
    environment = {**os.environ, "PATH": os.environ.get("PATH", "/usr/bin:/bin") + SBIN, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL, env=environment
        )
    except FileNotFoundError:
        raise RefusedError(f"no program {command[0]} on this host; a deploy installs e2fsprogs") from None
    except subprocess.TimeoutExpired:
        raise RefusedError(f"{' '.join(command)}: not done after {LIMIT_S} s") from None
    if done.returncode not in accept:
        said = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        raise RefusedError(f"{' '.join(command)}: exit status {done.returncode}: {said}")
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description="Ray's directory on a file system of its own.")
    parser.add_argument("command", choices=["pending", "apply"])
    parser.add_argument("--image", required=True, type=Path)
    parser.add_argument("--size-gib", required=True, type=int)
    parser.add_argument("--mount-point", required=True, type=Path)
    parser.add_argument("--unit", required=True, help="the .mount unit of the mount point")
    parser.add_argument("--owner", default="rayrack", help="who owns the root of a new file system")
    options = parser.parse_args()
    wanted = Wanted(options.image, options.size_gib * GIB, options.mount_point, options.unit, options.owner)
    try:
        for step in pending(look(wanted), wanted) if options.command == "pending" else apply(wanted):
            print(step)
    except (RefusedError, OSError) as error:
        print(f"ray_disk: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
