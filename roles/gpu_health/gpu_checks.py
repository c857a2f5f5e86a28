"""Checks of the GPUs as NVML and the kernel's log describe them. Pure: no pyinfra."""

import re
from collections import Counter
from collections.abc import Iterator

from roles.gpu_health import xids
from roles.gpu_health.document import Gpu, Health, Process, Xid
from roles.gpu_health.expected import HOST, Problem, Seen

MIB = 2**20
GIB = 2**30
# Of what is declared: an 80 GB card shows 79.6 GiB, and less with ECC kept in its own memory.
MEMORY_THERE = 0.95
HARDWARE_SLOWDOWNS = {
    "hw_slowdown": "hardware slowdown",
    "hw_thermal_slowdown": "hardware slowdown for heat",
    "hw_power_brake_slowdown": "power brake",
}
# What NVML must tell of every GPU, whatever its age.
IDENTITY = ("name", "uuid", "memory_total_bytes")
# As Ray 2.60 reads a GPU's name (ray/_private/accelerators/nvidia_gpu.py): "NVIDIA H100 80GB HBM3" is an H100.
_RAY_NAME = re.compile(r"\w+\s+((?:[A-Z]+\s+)*[A-Z0-9]*\d[A-Z0-9]*)")


def ray_name(name: str) -> str:
    """Ray's accelerator name of a GPU that calls itself ``name``."""
    match = _RAY_NAME.match(name)
    return match.group(1).replace(" ", "-") if match else name.removeprefix("NVIDIA ").replace(" ", "-")


def count(seen: Seen) -> Iterator[Problem]:
    if seen.health.nvml.failure is None and len(seen.health.gpus) < max(seen.expected.gpus, seen.health.gpus_on_bus):
        yield (
            HOST,
            f"NVML knows {len(seen.health.gpus)} GPUs, {seen.health.gpus_on_bus} are on the PCI bus, "
            f"{seen.expected.gpus} declared",
        )


def extra(seen: Seen) -> Iterator[Problem]:
    found = max(len(seen.health.gpus), seen.health.gpus_on_bus)
    if found > seen.expected.gpus:
        yield HOST, f"{found} GPUs, {seen.expected.gpus} declared"


def lost(seen: Seen) -> Iterator[Problem]:
    for gpu in seen.health.gpus:
        missing = [field for field in IDENTITY if getattr(gpu, field) is None]
        if missing:
            yield str(gpu), f"does not tell its {missing[0]}: {gpu.reasons.get(missing[0], 'no reason given')}"


def model(seen: Seen) -> Iterator[Problem]:
    names = {str(gpu): ray_name(gpu.name) for gpu in seen.health.gpus if gpu.name}
    if not names:
        return
    wanted = seen.expected.gpu_model or Counter(names.values()).most_common(1)[0][0]
    for where, name in names.items():
        if name != wanted:
            yield where, f"is a {name}, {'declared is' if seen.expected.gpu_model else 'most others are'} {wanted}"


def memory(seen: Seen) -> Iterator[Problem]:
    declared = seen.expected.gpu_memory_gib
    for gpu in seen.health.gpus:
        if declared is None or gpu.memory_total_bytes is None:
            continue
        found = gpu.memory_total_bytes / GIB
        if found < declared * MEMORY_THERE:
            yield str(gpu), f"has {found:.1f} GiB, declared are {declared:g}"


def mig(seen: Seen) -> Iterator[Problem]:
    for gpu in seen.health.gpus:
        if gpu.mig is not None and gpu.mig != seen.expected.gpu_mig:
            yield str(gpu), f"MIG is {_on(gpu.mig)}, expected {_on(seen.expected.gpu_mig)}"
        elif gpu.mig_pending is not None and gpu.mig_pending != seen.expected.gpu_mig:
            yield str(gpu), f"MIG will be {_on(gpu.mig_pending)} after the next reset"


def recovery_action(seen: Seen) -> Iterator[Problem]:
    for gpu in seen.health.gpus:
        if gpu.recovery_action not in (None, "none"):
            yield str(gpu), f"the driver asks for {str(gpu.recovery_action).replace('_', ' ')}"


def xid_critical(seen: Seen) -> Iterator[Problem]:
    for error in seen.health.kernel_log.xids:
        if why := xids.critical(error):
            yield _gpu_of(seen.health, error), f"Xid {error.xid} ({why}), {_times(error)}: {error.text}"


def xid_other(seen: Seen) -> Iterator[Problem]:
    for error in seen.health.kernel_log.xids:
        if not xids.critical(error):
            yield _gpu_of(seen.health, error), f"Xid {error.xid}, {_times(error)}: {error.text}"


def _gpu_of(health: Health, error: Xid) -> str:
    """The kernel's log names the PCI address without its function."""
    for gpu in health.gpus:
        if gpu.pci_address and gpu.pci_address.rpartition(".")[0].endswith(error.pci_address.partition(".")[0]):
            return str(gpu)
    return f"GPU at {error.pci_address}"


def _times(error: Xid) -> str:
    return (
        f"{error.count} times, last {error.last or 'at an unknown time'}" if error.count > 1 else (error.last or "once")
    )


def kernel_log(seen: Seen) -> Iterator[Problem]:
    if seen.health.kernel_log.failure and not seen.health.driver_absent:
        yield HOST, f"Xid errors since boot are not all known: {seen.health.kernel_log.failure}"


def ecc_uncorrectable(seen: Seen) -> Iterator[Problem]:
    for gpu in seen.health.gpus:
        if (gpu.ecc_uncorrectable or 0) > seen.expected.gpu_ecc_uncorrectable_max:
            yield str(gpu), f"{gpu.ecc_uncorrectable} errors, {seen.expected.gpu_ecc_uncorrectable_max} allowed"


def ecc_lifetime(seen: Seen) -> Iterator[Problem]:
    for gpu in seen.health.gpus:
        if gpu.ecc_uncorrectable_lifetime:
            yield str(gpu), f"{gpu.ecc_uncorrectable_lifetime} errors in its life"


def ecc_off(seen: Seen) -> Iterator[Problem]:
    for gpu in seen.health.gpus:
        if gpu.ecc is False:
            yield str(gpu), "ECC is off"
        elif gpu.ecc_pending is False:
            yield str(gpu), "ECC will be off after the next reboot"


def pages_pending(seen: Seen) -> Iterator[Problem]:
    yield from ((str(gpu), "a page waits") for gpu in seen.health.gpus if gpu.pages_pending)


def remap_pending(seen: Seen) -> Iterator[Problem]:
    yield from ((str(gpu), "a row waits") for gpu in seen.health.gpus if gpu.remap_pending)


def remap_failed(seen: Seen) -> Iterator[Problem]:
    yield from ((str(gpu), "a remapping has failed") for gpu in seen.health.gpus if gpu.remap_failed)


def nvlink_down(seen: Seen) -> Iterator[Problem]:
    """PCIe cards have links that nothing is plugged into, so only a comparison tells there."""
    most = max((sum(gpu.nvlinks or ()) for gpu in seen.health.gpus), default=0)
    for gpu, up in _linked(seen.health):
        if seen.health.has_nvswitch and up < len(gpu.nvlinks or ()):
            yield str(gpu), f"{up} of {len(gpu.nvlinks or ())} NVLinks are up"
        elif not seen.health.has_nvswitch and 0 < up < most:
            yield str(gpu), f"{up} NVLinks are up, another GPU has {most}"


def nvlink_absent(seen: Seen) -> Iterator[Problem]:
    if seen.health.has_nvswitch or not any(up for _, up in _linked(seen.health)):
        return
    yield from (
        (str(gpu), "none of its NVLinks is up, other GPUs have some") for gpu, up in _linked(seen.health) if not up
    )


def _linked(health: Health) -> Iterator[tuple[Gpu, int]]:
    """GPUs that have NVLinks, with how many are up."""
    yield from ((gpu, sum(gpu.nvlinks)) for gpu in health.gpus if gpu.nvlinks)


def fabric_state(seen: Seen) -> Iterator[Problem]:
    for gpu in seen.health.gpus:
        if gpu.fabric_state in ("not_started", "in_progress"):
            yield str(gpu), f"registration with the fabric: {gpu.fabric_state.replace('_', ' ')}"
        elif gpu.fabric_state == "completed" and gpu.fabric_status:
            yield str(gpu), f"registration with the fabric ended with NVML error {gpu.fabric_status}"


def slowdown(seen: Seen) -> Iterator[Problem]:
    for gpu in seen.health.gpus:
        why = [text for name, text in HARDWARE_SLOWDOWNS.items() if name in (gpu.slowdowns or ())]
        if why:
            clock = f", {gpu.clock_sm_mhz} of {gpu.clock_sm_max_mhz} MHz" if gpu.clock_sm_mhz is not None else ""
            yield str(gpu), f"{' and '.join(why)}{clock}"


def slowdown_sw(seen: Seen) -> Iterator[Problem]:
    for gpu in seen.health.gpus:
        if "sw_thermal_slowdown" in (gpu.slowdowns or ()):
            yield str(gpu), f"the driver slows it down for heat, {gpu.temperature_c} °C"


def temperature(seen: Seen) -> Iterator[Problem]:
    for gpu in seen.health.gpus:
        if gpu.temperature_c is not None and gpu.temperature_c > seen.expected.gpu_temperature_max_c:
            yield str(gpu), f"{gpu.temperature_c} °C, {seen.expected.gpu_temperature_max_c} °C allowed"


def power_limit(seen: Seen) -> Iterator[Problem]:
    for gpu in seen.health.gpus:
        limit, default = gpu.power_limit_w, gpu.power_default_w
        if limit is not None and default is not None and limit < default:
            yield str(gpu), f"{limit:g} W, its default is {default:g} W"


def persistence(seen: Seen) -> Iterator[Problem]:
    yield from ((str(gpu), "persistence mode is off") for gpu in seen.health.gpus if gpu.persistence is False)


def memory_held(seen: Seen) -> Iterator[Problem]:
    for gpu in seen.health.gpus:
        for process in gpu.processes or ():
            if not _is_ours(process) and _mib(process) > seen.expected.gpu_memory_held_max_mib:
                unit = f", {process.unit}" if process.unit else ""
                held = "an unknown amount" if process.memory_bytes is None else f"{_mib(process):.0f} MiB"
                yield (
                    str(gpu),
                    f"{process.name or 'a process not to be seen here'} (pid {process.pid}{unit}) holds {held}, "
                    f"{seen.expected.gpu_memory_held_max_mib} MiB allowed",
                )


def _is_ours(process: Process) -> bool:
    """In the control group of one of rayrack's services: engines are, too, as children of the node's unit."""
    return process.unit is not None and process.unit.startswith("rayrack-")


def _mib(process: Process) -> float:
    """Not told counts as all there is: a process that computes holds hundreds of MiB."""
    return float("inf") if process.memory_bytes is None else process.memory_bytes / MIB


def nonsense(seen: Seen) -> Iterator[Problem]:
    for gpu in seen.health.gpus:
        wrong = [f"{field}: {why}" for field, why in gpu.reasons.items() if why.startswith("NVML said")]
        if wrong:
            yield str(gpu), "; ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")


def _on(state: bool) -> str:
    return "on" if state else "off"
