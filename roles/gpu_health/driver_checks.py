"""Checks of the PCI bus, the driver and its services. Pure: no pyinfra."""

from collections.abc import Iterator

from roles.gpu_health.document import LIB_RM_VERSION_MISMATCH
from roles.gpu_health.expected import HOST, Problem, Seen
from roles.nvidia_driver.versions import upstream


def pci_count(seen: Seen) -> Iterator[Problem]:
    if seen.health.gpus_on_bus < seen.expected.gpus:
        yield HOST, f"{seen.health.gpus_on_bus} GPUs on the PCI bus, {seen.expected.gpus} declared"


def pci_silent(seen: Seen) -> Iterator[Problem]:
    for device in seen.health.pci:
        if device.responds is False:
            kind = "GPU" if device.kind == "gpu" else "NVSwitch"
            yield HOST, f"{kind} {device.address} has fallen off the bus (it reads as all ones)"


def nouveau(seen: Seen) -> Iterator[Problem]:
    if seen.health.nouveau:
        yield HOST, "nouveau is loaded and keeps NVIDIA's driver away"


def driver(seen: Seen) -> Iterator[Problem]:
    if seen.health.driver_absent and not seen.health.nvml.hung:
        yield HOST, f"no NVIDIA driver is loaded ({seen.health.nvml.failure})"


def driver_mismatch(seen: Seen) -> Iterator[Problem]:
    library = seen.health.nvml.library_version or "of another version"
    loaded = seen.health.module_version or seen.health.nvml.driver_version
    differ = bool(seen.health.nvml.library_version and loaded and seen.health.nvml.library_version != loaded)
    if differ or seen.health.nvml.code == LIB_RM_VERSION_MISMATCH:
        yield HOST, f"kernel module {loaded}, library {library}"


def nvml(seen: Seen) -> Iterator[Problem]:
    known = seen.health.nvml.code == LIB_RM_VERSION_MISMATCH
    if seen.health.nvml.failure is not None and not known and (seen.health.nvml.hung or not seen.health.driver_absent):
        yield HOST, seen.health.nvml.failure


def reboot_pending(seen: Seen) -> Iterator[Problem]:
    if seen.health.reboot_required:
        yield HOST, "a package asks for a reboot (/run/reboot-required)"


def fabric_manager(seen: Seen) -> Iterator[Problem]:
    if not seen.health.has_nvswitch:
        return
    manager = seen.health.fabric_manager
    wanted = seen.health.module_version or seen.health.nvml.driver_version
    if manager is None or manager.version is None:
        yield HOST, "this host has NVSwitches and no fabric manager"
    elif wanted is not None and upstream(manager.version) != wanted:
        yield HOST, f"fabric manager {upstream(manager.version)}, driver {wanted}"
    elif manager.service != "active":
        yield HOST, f"nvidia-fabricmanager.service is {manager.service or 'unknown'}"


def pcie_width(seen: Seen) -> Iterator[Problem]:
    for device in seen.health.pci:
        if device.kind == "gpu" and device.link_width and device.link_width < (device.link_width_max or 0):
            yield HOST, f"GPU {device.address} uses {device.link_width} of {device.link_width_max} PCIe lanes"
