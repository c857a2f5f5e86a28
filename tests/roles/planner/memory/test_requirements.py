"""What vLLM refuses whatever the memory."""

import pytest

from roles.accelerators import GpuModel
from roles.model_serving.model import Model
from roles.planner.memory import hardware, requirements
from tests.roles.planner.memory import fixtures


def problems(name: str, gpu_model: GpuModel = "H100", **fields: object) -> list[tuple[str, str]]:
    model = Model.model_validate({"model_id": "m", **fields})
    found = requirements.problems(model, fixtures.published(name).shape, hardware.gpu(gpu_model, None))
    return [(".".join(map(str, path)), text) for path, text in found]


def test_attention_heads_must_divide_over_the_gpus() -> None:
    assert problems("qwen2.5-7b", tensor_parallel_size=8) == [
        (
            "tensor_parallel_size",
            "28 attention heads cannot be divided by 8: take one of 1, 2, 4, 7, 14, 28",
        )
    ]
    assert problems("qwen2.5-7b", tensor_parallel_size=4) == []


def test_kv_heads_must_divide_or_be_repeated() -> None:
    ((field, text),) = problems("phi-4", tensor_parallel_size=4)
    assert field == "tensor_parallel_size"
    assert text.startswith("10 KV heads can be neither divided nor repeated over 4 GPUs")
    # Four KV heads on eight GPUs: each is on two.
    assert problems("qwen3-30b-a3b", tensor_parallel_size=8) == []
    # Latent attention has no KV heads to divide.
    assert problems("deepseek-v3", tensor_parallel_size=64) == []


def test_a_pipeline_has_at_most_a_stage_for_each_layer() -> None:
    assert problems("bge-m3", pipeline_parallel_size=32) == [
        ("pipeline_parallel_size", "24 layers cannot make 32 stages")
    ]


def test_no_context_is_longer_than_the_config_allows() -> None:
    assert problems("gemma-2-9b", max_model_len=8193) == [
        ("max_model_len", "8193 is longer than the model's config allows (8192 tokens)")
    ]
    assert problems("gemma-2-9b", max_model_len=8192) == []
    allowed = {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}
    assert problems("gemma-2-9b", max_model_len=8193, env=allowed) == []


@pytest.mark.parametrize("gpu_model", ["V100", "P100", "P4", "K80"])
def test_gpus_before_turing_run_nothing(gpu_model: GpuModel) -> None:
    ((field, text),) = problems("llama-3.1-8b", gpu_model)
    assert field == "accelerator_type"
    assert text.endswith("and the runtime's CUDA starts at 7.5")


def test_bfloat16_needs_ampere() -> None:
    ((field, text),) = problems("llama-3.1-8b", "T4", dtype="bfloat16")
    assert (field, text.rpartition(", and ")[2]) == ("dtype", "bfloat16 needs 8.0: set float16")
    assert problems("llama-3.1-8b", "T4", dtype="half") == []
    assert problems("llama-3.1-8b", "T4") == []


def test_a_quantization_needs_a_gpu_that_has_code_for_it() -> None:
    ((field, text),) = problems("gpt-oss-20b", "T4")
    assert (field, text.rpartition(", and ")[2]) == ("model_source", "the quantization mxfp4 needs 8.0")
    ((field, _),) = problems("llama-3.1-8b", "T4", quantization="experts_int8")
    assert field == "quantization"
    assert problems("deepseek-v3", "T4") == []


def test_a_share_leaves_room_for_cuda_itself() -> None:
    assert problems("qwen2.5-7b", "L4", gpu_memory_utilization=1.0) == [
        (
            "gpu_memory_utilization",
            "1 of one L4 with 22.5 GiB leaves no room for CUDA itself: take at most 0.98",
        )
    ]
    assert problems("qwen2.5-7b", "L4", gpu_memory_utilization=0.98) == []


def test_what_works_but_slower_is_a_note() -> None:
    def notes(name: str, gpu_model: GpuModel) -> list[str]:
        shape = fixtures.published(name).shape
        return requirements.notes(Model(model_id="m"), shape, hardware.gpu(gpu_model, None))

    assert any("does not compute in FP8" in note for note in notes("deepseek-v3", "A100"))
    assert any("vLLM takes float16" in note for note in notes("llama-3.1-8b", "T4"))
    assert notes("deepseek-v3", "H100") == []


def test_a_model_on_cpus_has_no_gpu_to_be_too_old() -> None:
    model = Model(model_id="m", accelerator_type="cpu", dtype="bfloat16")
    assert requirements.problems(model, None, hardware.gpu("K80", None)) == []
