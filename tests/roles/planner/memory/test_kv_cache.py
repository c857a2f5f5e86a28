"""The layout of the KV cache."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.planner.memory import kv_cache
from roles.planner.memory.kv_cache import Group
from tests.roles.planner.memory import fixtures


def cache(name: str, tensor: int = 1, dtype: str = "auto") -> int | None:
    return kv_cache.layer_token_bytes(fixtures.published(name).shape, dtype, 2, tensor)


def test_kv_heads_are_divided_over_gpus_and_repeated_where_they_are_fewer() -> None:
    # 4 heads of 128 values, keys and values, 2 bytes each.
    assert [cache("qwen3-30b-a3b", tensor) for tensor in (1, 2, 4, 8)] == [2048, 1024, 512, 512]


def test_a_latent_vector_is_whole_on_every_gpu() -> None:
    assert [cache("deepseek-v3", tensor) for tensor in (1, 8)] == [1152, 1152]


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        ("auto", 4096),
        ("bfloat16", 4096),
        ("fp8", 2048),
        ("fp8_e4m3", 2048),
        ("int8_per_token_head", 2048 + 64),
        ("nvfp4", 1152),
        ("fp8_ds_mla", None),
        ("turboquant_k8v4", None),
        ("unheard of", None),
    ],
)
def test_the_cache_has_a_number_format_of_its_own(dtype: str, size: int | None) -> None:
    assert cache("llama-3.1-8b", dtype=dtype) == size


def test_layers_of_one_kind_are_one_group() -> None:
    (only,) = kv_cache.by_rank(fixtures.published("llama-3.1-8b").shape, 4096, 16, [range(32)])
    assert only.groups == (Group(32, None),)
    assert only.block_bytes == 32 * 16 * 4096
    assert only.context_blocks(1000, 0) == 63
    assert only.token_bytes == 131_072


def test_layers_of_two_kinds_are_groups_of_equal_size() -> None:
    (only,) = kv_cache.by_rank(fixtures.published("gpt-oss-20b").shape, 2048, 16, [range(24)])
    assert set(only.groups) == {Group(12, 128), Group(12, None)}
    assert only.block_bytes == 12 * 16 * 2048
    # All of 16000 tokens, and the window with what is in flight.
    assert only.context_blocks(16_000, 2048) == 1000 + -(-(127 + 2048) // 16) + 1


def test_a_window_never_keeps_more_than_the_context() -> None:
    (only,) = kv_cache.by_rank(fixtures.published("mistral-7b").shape, 4096, 16, [range(32)])
    assert only.context_blocks(160, 8192) == 11
    assert only.context_blocks(32_768, 8192) == -(-(4095 + 8192) // 16) + 1


@pytest.mark.parametrize(
    ("layers", "size", "expected"),
    [(8, 2, [4, 4]), (7, 2, [4, 3]), (10, 4, [2, 3, 3, 2]), (61, 8, [7, 7, 8, 8, 8, 8, 8, 7])],
)
def test_layers_left_over_go_to_the_stages_in_the_middle(layers: int, size: int, expected: list[int]) -> None:
    assert [len(stage) for stage in kv_cache.stages(layers, size)] == expected


@given(st.integers(1, 200), st.integers(1, 64))
def test_every_layer_is_in_one_stage(layers: int, size: int) -> None:
    stages = kv_cache.stages(layers, min(size, layers))
    assert [layer for stage in stages for layer in stage] == list(range(layers))
    assert all(stages)


@given(name=st.sampled_from(fixtures.NAMES), size=st.integers(1, 8), length=st.integers(1, 100_000))
def test_every_stage_has_room_for_its_layers(name: str, size: int, length: int) -> None:
    shape = fixtures.published(name).shape
    stages = kv_cache.stages(shape.num_hidden_layers, size)
    for stage, rank in zip(stages, kv_cache.by_rank(shape, 10, 16, stages), strict=True):
        assert sum(group.layers for group in rank.groups) == len(stage)
        assert rank.context_blocks(length, 0) * rank.block_bytes >= min(length, 128) * 10
