"""The numbers of a gpu_health document in Prometheus' text format, for node_exporter's textfile collector.

https://prometheus.io/docs/instrumenting/exposition_formats/. What is null has no sample. Standard library only.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

# Field of a GPU, metric, what it is. Flags are 0 and 1.
OF_GPU = (
    ("memory_total_bytes", "rayrack_gpu_memory_total_bytes", "Memory of the GPU."),
    ("memory_used_bytes", "rayrack_gpu_memory_used_bytes", "Memory in use."),
    ("ecc", "rayrack_gpu_ecc_enabled", "ECC is on."),
    ("ecc_uncorrectable", "rayrack_gpu_ecc_uncorrectable", "Uncorrectable memory errors since the driver was loaded."),
    (
        "ecc_uncorrectable_lifetime",
        "rayrack_gpu_ecc_uncorrectable_lifetime",
        "Uncorrectable memory errors in the GPU's life.",
    ),
    ("pages_pending", "rayrack_gpu_pages_pending", "Memory pages wait for a reset to be retired."),
    ("rows_remapped", "rayrack_gpu_rows_remapped", "Memory rows that were remapped."),
    ("remap_pending", "rayrack_gpu_remap_pending", "Memory rows wait for a reset to be remapped."),
    ("remap_failed", "rayrack_gpu_remap_failed", "A memory row could not be remapped."),
    ("clock_sm_mhz", "rayrack_gpu_clock_sm_mhz", "Clock of the processors."),
    ("clock_memory_mhz", "rayrack_gpu_clock_memory_mhz", "Clock of the memory."),
    ("power_w", "rayrack_gpu_power_watts", "Power drawn."),
    ("power_limit_w", "rayrack_gpu_power_limit_watts", "Power limit in force."),
    ("temperature_c", "rayrack_gpu_temperature_celsius", "Temperature of the GPU."),
    ("mig", "rayrack_gpu_mig", "MIG is on."),
    ("persistence", "rayrack_gpu_persistence", "Persistence mode is on."),
)


def label(value: object) -> str:
    return str(value).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def sample(metric: str, value: float, **labels: object) -> str:
    inner = ",".join(f'{name}="{label(text)}"' for name, text in labels.items())
    return f"{metric}{{{inner}}} {value:.17g}" if inner else f"{metric} {value:.17g}"


def lines(document: dict[str, Any]) -> Iterator[str]:
    gpus = document["gpus"]
    on_bus = sum(device["kind"] == "gpu" for device in document["pci"])
    yield from family("rayrack_gpu_nvml_up", "NVML answers.", [(float(document["nvml"]["failure"] is None), {})])
    yield from family("rayrack_gpus_on_pci_bus", "GPUs on the PCI bus.", [(float(on_bus), {})])
    yield from family("rayrack_gpus", "GPUs that NVML knows.", [(float(len(gpus)), {})])
    for field, metric, meaning in OF_GPU:
        known = [(float(gpu[field]), of(gpu)) for gpu in gpus if gpu[field] is not None]
        yield from family(metric, meaning, known)
    links = [(float(sum(gpu["nvlinks"])), of(gpu)) for gpu in gpus if gpu["nvlinks"] is not None]
    yield from family("rayrack_gpu_nvlinks_up", "NVLinks that are up.", links)
    slow = [(1.0, {**of(gpu), "reason": reason}) for gpu in gpus for reason in gpu["slowdowns"] or ()]
    yield from family("rayrack_gpu_slowdown", "The clocks are held down, and why.", slow)
    counts: Counter[tuple[str, int]] = Counter()
    for entry in document["kernel_log"]["xids"]:
        counts[entry["pci_address"], entry["xid"]] += entry["count"]
    xids = [(float(count), {"pci_address": address, "xid": xid}) for (address, xid), count in counts.items()]
    yield from family("rayrack_gpu_xids", "Xid errors since boot.", xids)


def of(gpu: dict[str, Any]) -> dict[str, Any]:
    return {"gpu": gpu["index"], "uuid": gpu["uuid"] or ""}


def family(metric: str, meaning: str, samples: list[tuple[float, dict[str, Any]]]) -> Iterator[str]:
    if samples:
        yield f"# HELP {metric} {meaning}"
        yield f"# TYPE {metric} gauge"
        yield from (sample(metric, value, **labels) for value, labels in samples)


def text(document: dict[str, Any]) -> str:
    """The whole file."""
    return "\n".join(lines(document)) + "\n"
