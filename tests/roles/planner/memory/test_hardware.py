"""GPUs by Ray's name."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.accelerators import GpuModel
from roles.planner.memory import hardware
from roles.planner.memory.hardware import GIB, MIB

MODELS: tuple[GpuModel, ...] = get_args(GpuModel)


@pytest.mark.parametrize("name", MODELS)
def test_every_name_that_ray_knows_has_memory_and_capability(name: GpuModel) -> None:
    gpu = hardware.gpu(name, None)
    assert gpu is not None
    assert gpu.capability is not None
    assert 6 * GIB < gpu.total_bytes < 300 * GIB
    assert list(hardware.CARDS[name].memory_mib) == sorted(hardware.CARDS[name].memory_mib)


@pytest.mark.parametrize(("name", "cuda_gib"), [("H100", 79.18), ("L4", 22.07), ("L40S", 44.3)])
def test_cuda_offers_a_little_less_than_nvml_counts(name: GpuModel, cuda_gib: float) -> None:
    gpu = hardware.gpu(name, None)
    assert gpu is not None
    # What vLLM's logs print, never more and at most 0.4 GiB less.
    assert cuda_gib - 0.4 < gpu.total_bytes / GIB <= cuda_gib


def test_a_name_with_variants_is_planned_with_the_smallest_and_says_so() -> None:
    gpu = hardware.gpu("A100", None)
    assert gpu is not None
    assert gpu.name == "A100 with 40.0 GiB"
    assert gpu.note == "A100 comes with 40.0 or 80.0 GiB: planned with the smallest; gpu_memory_gib says which it is"


@pytest.mark.parametrize(
    ("name", "declared", "meant"),
    [("A100", 80, 81_920), ("A100", 80.0, 81_920), ("H100", 80, 81_559), ("H100", 94, 95_830), ("L4", 24, 23_034)],
)
def test_a_declared_size_tells_the_variant(name: GpuModel, declared: float, meant: int) -> None:
    gpu = hardware.gpu(name, declared)
    assert gpu is not None
    assert gpu.note is None
    assert gpu.total_bytes == (meant - hardware.CUDA_RESERVE_MIB) * MIB
    assert hardware.problem(name, declared) is None


def test_a_size_that_no_such_gpu_has_is_refused_in_one_line() -> None:
    assert hardware.problem("H100", 40) == (
        "no H100 has 40 GiB, it has 79.6 or 93.6 GiB: set one of these, or correct gpu_model"
    )


def test_without_a_name_the_declared_size_is_taken_and_no_capability_is_known() -> None:
    gpu = hardware.gpu(None, 48)
    assert gpu is not None
    assert (gpu.name, gpu.capability) == ("GPU with 48 GiB", None)
    assert hardware.gpu(None, None) is None
    assert hardware.problem(None, 48) is None


@given(st.none() | st.sampled_from(MODELS), st.none() | st.floats(0.001, 10_000))
def test_every_declaration_is_a_gpu_a_line_or_nothing(name: GpuModel | None, gib: float | None) -> None:
    gpu = hardware.gpu(name, gib)
    assert (gpu is None) == (name is None and gib is None)
    assert gpu is None or gpu.total_bytes >= 0
