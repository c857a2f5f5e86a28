"""What was found on a host about its GPUs and their driver. Pure: no pyinfra."""

import json
from dataclasses import dataclass, field

from roles.nvidia_driver.versions import DriverVersion

# PCI base class and subclass (PCI Code and ID Assignment Specification): VGA and 3D controllers are GPUs; NVIDIA's
# NVSwitches show as "bridge, other".
GPU_CLASSES = ("0300", "0302")
NVSWITCH_CLASS = "0680"


@dataclass(frozen=True)
class PciDevice:
    """An NVIDIA device on the PCI bus; ids in lower-case hexadecimal."""

    address: str
    device: str
    pci_class: str
    """Base class and subclass: ``0302``."""

    @property
    def is_gpu(self) -> bool:
        return self.pci_class in GPU_CLASSES

    @property
    def is_nvswitch(self) -> bool:
        return self.pci_class == NVSWITCH_CLASS


@dataclass(frozen=True)
class Package:
    """An installed package."""

    version: str
    held: bool = False


@dataclass(frozen=True)
class FreeSpace:
    path: str
    mount_point: str
    free_bytes: int


@dataclass(frozen=True)
class AptSource:
    """A repository that the host's apt knows already."""

    file: str
    uri: str


@dataclass(frozen=True)
class DriverInfo:
    """A host as the role found it."""

    distribution: str = ""
    """As NVIDIA names repositories: ``debian12``, ``ubuntu2404``."""
    machine: str = ""
    kernel: str = ""
    """The running one, as ``uname -r`` says."""
    devices: tuple[PciDevice, ...] = ()
    packages: dict[str, Package] = field(default_factory=dict)
    """NVIDIA's driver packages that are installed."""
    kernel_packages: tuple[str, ...] = ()
    """Installed ``linux-image-*`` and ``linux-headers-*``, the versionless ones (``linux-image-amd64``) among them."""
    loaded: str | None = None
    """The version of the kernel module that is loaded."""
    loaded_open: bool | None = None
    nouveau: bool = False
    headers: bool = False
    """The running kernel's headers are installed."""
    headers_candidate: bool = False
    """apt could install them."""
    apt_lists: bool = False
    """apt has ever fetched its lists, so that what it says of candidates counts."""
    secure_boot: bool = False
    module_key_enrolled: bool = False
    """The key that dkms signs modules with is one that the firmware trusts."""
    run_file: tuple[str, ...] = ()
    """Programs that NVIDIA's ``.run`` installer leaves and no package owns."""
    apt_sources: tuple[AptSource, ...] = ()
    free: tuple[FreeSpace, ...] = ()

    @property
    def gpus(self) -> tuple[PciDevice, ...]:
        return tuple(device for device in self.devices if device.is_gpu)

    @property
    def has_nvswitch(self) -> bool:
        return any(device.is_nvswitch for device in self.devices)

    @property
    def loaded_version(self) -> DriverVersion | None:
        return DriverVersion.parse(self.loaded) if self.loaded else None

    @classmethod
    def parse(cls, line: str) -> "DriverInfo":
        values = json.loads(line)
        values["devices"] = tuple(PciDevice(**entry) for entry in values["devices"])
        values["packages"] = {name: Package(**entry) for name, entry in values["packages"].items()}
        values["apt_sources"] = tuple(AptSource(**entry) for entry in values["apt_sources"])
        values["free"] = tuple(FreeSpace(**entry) for entry in values["free"])
        for name in ("kernel_packages", "run_file"):
            values[name] = tuple(values[name])
        return cls(**values)
