"""Operations that bring the installed driver to work: initial RAM disk, module or reboot, services."""

import shlex
from collections.abc import Generator, Sequence

from pyinfra.api.command import PyinfraCommand
from pyinfra.api.operation import operation
from pyinfra.context import host
from pyinfra.operations import server

from roles.nvidia_driver import module
from roles.nvidia_driver.apt import failing
from roles.nvidia_driver.facts import HostDriver, StaleInitramfs, UnitStates
from roles.nvidia_driver.info import DriverInfo
from roles.nvidia_driver.plan import Plan, complete

# Servers with many GPUs and much memory take a quarter of an hour to come back.
REBOOT_TIMEOUT_S = 1800

Commands = Generator[str | PyinfraCommand, None, None]


@operation()
def reboot_allowed_or_not_needed(plan: Plan, allow_reboot: bool) -> Commands:
    """
    Stop this host before its packages change when they would not fit the driver that runs.

    + plan: the driver that is wanted
    + allow_reboot: whether this host may be rebooted
    """
    info = host.get_fact(HostDriver) or DriverInfo()
    stop = module.stop_before_packages(info, plan.version, plan.modules, allow_reboot=allow_reboot)
    # With the packages there, what is missing is the reboot alone, which has its own line.
    if stop is None or complete(info.packages, plan):
        host.noop("the packages can be changed")
        return
    yield failing(stop)


@operation()
def initramfs_current(path: str) -> Commands:
    """
    Write the initial RAM disks anew that are older than a file which belongs into them.

    + path: the file
    """
    if not host.get_fact(StaleInitramfs, path=path):
        host.noop("the initial RAM disks are current")
        return
    yield "update-initramfs -u -k all"


@operation()
def module_loaded(plan: Plan, allow_reboot: bool) -> Commands:
    """
    The wanted driver in the kernel: loaded if nothing is in its way, else by a reboot.

    + plan: the driver that is wanted
    + allow_reboot: whether this host may be rebooted
    """
    info = host.get_fact(HostDriver) or DriverInfo()
    found = module.next_step(info, plan.version, plan.modules)
    if found.step == "nothing":
        host.noop(f"driver {plan.version} is loaded")
        return
    if found.step == "load":
        yield "modprobe nvidia || true"  # whether it helped is looked at below
    elif allow_reboot:
        yield from server.reboot._inner(reboot_timeout=REBOOT_TIMEOUT_S)
    else:
        yield failing(module.stop_before_reboot(found.why))
        return
    if problem := module.not_loaded(host.get_fact(HostDriver) or DriverInfo(), plan.version):
        yield failing(problem)


@operation()
def services_run(units: Sequence[str]) -> Commands:
    """
    Services that run now and after every boot.

    + units: their names
    """
    states = host.get_fact(UnitStates, units=list(units))
    # A static unit is started by a udev rule and cannot be enabled.
    disabled = [unit for unit in units if states.get(unit, ("", ""))[1] == "disabled"]
    stopped = [unit for unit in units if states.get(unit, ("", ""))[0] != "active"]
    if not disabled and not stopped:
        host.noop(f"running: {', '.join(units)}")
        return
    if disabled:
        yield f"systemctl enable --quiet {shlex.join(disabled)}"
    for unit in stopped:
        problem = f"{unit} does not start: journalctl -u {unit} tells why"
        yield f"systemctl restart {shlex.quote(unit)} || {{ {failing(problem)}; }}"
