"""NVML without a GPU: a libnvidia-ml.so.1 that answers from a file (fake_nvml.c says how), and files of whole hosts."""

import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_nvml.c")
LIBRARY = "libnvidia-ml.so.1"

H100 = {
    "name": "NVIDIA H100 80GB HBM3",
    "memory_total": 85_520_809_984,
    "memory_used": 0,
    "ecc": "1 1",
    "ecc_uncorrectable": 0,
    "ecc_uncorrectable_lifetime": 0,
    "rows_remapped": 0,
    "remap_pending": 0,
    "remap_failed": 0,
    "nvlinks": "1" * 18,
    "clock_sm": 1980,
    "clock_sm_max": 1980,
    "clock_memory": 2619,
    "clock_memory_max": 2619,
    "slowdowns": 1,  # idle
    "power": 72_000,
    "power_limit": 700_000,
    "power_default": 700_000,
    "temperature": 34,
    "mig": "0 0",
    "persistence": 1,
    "fabric": "3 0",
    "recovery_action": 0,
}
SYSTEM = {"driver": "580.95.05", "nvml": "13.580.95.05", "cuda": "13000"}


def build(directory: Path, *, old: bool = False) -> Path:
    """Compile the library into ``directory``. ``old``: without what drivers before 535 lack."""
    command = ["cc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC"]
    command += [f"-Wl,-soname,{LIBRARY}", *(["-DOLD"] if old else []), "-o", str(directory / LIBRARY), str(SOURCE)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return directory / LIBRARY


def answers(gpus: int = 8, changes: Mapping[str, object] | None = None) -> str:
    """The file of a host with this many healthy H100s; ``changes`` are lines of its own (None: no such line)."""
    lines: dict[str, object] = {**SYSTEM, "gpus": gpus}
    lines |= {f"gpu.*.{name}": value for name, value in H100.items()}
    lines |= {f"gpu.{index}.pci": pci_address(index).removesuffix(".0") for index in range(gpus)}
    lines |= changes or {}
    return "".join(f"{key} {value}\n" for key, value in lines.items() if value is not None)


@cache
def pci_address(index: int) -> str:
    """Where the GPU with this number is on the PCI bus."""
    return f"0000:{0x1B + 0x10 * index:02x}:00.0"
