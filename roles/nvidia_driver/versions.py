"""Versions of the driver, of its packages, and the CUDA that a driver can run. Pure: no pyinfra."""

import re
from dataclasses import dataclass, field
from functools import total_ordering

_VERSION = re.compile(r"[0-9]{3}\.[0-9]{1,3}(\.[0-9]{1,3})?")

# CUDA major version: the oldest driver branch that runs it. From table 1 of NVIDIA's CUDA Compatibility guide,
# https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
OLDEST_BRANCH_FOR_CUDA = {11: 450, 12: 525, 13: 580}


@total_ordering
@dataclass(frozen=True)
class DriverVersion:
    """A driver's version as NVIDIA writes it: ``580.95.05``; the first number is its branch.

    Ordered as numbers: 580.95.05 is older than 580.126.09.
    """

    text: str = field(compare=False)
    numbers: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> "DriverVersion | None":
        """None for what is not a driver's version."""
        if not _VERSION.fullmatch(text):
            return None
        return cls(text, tuple(int(part) for part in text.split(".")))

    @classmethod
    def of_package(cls, package_version: str) -> "DriverVersion | None":
        """The driver that a package of this version belongs to; None for packages with versions of their own."""
        return cls.parse(upstream(package_version))

    @property
    def branch(self) -> int:
        return self.numbers[0]

    def __lt__(self, other: "DriverVersion") -> bool:
        return self.numbers < other.numbers

    def __str__(self) -> str:
        return self.text


def upstream(package_version: str) -> str:
    """A Debian version without epoch and revision (deb-version(7)): ``1:580.95.05-0ubuntu1`` is ``580.95.05``."""
    _, _, without_epoch = package_version.rpartition(":")
    return without_epoch.rpartition("-")[0] or without_epoch


def cuda_of_lock(lock_text: str) -> str | None:
    """The CUDA version, as ``13.0``, that a runtime's lock brings; None for a lock without CUDA."""
    found = re.search(r"^nvidia-cuda-runtime(?:-cu\d+)?==(\d+\.\d+)", lock_text, re.MULTILINE)
    return found.group(1) if found else None


def too_old_for(driver: DriverVersion, cuda: str) -> int | None:
    """The oldest branch that runs this CUDA when the driver is older, else None.

    A CUDA newer than the table needs at least what the newest one in it needs.
    """
    major = int(cuda.split(".")[0])
    known = max(each for each in OLDEST_BRANCH_FOR_CUDA if each <= max(major, min(OLDEST_BRANCH_FOR_CUDA)))
    needed = OLDEST_BRANCH_FOR_CUDA[known]
    return needed if driver.branch < needed else None
