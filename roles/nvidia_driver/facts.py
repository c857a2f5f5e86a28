"""What the driver role reads from a host."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from pyinfra.api.facts import FactBase

from roles.nvidia_driver.info import DriverInfo
from roles.nvidia_driver.plan import Known, known_versions

HOST = Path(__file__).parent / "host"
# The distribution's own; -I and -S keep the host's Python settings and packages out.
PYTHON = "/usr/bin/python3"
# What administrators, dkms (.old-dkms), dpkg (.dpkg-bak) and update-initramfs itself (.new) leave beside the images.
COPIES_OF_INITRD = ("*.bak*", "*.old*", "*.orig", "*.save", "*.new", "*.dpkg-*", "*~")


class HostDriver(FactBase[DriverInfo | None]):
    """GPUs on the PCI bus, the driver's packages and module, and what an installation would meet."""

    def command(self) -> str:
        return f"{PYTHON} -ISc {shlex.quote((HOST / 'driver_info.py').read_text())}"

    @staticmethod
    def default() -> None:
        return None

    def process(self, output: Sequence[str]) -> DriverInfo:
        return DriverInfo.parse(output[-1])


class KeyFingerprints(FactBase[tuple[str, ...]]):
    """The fingerprints of the keys in a file; ``missing``, or ``broken: WHY``, instead."""

    def command(self, path: str) -> str:
        program = (HOST / "openpgp_keys.py").read_text()
        return f"{PYTHON} -ISc {shlex.quote(program)} {shlex.quote(path)}"

    @staticmethod
    def default() -> tuple[str, ...]:
        return ()

    def process(self, output: Sequence[str]) -> tuple[str, ...]:
        return tuple(output)


class KnownVersions(FactBase[Known]):
    """The versions apt knows of some packages, newest first."""

    def command(self, names: Sequence[str]) -> str:
        return f"LC_ALL=C apt-cache madison {shlex.join(names)} 2>/dev/null || true"

    @staticmethod
    def default() -> Known:
        return {}

    def process(self, output: Sequence[str]) -> Known:
        return known_versions(output)


class StaleInitramfs(FactBase[list[str]]):
    """Initial RAM disks that are older than a file they should hold; copies, which nothing renews, are left out."""

    def command(self, path: str) -> str:
        copies = " ".join(f"! -name {shlex.quote(pattern)}" for pattern in COPIES_OF_INITRD)
        images = f"find /boot -maxdepth 1 -name 'initrd.img-*' {copies}"
        return f"{images} ! -newer {shlex.quote(path)} 2>/dev/null || true"

    @staticmethod
    def default() -> list[str]:
        return []

    def process(self, output: Sequence[str]) -> list[str]:
        return list(output)


class UnitStates(FactBase[dict[str, tuple[str, str]]]):
    """By unit: its ActiveState and its UnitFileState (org.freedesktop.systemd1(5))."""

    def command(self, units: Sequence[str]) -> str:
        return f"systemctl show --property=Id,ActiveState,UnitFileState {shlex.join(units)}"

    @staticmethod
    def default() -> dict[str, tuple[str, str]]:
        return {}

    def process(self, output: Sequence[str]) -> dict[str, tuple[str, str]]:
        found: dict[str, tuple[str, str]] = {}
        values: dict[str, str] = {}
        for line in (*output, ""):
            name, equals, value = line.partition("=")
            if equals:
                values[name] = value
            elif values:
                found[values["Id"]] = (values["ActiveState"], values["UnitFileState"])
                values = {}
        return found
