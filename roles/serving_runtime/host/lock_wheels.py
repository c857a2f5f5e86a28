"""A lock and the wheels it pins. Standard library only: the host programs and the operator's wheelhouse share it.

A lock is a requirements file as uv writes it: ``name==version`` lines, each followed by its ``--hash=sha256:`` lines.
"""

import hashlib
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MACHINE = platform.machine()
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)(?P<rest>(?:.*\\\n)*.*)", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Pin:
    """One requirement of a lock; ``hashes`` are the SHA-256 sums of the files that may satisfy it."""

    name: str
    version: str
    hashes: frozenset[str]

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"

    def requirement(self) -> str:
        """The pin as a line of a requirements file."""
        return f"{self} " + " ".join(f"--hash=sha256:{value}" for value in sorted(self.hashes))


@dataclass(frozen=True)
class Wheels:
    """What a directory holds of a lock: a file per pin, and one line per pin that has none."""

    files: dict[str, Path]
    problems: tuple[str, ...]


def digest(lock_text: str) -> str:
    """The name of the runtime a lock describes: 16 hexadecimal digits of the SHA-256 of its text."""
    return hashlib.sha256(lock_text.encode()).hexdigest()[:16]


def read_lock(lock_text: str) -> tuple[Pin, ...]:
    """The pins of a lock, in its order."""
    return tuple(
        Pin(normal_name(match["name"]), match["version"], frozenset(_HASH.findall(match["rest"])))
        for match in _PIN.finditer(lock_text)
    )


def normal_name(name: str) -> str:
    """A distribution's name in the one spelling that compares equal (packaging specification, name normalization)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def find_wheels(pins: Sequence[Pin], directory: Path, python_minor: str) -> Wheels:
    """Match ``pins``, by SHA-256, with the wheels in ``directory`` that a host with this Python (``3.11``) can use."""
    wheels = [path for path in sorted(directory.glob("*.whl")) if _fits(path, python_minor)]
    by_sum = {sha256(path): path for path in wheels}
    files: dict[str, Path] = {}
    problems: list[str] = []
    for pin in pins:
        path = next((by_sum[value] for value in sorted(pin.hashes) if value in by_sum), None)
        if path is not None:
            files[pin.name] = path
        else:
            problems.append(_why_absent(pin, wheels))
    return Wheels(files, tuple(problems))


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fits(wheel: Path, python_minor: str) -> bool:
    """Whether the tags in the file name allow it on such a host (binary distribution format, file name convention)."""
    python_tags, abi, platform_tag = wheel.stem.split("-")[-3:]
    tags = python_tags.split(".")
    own = "cp" + python_minor.replace(".", "")
    if abi == "abi3":  # stable since the version it names
        python_fits = any(tag.startswith("cp3") and int(tag[3:]) <= int(own[3:]) for tag in tags)
    elif abi == "none":
        python_fits = own in tags or any(tag.startswith("py3") for tag in tags)
    else:
        python_fits = abi == own
    return python_fits and (platform_tag == "any" or ("linux" in platform_tag and platform_tag.endswith(MACHINE)))


def _why_absent(pin: Pin, wheels: Sequence[Path]) -> str:
    for path in wheels:
        name, version = path.name.split("-")[:2]  # binary distribution format: {name}-{version}(-...)*.whl
        if (normal_name(name), version) == (pin.name, pin.version):
            return f"hash mismatch: {path} is not the {pin} that the lock pins"
    return f"missing wheel: {pin}"
