"""From the kernel module that is loaded to the one that is wanted: load it, reboot, or stop. Pure: no pyinfra."""

from dataclasses import dataclass
from typing import Literal

from roles.nvidia_driver.info import DriverInfo
from roles.nvidia_driver.packages import Modules
from roles.nvidia_driver.versions import DriverVersion

Step = Literal["nothing", "load", "reboot"]
ALLOW = "set allow_reboot (--data allow_reboot=true)"


@dataclass(frozen=True)
class NextStep:
    """How the wanted module gets into the kernel, and why."""

    step: Step
    why: str = ""


def next_step(info: DriverInfo, version: DriverVersion, modules: Modules) -> NextStep:
    """A module that is in use cannot be replaced, and nouveau cannot be made to let go of a GPU: both take a reboot."""
    if info.loaded is not None and info.loaded_version != version:
        return NextStep("reboot", f"driver {info.loaded} is loaded and {version} is wanted")
    if info.loaded is not None and info.loaded_open is (modules == "proprietary"):
        kind = "open" if info.loaded_open else "proprietary"
        return NextStep("reboot", f"the {kind} kernel modules are loaded and the {modules} ones are wanted")
    if info.nouveau:
        return NextStep("reboot", "nouveau holds the GPUs")
    return NextStep("nothing") if info.loaded else NextStep("load")


def stop_before_packages(
    info: DriverInfo, version: DriverVersion, modules: Modules, *, allow_reboot: bool
) -> str | None:
    """Why the packages must not be touched yet.

    With a driver running, new packages break every GPU process until the reboot: libraries and module no longer fit
    (NVML: "Driver/library version mismatch"). With nouveau nothing runs that could break.
    """
    found = next_step(info, version, modules)
    if allow_reboot or found.step != "reboot" or info.loaded is None:
        return None
    return (
        f"{found.why}: GPU processes would fail from the change of packages until a reboot, so nothing was changed; "
        f"to change and reboot this host, {ALLOW}"
    )


def stop_before_reboot(why: str) -> str:
    """What to do when all is installed and only the reboot is missing."""
    return f"{why} until a reboot: reboot this host and deploy again, or {ALLOW}"


def not_loaded(info: DriverInfo, version: DriverVersion) -> str | None:
    """Why the driver is not at work although everything was done; None when it is."""
    if info.loaded_version == version:
        return None
    found = f"driver {info.loaded} is loaded" if info.loaded else "no driver is loaded"
    return (
        f"{found} after the installation of {version}: `dkms status` tells whether its module was built for kernel "
        f"{info.kernel}, `dmesg | grep -i nvrm` why it does not load"
    )
