"""How much of the weights each GPU holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.model_serving.model import Model
from roles.planner.memory import kv_cache, weights
from roles.planner.memory.hardware import GIB
from roles.planner.memory.safetensors import Weights
from tests.roles.planner.memory import fixtures


def by_rank(name: str, tensor: int, pipeline: int = 1) -> tuple[int, ...]:
    model = fixtures.published(name)
    stages = kv_cache.stages(model.shape.num_hidden_layers, pipeline)
    return weights.by_rank(model.weights_bytes, model.shape, 2, tensor, stages)


@given(
    name=st.sampled_from(fixtures.NAMES),
    tensor=st.sampled_from([1, 2, 4, 8, 16]),
    pipeline=st.integers(1, 12),
    total=st.integers(1, 2**42),
)
def test_the_gpus_hold_all_weights_together(name: str, tensor: int, pipeline: int, total: int) -> None:
    shape = fixtures.published(name).shape
    ranks = weights.by_rank(total, shape, 2, tensor, kv_cache.stages(shape.num_hidden_layers, pipeline))
    assert len(ranks) == pipeline
    assert sum(ranks) * tensor >= total * 0.999_999 - 2 * pipeline * tensor


@pytest.mark.parametrize("name", fixtures.NAMES)
def test_one_gpu_holds_everything(name: str) -> None:
    (only,) = by_rank(name, 1)
    assert abs(only - fixtures.published(name).weights_bytes) <= 1


def test_what_is_not_divided_is_on_every_gpu() -> None:
    # As vLLM reported: 61.03 GiB on one GPU, 30.59 on each of two.
    (each,) = by_rank("qwen3-32b", 2)
    assert each / GIB == pytest.approx(30.59, abs=0.1)
    # Latent projections, norms and routers of DeepSeek are on all eight.
    (of_eight,) = by_rank("deepseek-v2-lite", 8)
    whole = 27 * (2048 * (512 + 64) + 512 + 2 * 2048) + 26 * 64 * 2048 + 2048
    shared = fixtures.published("deepseek-v2-lite").weights_bytes - 2 * whole
    assert of_eight == pytest.approx(shared / 8 + 2 * whole, abs=2)


def test_the_first_stage_has_the_embedding_and_the_last_the_head() -> None:
    first, middle, last = (
        by_rank("qwen2.5-72b", 1, 4)[0],
        by_rank("qwen2.5-72b", 1, 4)[1],
        by_rank("qwen2.5-72b", 1, 4)[3],
    )
    embedding = 152_064 * 8192 * 2
    assert first - middle == pytest.approx(embedding, abs=2)
    assert last - first == pytest.approx(8192 * 2, abs=2)  # the last norm


def test_a_tied_embedding_is_on_the_first_stage_and_on_the_last() -> None:
    first, last = by_rank("gemma-2-9b", 1, 2)
    assert last - first == pytest.approx(3584 * 2, abs=2)


def in_memory(name: str, stored: Weights, **fields: object) -> int:
    model = Model.model_validate({"model_id": "m", **fields})
    return weights.in_memory(stored, model, fixtures.published(name).shape, 4 if model.dtype == "float32" else 2)


def test_weights_are_loaded_in_the_engines_format() -> None:
    stored = Weights(1200, {"F32": 1000, "I64": 200})
    assert in_memory("bge-m3", stored) == 700
    assert in_memory("bge-m3", stored, dtype="float32") == 1200
    assert in_memory("bge-m3", Weights(1200)) == 600
    assert in_memory("llama-3.1-8b", Weights(1000), dtype="float32") == 2000


def test_a_quantised_checkpoint_is_loaded_as_it_is() -> None:
    assert in_memory("gpt-oss-20b", Weights(1000, {"U8": 800, "BF16": 200})) == 1000
    assert in_memory("deepseek-v3", Weights(1000, unused=100)) == 900


def test_weights_that_are_quantised_while_loading_take_half_but_for_the_embeddings() -> None:
    stored = Weights(16_060_522_496)
    loaded = in_memory("llama-3.1-8b", stored, quantization="fp8")
    outside = 2 * 128_256 * 4096 * 2 + 4096 * 2
    assert loaded == outside + (16_060_522_496 - outside) // 2


def test_a_family_that_is_not_counted_exactly_has_no_computed_size() -> None:
    config = {**fixtures.published("llama-3.1-8b").config, "model_type": "new_family"}
    assert weights.computed(fixtures.model_config.shape(config, "x")) is None
    awq = {**fixtures.published("llama-3.1-8b").config, "quantization_config": {"quant_method": "awq", "bits": 4}}
    found = weights.computed(fixtures.model_config.shape(awq, "x"))
    assert found is not None
    assert 5.2 * GIB < found.total < 5.6 * GIB  # 5.73 GB on the hub
