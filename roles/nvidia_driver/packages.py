"""Which packages make a driver, by distribution and repository. Pure: no pyinfra.

``a | b`` means whichever of the two the repository has at the wanted version: NVIDIA has renamed packages from branch
590 on, https://docs.nvidia.com/datacenter/tesla/driver-installation-guide/ ("Recent updates", "Compute-only system").
"""

import re
from dataclasses import dataclass
from typing import Literal

# Of one kernel: linux-image-6.1.0-39-amd64, linux-image-unsigned-6.8.0-85-generic. 24.04 is a release.
KERNEL_VERSION = re.compile(r"-\d+\.\d+\.\d+")

Modules = Literal["open", "proprietary"]
Source = Literal["nvidia", "distribution"]


@dataclass(frozen=True)
class DriverPackages:
    """The packages of one driver for compute, without anything of a desktop."""

    exact: tuple[str, ...]
    """Of exactly the driver's version."""
    others: tuple[str, ...]
    """Whose version is the repository's business: Debian's nvidia-persistenced has a version of its own."""
    unwanted: tuple[str, ...]
    """The kernel modules of the other kind."""
    services: tuple[str, ...]


def driver_packages(
    distribution: str, source: Source, modules: Modules, branch: int, *, fabric_manager: bool
) -> DriverPackages:
    """For ``debian12``, ``debian13`` or ``ubuntu2404``."""
    kernel = _kernel_packages(distribution, source, branch)
    fabric = (f"nvidia-fabricmanager | nvidia-fabricmanager-{branch}",) if fabric_manager else ()
    exact, others = _userland(distribution, source, branch)
    other_kind: Modules = "proprietary" if modules == "open" else "open"
    return DriverPackages(
        exact=(kernel[modules], *exact, *fabric),
        others=others,
        unwanted=tuple(kernel[other_kind].split(" | ")),
        services=("nvidia-persistenced.service", *(("nvidia-fabricmanager.service",) if fabric_manager else ())),
    )


def _kernel_packages(distribution: str, source: Source, branch: int) -> dict[Modules, str]:
    if distribution.startswith("debian"):
        open_package = "nvidia-kernel-open-dkms" if source == "nvidia" else "nvidia-open-kernel-dkms"
        return {"open": open_package, "proprietary": "nvidia-kernel-dkms"}
    if source == "nvidia":
        return {
            "open": f"nvidia-dkms-{branch}-open | nvidia-dkms-open",
            "proprietary": f"nvidia-dkms-{branch} | nvidia-dkms",
        }
    # Ubuntu builds its fabric manager for the -server flavour alone.
    return {"open": f"nvidia-dkms-{branch}-server-open", "proprietary": f"nvidia-dkms-{branch}-server"}


def _userland(distribution: str, source: Source, branch: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if distribution.startswith("debian"):
        programs = "nvidia-driver-cuda | nvidia-smi" if source == "nvidia" else "nvidia-smi"
        return (programs, "libcuda1"), ("nvidia-persistenced",)
    names = ("libnvidia-compute", "nvidia-utils", "nvidia-compute-utils")  # the last one holds nvidia-persistenced
    if source == "nvidia":
        return tuple(f"{name}-{branch} | {name}" for name in names), ()
    return tuple(f"{name}-{branch}-server" for name in names), ()


def headers(kernel: str, kernel_packages: tuple[str, ...]) -> tuple[str, ...]:
    """The running kernel's headers, and the packages that bring those of kernels to come.

    A host with ``linux-image-amd64`` gets ``linux-headers-amd64``, one with ``linux-image-generic`` its like.
    """
    metas = [name for name in kernel_packages if name.startswith("linux-image") and not KERNEL_VERSION.search(name)]
    return (f"linux-headers-{kernel}", *(name.replace("linux-image", "linux-headers", 1) for name in sorted(metas)))
