"""What a config.json says about memory."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.errors import InputError
from roles.planner.memory import model_config
from tests.roles.planner.memory import fixtures
from tests.roles.planner.memory.test_safetensors import JSON

SMALL = {"num_hidden_layers": 6, "num_attention_heads": 8, "hidden_size": 64, "vocab_size": 100}


def windows(**fields: object) -> list[int | None]:
    return list(model_config.shape({**SMALL, **fields}, "x").windows)


def lengths(**fields: object) -> tuple[int, int]:
    shape = model_config.shape({**SMALL, **fields}, "x")
    return shape.max_len, shape.default_len


@pytest.mark.parametrize("name", fixtures.NAMES)
def test_the_weights_of_every_well_known_model_are_counted(name: str) -> None:
    model = fixtures.published(name)
    quantization = model.shape.quantization
    if quantization is None:
        assert model.shape.parameters.total * (model.shape.stored_bytes or 2) == model.weights_bytes


def test_heads_are_those_of_queries_where_the_config_names_no_others() -> None:
    shape = model_config.shape(SMALL, "x")
    assert (shape.num_kv_heads, shape.head_dim) == (8, 8)


def test_the_text_part_of_a_multimodal_config_is_read() -> None:
    shape = model_config.shape({"model_type": "gemma3", "text_config": SMALL, "vision_config": {}}, "x")
    assert (shape.is_multimodal, shape.num_hidden_layers) == (True, 6)


def test_latent_attention_caches_one_vector_for_all_heads() -> None:
    assert fixtures.published("deepseek-v3").shape.latent_dim == 512 + 64


class TestWindows:
    def test_layer_types_say_which_layers_have_one(self) -> None:
        kinds = ["sliding_attention", "full_attention"] * 3
        assert windows(sliding_window=32, layer_types=kinds) == [32, None] * 3

    def test_older_configs_of_hybrid_families_leave_it_to_their_pattern(self) -> None:
        assert windows(model_type="gemma2", sliding_window=32) == [32, None] * 3
        assert windows(model_type="gemma3_text", sliding_window=32) == [32] * 5 + [None]
        assert windows(model_type="gemma3_text", sliding_window=32, sliding_window_pattern=3) == [32, 32, None] * 2

    def test_a_window_without_a_pattern_is_that_of_all_layers(self) -> None:
        assert windows(model_type="mistral", sliding_window=32) == [32] * 6

    def test_a_window_that_is_not_used_is_none(self) -> None:
        assert windows(model_type="qwen2", sliding_window=32, use_sliding_window=False) == [None] * 6
        assert windows(model_type="mistral", sliding_window=0) == [None] * 6


class TestLengths:
    """As vLLM's `_get_and_verify_max_len`."""

    def test_the_smallest_length_that_is_named(self) -> None:
        assert lengths(max_position_embeddings=4096, seq_length=2048) == (2048, 2048)
        assert lengths() == (2048, 2048)

    def test_scaled_positions_reach_further(self) -> None:
        rope = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1000}
        assert lengths(max_position_embeddings=4096, rope_scaling=rope) == (4000, 4000)
        assert lengths(max_position_embeddings=4096, rope_scaling={"type": "linear", "factor": 2}) == (8192, 8192)
        llama3 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 1000}
        assert lengths(max_position_embeddings=4096, rope_scaling=llama3) == (4096, 4096)

    def test_longrope_starts_with_its_original_length(self) -> None:
        rope = {"type": "longrope", "original_max_position_embeddings": 1000}
        assert lengths(max_position_embeddings=4096, rope_scaling=rope) == (4096, 1000)


def test_a_checkpoint_may_bring_an_fp8_cache() -> None:
    for quantization in (
        {"quant_method": "compressed-tensors", "kv_cache_scheme": {"num_bits": 8, "type": "float"}},
        {"quant_method": "modelopt", "quantization": {"kv_cache_quant_algo": "FP8"}},
    ):
        found = model_config.shape({**SMALL, "quantization_config": quantization}, "x").quantization
        assert found is not None
        assert found.kv_cache_is_fp8


@pytest.mark.parametrize(
    "fields",
    [
        {"layer_types": ["linear_attention"] * 6},
        {"mamba_d_state": 16},
        {"index_topk": 2048, "kv_lora_rank": 512, "model_type": "deepseek_v3"},
        {"kv_lora_rank": 512, "model_type": "new_family"},
        {"is_encoder_decoder": True},
    ],
)
def test_layers_that_cache_something_else_are_named(fields: dict[str, object]) -> None:
    assert model_config.shape({**SMALL, **fields}, "x").not_modelled


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"{}", "x: num_hidden_layers: missing: this is not the config.json of a language model"),
        (b"[]", "x: must be a JSON object"),
        (b"{", "x: not JSON: "),
        (json.dumps({**SMALL, "num_hidden_layers": -1}).encode(), "x: num_hidden_layers: must be a whole number from"),
        (json.dumps({**SMALL, "num_hidden_layers": 10**9}).encode(), "x: num_hidden_layers: must be a whole number"),
        (json.dumps({**SMALL, "vocab_size": "many"}).encode(), "x: vocab_size: must be a whole number from 1 to"),
        (json.dumps({**SMALL, "sliding_window": 1.5}).encode(), "x: sliding_window: must be a whole number from 1"),
        (b" " * (4 * 2**20 + 1), "x: larger than 4 MiB: that is no config.json of a model"),
    ],
)
def test_what_is_no_config_is_one_line(text: bytes, problem: str) -> None:
    with pytest.raises(InputError) as error:
        model_config.read(text, "x")
    (line,) = error.value.problems
    assert line.startswith(problem)


@given(name=st.sampled_from(fixtures.NAMES), data=st.data())
def test_whatever_a_field_holds_the_answer_is_a_shape_or_one_line(name: str, data: st.DataObject) -> None:
    config = fixtures.published(name).config
    extra = ("text_config", "sliding_window_pattern", "layers_block_type", "head_dim", "rope_parameters", "dtype")
    changed = data.draw(st.dictionaries(st.sampled_from([*config, *extra]), JSON | st.integers(-2, 70_000), max_size=4))
    shape = fixtures.or_one_line(lambda: model_config.shape({**config, **changed}, "x"))
    if shape is not None:
        assert len(shape.windows) == shape.num_hidden_layers
        assert 0 < shape.default_len <= shape.max_len


@given(st.binary(max_size=200) | JSON.map(lambda data: json.dumps(data).encode()))
def test_whatever_the_file_holds_the_answer_is_a_shape_or_one_line(text: bytes) -> None:
    fixtures.or_one_line(lambda: model_config.read(text, "x"))
