"""What vLLM fills in where the list says nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.accelerators import GpuModel
from roles.model_serving.model import Model
from roles.planner.memory import engine, hardware
from roles.planner.memory.engine import Engine
from tests.roles.planner.memory import fixtures
from tests.roles.planner.memory.test_safetensors import JSON

COUNTED = (
    "block_size",
    "cpu_offload_gb",
    "enable_chunked_prefill",
    "kv_cache_dtype",
    "kv_cache_memory_bytes",
    "max_num_batched_tokens",
    "max_num_seqs",
)


def of(name: str = "llama-3.1-8b", gpu_model: GpuModel | None = "H100", **fields: object) -> Engine:
    gpu = hardware.gpu(gpu_model, 80 if gpu_model in ("A100", "H100") else None)
    return Engine.of(Model.model_validate({"model_id": "m", **fields}), fixtures.published(name).shape, gpu)


@pytest.mark.parametrize(
    ("gpu_model", "tokens", "seqs"),
    [("L4", 2048, 256), ("A100", 2048, 256), ("H100", 8192, 1024), ("B200", 16_384, 1024)],
)
def test_batches_grow_with_the_gpu(gpu_model: GpuModel, tokens: int, seqs: int) -> None:
    found = of(gpu_model=gpu_model)
    assert (found.max_num_batched_tokens, found.max_num_seqs) == (tokens, seqs)


def test_a_batch_is_no_larger_than_all_its_contexts() -> None:
    found = of(max_model_len=100, engine_kwargs={"max_num_seqs": 4})
    assert (found.max_num_batched_tokens, found.max_num_seqs) == (400, 4)


def test_an_encoder_reads_its_whole_context_at_once() -> None:
    assert of("bge-m3", "L4", runner="pooling").max_num_batched_tokens == 8192


def test_the_context_is_the_models_own_where_none_is_set() -> None:
    assert of("gemma-2-9b").max_model_len == 8192
    assert of("gemma-2-9b", max_model_len=100).max_model_len == 100


def test_blocks_hold_sixteen_tokens_more_with_latent_attention_and_on_cpus() -> None:
    assert [of().block_size, of("deepseek-v3").block_size] == [16, 64]
    assert of(gpu_model=None, accelerator_type="cpu").block_size == 128
    assert of(engine_kwargs={"block_size": 32}).block_size == 32


def test_layers_that_all_have_a_window_take_the_smallest_blocks() -> None:
    assert of("mistral-7b", engine_kwargs={"block_size": 128}).block_size == 16
    assert of("mistral-7b", gpu_model=None, accelerator_type="cpu").block_size == 32
    assert of("gemma-2-9b", engine_kwargs={"block_size": 128}).block_size == 128


def test_graphs_are_captured_for_the_sizes_that_vllm_lists() -> None:
    assert of().captured_sizes == 51
    assert of(gpu_model="L4").captured_sizes == 51
    assert of(engine_kwargs={"max_num_seqs": 16}).captured_sizes == 3 + 4  # 1, 2, 4, 8, 16, 24, 32
    assert of(enforce_eager=True).captured_sizes == 0


def test_one_more_step_is_scheduled_while_one_runs() -> None:
    assert of().in_flight_tokens == 2 * 8192
    assert of(pipeline_parallel_size=2).in_flight_tokens == 3 * 8192
    assert of(runner="pooling").in_flight_tokens == 8192
    assert of(gpu_model=None, accelerator_type="cpu").in_flight_tokens == 2048


def test_arguments_that_are_not_counted_are_named() -> None:
    model = Model(model_id="m", engine_kwargs={"enable_lora": True, "speculative_config": {}, "seed": 1})
    assert engine.not_counted(model) == ("enable_lora",)


@given(
    st.dictionaries(
        st.sampled_from(COUNTED),
        JSON.filter(lambda value: value == value),
    )
)
def test_whatever_arguments_hold_the_engine_has_plausible_numbers(kwargs: dict[str, object]) -> None:
    model = Model(model_id="m").model_copy(update={"engine_kwargs": kwargs})
    found = Engine.of(model, fixtures.published("llama-3.1-8b").shape, hardware.gpu("H100", 80))
    assert found.max_num_seqs > 0
    assert found.max_num_batched_tokens >= found.max_num_seqs
    assert found.cpu_offload_bytes >= 0
