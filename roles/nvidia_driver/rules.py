"""What forbids to install a driver on a host, told before any package is touched. Pure: no pyinfra."""

from collections.abc import Iterator

from roles.nvidia_driver.info import DriverInfo, PciDevice
from roles.nvidia_driver.plan import MACHINES, NVIDIA_KEYS, Driver, complete, plan, repository_of
from roles.nvidia_driver.versions import DriverVersion, too_old_for

GIB = 2**30
SOURCES_FILE = "/etc/apt/sources.list.d/rayrack-nvidia.sources"
# An initial RAM disk is written anew beside the old one.
MIN_FREE_GIB_BOOT = 0.15

# NVIDIA hands out PCI device ids by generation (the PCI ID Repository, https://pci-ids.ucw.cz/read/PC/10de): Turing
# begins at 1e00, Blackwell at 2900. Open modules need Turing or newer, and Blackwell needs open modules (NVIDIA Driver
# Installation Guide, "Kernel modules").
TURING, BLACKWELL = 0x1E00, 0x2900
LAST_BRANCH_BEFORE_TURING = 580
FIRST_BRANCH_WITHOUT_PROPRIETARY = 620


def problems(host_name: str, info: DriverInfo | None, driver: Driver | None) -> list[str]:
    """Everything that forbids to give this host its driver, one line each.

    None for ``info``: the host could not be looked at, which the preflight tells.
    """
    if info is None or driver is None or not info.gpus:
        return []
    if info.distribution not in NVIDIA_KEYS or info.machine not in MACHINES:
        return []  # the preflight refuses such a host
    lines = list(_version(info, driver))
    # A driver that is there and loaded has shown that it works here.
    wanted = plan(info, driver)
    installed = wanted is not None and complete(info.packages, wanted)
    if not installed:
        lines += _host(info, driver)
    if not (installed and info.loaded_version == driver.version) and info.secure_boot and not info.module_key_enrolled:
        lines.append(
            "Secure Boot is on and would refuse the modules that dkms builds: switch it off in the firmware, or enroll "
            "dkms's key (mokutil --import /var/lib/dkms/mok.pub, reboot, confirm on the console)"
        )
    return [f"{host_name}: {line}" for line in lines]


def problems_of_existing(host_name: str, info: DriverInfo | None, cuda: str | None) -> list[str]:
    """What forbids to leave a host's driver alone: it is too old for the runtime's ``cuda`` (None: any will do)."""
    if info is None or cuda is None or not info.gpus or info.loaded_version is None:
        return []
    needed = too_old_for(info.loaded_version, cuda)
    if needed is None:
        return []
    return [
        f"{host_name}: driver {info.loaded} is loaded and too old for the runtime's CUDA {cuda}, which needs driver "
        f"{needed} or newer; nvidia_driver_version is null, which leaves it alone: set a version, or update it yourself"
    ]


def _version(info: DriverInfo, driver: Driver) -> Iterator[str]:
    needed = too_old_for(driver.version, driver.cuda) if driver.cuda else None
    if needed:
        yield (
            f"driver {driver.version} is too old for the runtime's CUDA {driver.cuda}, which needs driver {needed} or "
            "newer; set another nvidia_driver_version"
        )
    for device in info.gpus:
        if line := _generation(device, driver.version, is_open=driver.modules == "open"):
            yield line
            return
    if driver.modules == "proprietary" and driver.version.branch >= FIRST_BRANCH_WITHOUT_PROPRIETARY:
        yield f"driver {driver.version} has no proprietary kernel modules any more; set nvidia_kernel_modules to open"


def _generation(device: PciDevice, version: DriverVersion, *, is_open: bool) -> str | None:
    number = int(device.device, 16)
    gpu = f"the GPU at {device.address} (10de:{device.device})"
    if number >= BLACKWELL and not is_open:
        return f"{gpu} is a Blackwell or newer and needs the open kernel modules; set nvidia_kernel_modules to open"
    if number < TURING and version.branch > LAST_BRANCH_BEFORE_TURING:
        return f"{gpu} is older than Turing, and {LAST_BRANCH_BEFORE_TURING} is the last branch for it, not {version}"
    if number < TURING and is_open:
        return f"{gpu} is older than Turing, which open kernel modules need; set nvidia_kernel_modules to proprietary"
    return None


def _host(info: DriverInfo, driver: Driver) -> Iterator[str]:
    if info.run_file:
        yield (
            f"a driver from NVIDIA's .run file is there ({', '.join(info.run_file)}), which packages would overwrite "
            "in part: remove it (nvidia-uninstall), reboot, deploy again"
        )
    if not info.headers and not info.headers_candidate and info.apt_lists:
        yield (
            f"no headers for the running kernel {info.kernel} (linux-headers-{info.kernel}): the driver's module "
            "cannot be built; bring the kernel up to date (apt-get update, apt-get dist-upgrade, reboot)"
        )
    repository = repository_of(info, driver)
    for source in info.apt_sources:
        is_ours = source.file == SOURCES_FILE
        if repository and not is_ours and source.uri.rstrip("/") == repository.uri.rstrip("/"):
            yield (
                f"{source.file} names {source.uri}, too, and apt refuses a repository with two keys: remove it "
                "(apt-get purge cuda-keyring, or the file)"
            )
    yield from _space(info, driver.min_free_gib)


def _space(info: DriverInfo, min_free_gib: float) -> Iterator[str]:
    told = set()
    for space in info.free:
        needed, setting = (MIN_FREE_GIB_BOOT, "") if space.path == "/boot" else (min_free_gib, " (min_free_gib_driver)")
        if space.free_bytes < needed * GIB and space.mount_point not in told:
            told.add(space.mount_point)
            has = f"{space.free_bytes / GIB:.2f} GiB free"
            yield f"{space.mount_point}: {has}, {needed:g} GiB needed for a driver{setting}; free space"
