"""The locks: one per runtime, machine and Python minor version. `make lock` makes them again.

Versions have their home in locks/cuda.in and locks/cpu.in; a lock adds everything those need, each file with its
SHA-256. They are no extras of pyproject.toml: `uv sync` resolves all extras together, and these two exclude each other.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from roles.errors import InputError

Runtime = Literal["cuda", "cpu"]
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
PYTHON_VERSIONS = ("3.11", "3.12", "3.13")
MACHINE = "x86_64"

LOCKS = Path(__file__).parent / "locks"


@dataclass(frozen=True)
class Lock:
    """A lock file; ``digest`` names the runtime made from it on a host."""

    path: Path
    digest: str


def lock_for(runtime: Runtime, machine: str, python_version: str) -> Lock:
    """The lock for a host: ``machine`` as `uname -m` says, ``python_version`` of its /usr/bin/python3 (`3.11.2`)."""
    minor = ".".join(python_version.split(".")[:2])
    path = path_of(runtime, minor, machine)
    if path.is_file():
        return Lock(path, digest_of(path))
    if machine != MACHINE or minor not in PYTHON_VERSIONS:
        supported = f"{MACHINE} with Python {', '.join(PYTHON_VERSIONS)}"
        raise InputError(f"no {runtime} runtime for {machine} with Python {minor}: hosts may be {supported}")
    command = f"python -m roles.serving_runtime.make_locks --runtime {runtime} --python {minor}"
    raise InputError(f"no lock {path.name}: make it with `{command}`")


def path_of(runtime: Runtime, python_minor: str, machine: str = MACHINE) -> Path:
    return LOCKS / f"{runtime}-linux-{machine}-py{python_minor.replace('.', '')}.txt"


def digest_of(path: Path) -> str:
    """16 hexadecimal digits of the SHA-256 of the lock's text; the host program computes the same."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def requirements_of(runtime: Runtime) -> Path:
    """What a runtime's locks are made from."""
    return LOCKS / f"{runtime}.in"


def pins(runtime: Runtime) -> dict[str, str]:
    """The versions that are chosen by us: name and version of every ``==`` in the runtime's requirements."""
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)$", requirements_of(runtime).read_text(), re.MULTILINE)
    return dict(found)
