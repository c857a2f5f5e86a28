"""Hosts and drivers for the tests of the decisions: each as usual, but for what a test says."""

from dataclasses import replace
from typing import Any

from roles.nvidia_driver.info import DriverInfo, FreeSpace, Package, PciDevice
from roles.nvidia_driver.plan import Driver, Plan, plan
from roles.nvidia_driver.versions import DriverVersion

V = "580.126.20"
H100 = PciDevice("0000:17:00.0", "2330", "0302")
B200 = PciDevice("0000:17:00.0", "2901", "0302")
V100 = PciDevice("0000:17:00.0", "1db1", "0302")
NVSWITCH = PciDevice("0000:c1:00.0", "22a3", "0680")

# A fresh Debian 12 with one H100.
FRESH = DriverInfo(
    distribution="debian12",
    machine="x86_64",
    kernel="6.1.0-39-amd64",
    devices=(H100,),
    kernel_packages=("linux-image-6.1.0-39-amd64", "linux-image-amd64"),
    headers_candidate=True,
    apt_lists=True,
    free=tuple(FreeSpace(path, "/", 50 * 2**30) for path in ("/usr", "/var", "/boot")),
)
NAMES = ("nvidia-kernel-open-dkms", "nvidia-driver-cuda", "libcuda1", "libnvidia-ml1", "nvidia-persistenced")


def version(text: str) -> DriverVersion:
    found = DriverVersion.parse(text)
    assert found is not None
    return found


def driver(**changes: Any) -> Driver:
    usual = Driver(version(V), "open", "nvidia", None, None, None, "13.0", 4)
    return replace(usual, **changes)


def installed(text: str, *, held: bool = True, names: tuple[str, ...] = NAMES) -> dict[str, Package]:
    return {name: Package(f"{text}-1", held) for name in names}


def at_work(text: str = V, **changes: Any) -> DriverInfo:
    """A host with a driver, loaded."""
    usual = replace(FRESH, packages=installed(text), loaded=text, loaded_open=True, headers=True)
    return replace(usual, kernel_packages=(*FRESH.kernel_packages, "linux-headers-amd64"), **changes)


def planned(info: DriverInfo = FRESH, **changes: Any) -> Plan:
    found = plan(info, driver(**changes))
    assert found is not None
    return found
