"""What GPUs have: memory and compute capability by Ray's name. Pure: no pyinfra, no Ray.

Memory is NVML's total in MiB, as `nvidia-smi` prints it with ECC on. Each figure stands beside its card's name in
public output of `nvidia-smi`, of a driver of today where one still knows the card: earlier ones left out what the
driver keeps for itself (7611 MiB of a P4, 16280 of a P100). Compute capabilities are those of
https://developer.nvidia.com/cuda-gpus; those of B300, GB300, H20 and RTX-PRO-6000 also stand in such output.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from roles.accelerators import GpuModel

MIB = 2**20
GIB = 2**30
# CUDA offers less than NVML counts; PyTorch's out-of-memory errors and vLLM's logs print its number, in GiB. What is
# missing, in MiB: A100 768 (79.25 of 80 GiB are there), GB200 738, B200 729, H200 up to 698, L40S 664, RTX-PRO-6000
# 638, H100 NVL 578, H100 479, T4 451, L4 434. The largest of these stands for all; B300 (926) and GB300 (1072) lack a
# thousandth of their memory more.
CUDA_RESERVE_MIB = 768
# How far a declared size may be from a variant's: "24" is how an L4 is sold, and NVML counts 22.5 GiB of it.
TOLERANCE = 0.08


@dataclass(frozen=True)
class Card:
    """All GPUs of one name."""

    memory_mib: tuple[int, ...]
    """NVML's total of each variant sold under this name, the smallest first."""
    capability: tuple[int, int]
    """Compute capability, as major and minor."""
    nvlink: bool = False
    """Whether it is sold with NVLink."""


CARDS: Mapping[GpuModel, Card] = {
    "A10G": Card((23_028,), (8, 6)),
    "A100": Card((40_960, 81_920), (8, 0), nvlink=True),
    "B200": Card((183_359,), (10, 0), nvlink=True),
    "B300": Card((275_040,), (10, 3), nvlink=True),
    "GB200": Card((189_471,), (10, 0), nvlink=True),
    "GB300": Card((284_208,), (10, 3), nvlink=True),
    "H20": Card((97_871,), (9, 0), nvlink=True),
    "H100": Card((81_559, 95_830), (9, 0), nvlink=True),  # SXM and PCIe; NVL
    "H200": Card((143_771,), (9, 0), nvlink=True),
    "K80": Card((11_441,), (3, 7)),  # two GPUs a card, this is one
    "L4": Card((23_034,), (8, 9)),
    "L40S": Card((46_068,), (8, 9)),
    "P4": Card((7_680,), (6, 1)),
    "P100": Card((12_288, 16_384), (6, 0), nvlink=True),
    "RTX-PRO-6000": Card((97_887,), (12, 0)),
    "T4": Card((15_360,), (7, 5)),
    "V100": Card((16_384, 32_768), (7, 0), nvlink=True),
}
assert set(CARDS) == set(get_args(GpuModel))


@dataclass(frozen=True)
class Gpu:
    """One GPU as the plan counts it."""

    name: str
    total_bytes: int
    """What CUDA offers, which is what vLLM takes `gpu_memory_utilization` of."""
    capability: tuple[int, int] | None
    """None: not known."""
    nvlink: bool = True
    """Whether GPUs of a group may speak over NVLink; taken for granted where the name is not known."""
    note: str | None = None
    """What was taken for granted, for the operator to know."""

    @property
    def memory_gib(self) -> float:
        """As NVML counts it."""
        return (self.total_bytes + CUDA_RESERVE_MIB * MIB) / GIB


def problem(gpu_model: GpuModel | None, gpu_memory_gib: float | None) -> str | None:
    """Why these two cannot be true together, or None."""
    if gpu_model is None or gpu_memory_gib is None or _variant(CARDS[gpu_model], gpu_memory_gib) is not None:
        return None
    return (
        f"no {gpu_model} has {gpu_memory_gib:g} GiB, it has {_sizes(CARDS[gpu_model])}: set one of these, or correct "
        "gpu_model"
    )


def gpu(gpu_model: GpuModel | None, gpu_memory_gib: float | None) -> Gpu | None:
    """The GPU that the inventory declares; None when it declares neither name nor size.

    A name with variants and no size is planned with the smallest, and says so. ``gpu_memory_gib`` may be NVML's number
    or the one the card is sold with. Without a name it is taken as it is.
    """
    if gpu_model is None:
        if gpu_memory_gib is None:
            return None
        return Gpu(f"GPU with {gpu_memory_gib:g} GiB", _offered(round(gpu_memory_gib * 1024)), None)
    card = CARDS[gpu_model]
    mib, note = card.memory_mib[0], None
    if gpu_memory_gib is not None:
        mib = _variant(card, gpu_memory_gib) or round(gpu_memory_gib * 1024)
    elif len(card.memory_mib) > 1:
        note = f"{gpu_model} comes with {_sizes(card)}: planned with the smallest; gpu_memory_gib says which it is"
    return Gpu(f"{gpu_model} with {mib / 1024:.1f} GiB", _offered(mib), card.capability, card.nvlink, note)


def _variant(card: Card, gib: float) -> int | None:
    """The variant that was meant by ``gib``."""
    nearest = min(card.memory_mib, key=lambda mib: abs(mib - gib * 1024))
    return nearest if abs(nearest - gib * 1024) <= TOLERANCE * nearest else None


def _offered(mib: int) -> int:
    return max(0, mib - CUDA_RESERVE_MIB) * MIB


def _sizes(card: Card) -> str:
    return " or ".join(f"{mib / 1024:.1f}" for mib in card.memory_mib) + " GiB"
