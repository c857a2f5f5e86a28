"""What the storage role reads from a host."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from pyinfra.api.facts import FactBase

from roles.storage.drives import Drive
from roles.storage.ray_disk import RayDisk
from roles.storage.rules import Disk

HOST = Path(__file__).parent / "host"
PROGRAM = HOST / "disk_usage.py"
# The distribution's own, which host programs run with; -I and -S keep the host's Python settings and packages out.
PYTHON = "/usr/bin/python3"
LOOK_LIMIT_S = 180


def bounded(command: str) -> str:
    """A command that looks at disks, ended when it hangs, as all do on a network mount without its server."""
    hung = (
        f"a disk or a mount does not answer within {LOOK_LIMIT_S} s: look for a network mount whose server is gone "
        "(/proc/mounts) and for processes in state D (ps), mend or unmount it, deploy again"
    )
    # What timeout(1) ends with when it had to end the command, and when it had to kill it.
    say = f"case $? in 124|137) echo {shlex.quote(hung)} >&2;; esac; false"
    return f"{{ timeout -k 5 {LOOK_LIMIT_S} {command} || {{ {say}; }}; }}"


def command(paths: Sequence[str]) -> str:
    """The shell command that prints :func:`parse`'s line."""
    return bounded(f"{PYTHON} -ISc {shlex.quote(PROGRAM.read_text())} {shlex.join(paths)}")


def parse(line: str) -> tuple[Disk, ...]:
    return tuple(
        Disk(**{**entry, "drives": tuple(Drive(**drive) for drive in entry["drives"])}) for entry in json.loads(line)
    )


def ray_disk_arguments(disk: RayDisk) -> str:
    """The options of ``ray_disk``, quoted for a shell."""
    size = str(disk.size_gib)
    return shlex.join(
        ["--image", disk.image, "--size-gib", size, "--mount-point", disk.mount_point, "--unit", disk.unit]
    )


class Disks(FactBase[tuple[Disk, ...]]):
    """The file system that each path is, or would be, on."""

    def command(self, paths: Sequence[str]) -> str:
        return command(paths)

    @staticmethod
    def default() -> tuple[Disk, ...]:
        return ()

    def process(self, output: Sequence[str]) -> tuple[Disk, ...]:
        return parse(output[-1])


class RayDiskPending(FactBase[list[str]]):
    """What is left to do until Ray's file system is made, as large as wanted, and mounted; one line each."""

    def command(self, disk: RayDisk) -> str:
        # Sent to the host: at the first deploy it has no programs of ours yet.
        program = (HOST / "ray_disk.py").read_text()
        return f"{PYTHON} -ISc {shlex.quote(program)} pending {ray_disk_arguments(disk)}"

    @staticmethod
    def default() -> list[str]:
        return []

    def process(self, output: Sequence[str]) -> list[str]:
        return list(output)
