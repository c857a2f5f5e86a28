"""What the storage role reads from a host."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from pyinfra.api.facts import FactBase

from roles.storage.rules import Disk

PROGRAM = Path(__file__).parent / "host" / "disk_usage.py"
# The distribution's own, which host programs run with; -I and -S keep the host's Python settings and packages out.
PYTHON = "/usr/bin/python3"


def command(paths: Sequence[str]) -> str:
    """The shell command that prints :func:`parse`'s line."""
    return f"{PYTHON} -ISc {shlex.quote(PROGRAM.read_text())} {shlex.join(paths)}"


def parse(line: str) -> tuple[Disk, ...]:
    return tuple(Disk(**entry) for entry in json.loads(line))


class Disks(FactBase[tuple[Disk, ...]]):
    """The file system that each path is, or would be, on."""

    def command(self, paths: Sequence[str]) -> str:
        return command(paths)

    @staticmethod
    def default() -> tuple[Disk, ...]:
        return ()

    def process(self, output: Sequence[str]) -> tuple[Disk, ...]:
        return parse(output[-1])
