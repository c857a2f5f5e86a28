"""Asks NVML about every GPU and prints one line of JSON per answer, the latest question before each.

A child process of gpu_health: NVML hangs where a GPU or its driver does, and then only the process can be ended. What a
GPU or a driver does not know is null, with the reason beside it. Standard library and NVIDIA's pynvml.py (nvidia-ml-py)
only.
"""

import contextlib
import json
import os
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

# Garbage from NVML must not take the host's memory with it: pynvml makes arrays of whatever size NVML names.
MEMORY_LIMIT_BYTES = 2 * 2**30
MAX_GPUS = 64
MAX_TEXT = 128
MAX_COUNT = 2**62
TIB = 2**40
SLOWDOWNS = {
    "sw_power_cap": 0x04,
    "hw_slowdown": 0x08,
    "sw_thermal_slowdown": 0x20,
    "hw_thermal_slowdown": 0x40,
    "hw_power_brake_slowdown": 0x80,
}  # nvmlClocksEventReasons (nvml.h)
FABRIC_STATES = ("not_supported", "not_started", "in_progress", "completed")  # nvmlGpuFabricState_t
RECOVERY_ACTIONS = (
    "none",
    "gpu_reset",
    "node_reboot",
    "drain_p2p",
    "drain_and_reset",
    "recover_imex_domain",
    "bus_reset",
    "system_reboot",
)  # nvmlDeviceGpuRecoveryAction_t

Read = tuple[tuple[str, ...], Callable[[Any, Any], Sequence[Any]]]


class Nonsense(Exception):
    """NVML answered what cannot be true."""


def number(value: Any, low: int = 0, high: int = MAX_COUNT) -> int:
    """The whole number, when it lies between ``low`` and ``high``.

    Raises:
        Nonsense: when it does not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise Nonsense(f"NVML said {value!r:.40}, which cannot be true")
    return value


def text(value: Any) -> str:
    """A short printable text.

    Raises:
        Nonsense: for anything else.
    """
    said: str = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    if not said.strip() or len(said) > MAX_TEXT or not said.isprintable() or "\ufffd" in said:
        raise Nonsense(f"NVML said {said[:40]!r}, which cannot be true")
    return said


def flag(value: Any) -> bool:
    return bool(number(value, 0, 1))


def choice(value: Any, names: Sequence[str]) -> str:
    return names[number(value, 0, len(names) - 1)]


def pci_address(nv: Any, gpu: Any) -> str:
    """As the kernel writes it: ``0000:3b:00.0``."""
    info = nv.nvmlDeviceGetPciInfo(gpu)
    domain, bus, device = (number(value, 0, 0xFFFF) for value in (info.domain, info.bus, info.device))
    return f"{domain:04x}:{bus:02x}:{device:02x}.0"


def memory(nv: Any, gpu: Any) -> tuple[int, int]:
    info = nv.nvmlDeviceGetMemoryInfo(gpu)
    total = number(info.total, 1, 4 * TIB)
    return total, number(info.used, 0, total)


def ecc_errors(kind: int, counter: int, nv: Any, gpu: Any) -> list[int]:
    return [number(nv.nvmlDeviceGetTotalEccErrors(gpu, kind, counter))]


def clocks(kind: int, nv: Any, gpu: Any) -> list[int]:
    """The clock now and at most, in MHz."""
    return [number(ask(gpu, kind), 0, 20_000) for ask in (nv.nvmlDeviceGetClockInfo, nv.nvmlDeviceGetMaxClockInfo)]


def remapped_rows(nv: Any, gpu: Any) -> tuple[int, bool, bool]:
    correctable, uncorrectable, pending, failure = nv.nvmlDeviceGetRemappedRows(gpu)
    return number(correctable) + number(uncorrectable), flag(pending), flag(failure)


def nvlinks(nv: Any, gpu: Any) -> list[bool]:
    """Of each link the GPU has, whether it is up; empty for a GPU without."""
    links = []
    for link in range(nv.NVML_NVLINK_MAX_LINKS):
        try:
            links.append(flag(nv.nvmlDeviceGetNvLinkState(gpu, link)))
        except nv.NVMLError as error:
            # The number of links is where NVML first says that there is none.
            if links and error.value in (nv.NVML_ERROR_NOT_SUPPORTED, nv.NVML_ERROR_INVALID_ARGUMENT):
                break
            raise
    return links


def slowdowns(nv: Any, gpu: Any) -> list[str]:
    """Why the clocks are lower than they could be; idling and clocks set on purpose are left out."""
    try:
        reasons = nv.nvmlDeviceGetCurrentClocksEventReasons(gpu)
    except nv.NVMLError_FunctionNotFound:
        reasons = nv.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)  # its name before driver 535
    return [name for name, bit in SLOWDOWNS.items() if number(reasons, 0, 2**32) & bit]


def processes(nv: Any, gpu: Any) -> list[dict[str, int | None]]:
    """Pid and memory in bytes of each process that has the GPU open; None: not told."""
    found: dict[int, int | None] = {}
    for asked in ("Compute", "Graphics"):
        try:
            listed = getattr(nv, f"nvmlDeviceGet{asked}RunningProcesses_v3")(gpu)
        except nv.NVMLError_FunctionNotFound:
            listed = getattr(nv, f"nvmlDeviceGet{asked}RunningProcesses_v2")(gpu)
        for process in listed:
            used = process.usedGpuMemory
            found[number(process.pid, 1, 2**31)] = None if used is None else number(used, 0, 4 * TIB)
    return [{"pid": pid, "memory_bytes": used} for pid, used in sorted(found.items())]


def fabric(nv: Any, gpu: Any) -> tuple[str, int]:
    """State of the registration with the NVLink fabric, and NVML's code of how it ended (0: well)."""
    try:
        info = nv.c_nvmlGpuFabricInfo_v2_t()
        nv.nvmlDeviceGetGpuFabricInfoV(gpu, nv.byref(info))
    except nv.NVMLError_FunctionNotFound:
        info = nv.c_nvmlGpuFabricInfo_t()
        nv.nvmlDeviceGetGpuFabricInfo(gpu, nv.byref(info))
    state = choice(info.state, FABRIC_STATES)
    return state, number(info.status, 0, 999) if state == "completed" else 0


def recovery_action(nv: Any, gpu: Any) -> str:
    """What the driver (570 and newer) itself asks for."""
    (answer,) = nv.nvmlDeviceGetFieldValues(gpu, [nv.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION])
    if answer.nvmlReturn != nv.NVML_SUCCESS:
        raise nv.NVMLError(answer.nvmlReturn)
    return choice(answer.value.uiVal, RECOVERY_ACTIONS)


def reads(nv: Any) -> Iterator[Read]:
    """What is asked of each GPU: the fields, and how they are read."""
    uncorrected, volatile, lifetime = (
        nv.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
        nv.NVML_VOLATILE_ECC,
        nv.NVML_AGGREGATE_ECC,
    )
    yield ("name",), lambda nv, gpu: [text(nv.nvmlDeviceGetName(gpu))]
    yield ("uuid",), lambda nv, gpu: [text(nv.nvmlDeviceGetUUID(gpu))]
    yield ("pci_address",), lambda nv, gpu: [pci_address(nv, gpu)]
    yield ("memory_total_bytes", "memory_used_bytes"), memory
    yield ("ecc", "ecc_pending"), lambda nv, gpu: [flag(value) for value in nv.nvmlDeviceGetEccMode(gpu)]
    for field, counter in (("ecc_uncorrectable", volatile), ("ecc_uncorrectable_lifetime", lifetime)):
        yield (field,), partial(ecc_errors, uncorrected, counter)
    yield ("pages_pending",), lambda nv, gpu: [flag(nv.nvmlDeviceGetRetiredPagesPendingStatus(gpu))]
    yield ("rows_remapped", "remap_pending", "remap_failed"), remapped_rows
    yield ("nvlinks",), lambda nv, gpu: [nvlinks(nv, gpu)]
    for kind, which in (("sm", nv.NVML_CLOCK_SM), ("memory", nv.NVML_CLOCK_MEM)):
        yield (f"clock_{kind}_mhz", f"clock_{kind}_max_mhz"), partial(clocks, which)
    yield ("slowdowns",), lambda nv, gpu: [slowdowns(nv, gpu)]
    yield ("power_w",), lambda nv, gpu: [number(nv.nvmlDeviceGetPowerUsage(gpu), 0, 5_000_000) / 1000]
    yield ("power_limit_w",), lambda nv, gpu: [number(nv.nvmlDeviceGetEnforcedPowerLimit(gpu), 1, 5_000_000) / 1000]
    yield (
        ("power_default_w",),
        lambda nv, gpu: [number(nv.nvmlDeviceGetPowerManagementDefaultLimit(gpu), 1, 5_000_000) / 1000],
    )
    yield (
        ("temperature_c",),
        lambda nv, gpu: [number(nv.nvmlDeviceGetTemperature(gpu, nv.NVML_TEMPERATURE_GPU), 0, 150)],
    )
    yield ("processes",), lambda nv, gpu: [processes(nv, gpu)]
    yield ("mig", "mig_pending"), lambda nv, gpu: [flag(value) for value in nv.nvmlDeviceGetMigMode(gpu)]
    yield ("persistence",), lambda nv, gpu: [flag(nv.nvmlDeviceGetPersistenceMode(gpu))]
    yield ("fabric_state", "fabric_status"), fabric
    yield ("recovery_action",), lambda nv, gpu: [recovery_action(nv, gpu)]


def tell(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def ask(what: str, function: Callable[[], Any]) -> tuple[Any, str | None]:
    """What ``function`` answers, or None and the reason. The question is told first, so that a hang has a name."""
    tell(asked=what)
    try:
        return function(), None
    except Exception as error:  # pynvml raises ctypes' and Unicode's errors, too, when NVML answers garbage
        return None, " ".join(str(error).split())[:200] or type(error).__name__


def code_of(nv: Any) -> int | None:
    """Why NVML cannot be used, as its own number (nvmlReturn_t)."""
    try:
        nv.nvmlInit()
    except Exception as error:
        return getattr(error, "value", None)
    return 0


def look_at_gpu(nv: Any, index: int) -> dict[str, Any]:
    handle, reason = ask(f"GPU {index}", lambda: nv.nvmlDeviceGetHandleByIndex(index))
    gpu: dict[str, Any] = {"index": index, "reasons": {}}
    for fields, read in reads(nv):
        values = None
        why = reason
        if reason is None:
            values, why = ask(f"GPU {index}: {fields[0]}", partial(read, nv, handle))
        gpu.update(zip(fields, values or [None] * len(fields), strict=True))
        gpu["reasons"].update({field: why for field in fields if why})
    return gpu


def look(nv: Any) -> None:
    _, failure = ask("nvmlInit", nv.nvmlInit)
    # Answers also when the library does not fit the kernel module, which is when one wants to know.
    library, _ = ask("nvmlSystemGetNVMLVersion", lambda: text(nv.nvmlSystemGetNVMLVersion()))
    system: dict[str, Any] = {"library_version": library.partition(".")[2] if library else None, "failure": failure}
    if failure is not None:
        system["code"] = code_of(nv)
    else:
        system["driver_version"], _ = ask("driver version", lambda: text(nv.nvmlSystemGetDriverVersion()))
        cuda, _ = ask("CUDA version", lambda: number(nv.nvmlSystemGetCudaDriverVersion(), 1000, 100_000))
        system["cuda_version"] = f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None
        count, why = ask("number of GPUs", lambda: number(nv.nvmlDeviceGetCount(), 0, MAX_GPUS))
        system["failure"] = why
        for index in range(count or 0):
            tell(gpu=look_at_gpu(nv, index))
    tell(system=system)
    tell(asked="nvmlShutdown")
    if failure is None:
        with contextlib.suppress(Exception):
            nv.nvmlShutdown()


def main() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        import pynvml
    except ImportError as error:
        tell(system={"failure": f"{error}: it travels beside this program; deploy again"})
    else:
        look(pynvml)
    sys.stdout.flush()
    os._exit(0)  # nothing of NVIDIA's library is to run at the end of the interpreter


if __name__ == "__main__":
    main()
