"""The settings file of a model: what it looks like, and that systemd reads from it what the list said."""

import ctypes
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from roles.model_serving import env_file
from roles.model_serving.model import Model

GOLDEN = Path(__file__).parent / "golden"

# Text as a list can hold it: no NUL, no surrogates.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
MODELS = st.builds(
    Model,
    model_id=st.just("a/b"),
    env=st.dictionaries(st.sampled_from(["A", "B", "PATH"]), TEXT),
    engine_kwargs=st.dictionaries(st.sampled_from(["hf_overrides", "max_num_seqs"]), JSON),
    gpu_memory_utilization=st.floats(0, 1, exclude_min=True),
    quantization=st.none() | TEXT.filter(bool),
)
EXAMPLES = settings(max_examples=50, deadline=None, database=None, derandomize=True)


def as_systemd_reads_it(text: str) -> dict[str, str]:
    """What EnvironmentFile= makes of our kind of file: comments, and printable text in single quotes."""
    values = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, quoted = line.partition("=")
            assert quoted[0] == quoted[-1] == "'"
            assert "'" not in quoted[1:-1]
            assert quoted.isascii()
            assert quoted.isprintable()
            values[name] = quoted[1:-1]
    return values


def decoded(values: dict[str, str]) -> dict[str, Any]:
    return {name.removeprefix("RAYRACK_").lower(): json.loads(value) for name, value in values.items()}


def test_the_file_of_a_model_with_defaults_only() -> None:
    assert env_file.render(Model(model_id="tinyllama")) == (GOLDEN / "defaults.env").read_text()


def test_the_file_of_a_model_with_every_field_set() -> None:
    model = Model(
        model_id="Qwen/Qwen2.5-32B-Instruct",
        model_source="/var/lib/rayrack/models/qwen",
        slug="qwen",
        route_prefix="/team-a",
        runner="pooling",
        weights_gib=61.5,
        start_timeout_s=3600,
        accelerator_type="H100",
        min_replicas=2,
        max_replicas=4,
        target_ongoing_requests=16,
        gpu_memory_utilization=0.35,
        share_gpu=True,
        max_model_len=32768,
        dtype="bfloat16",
        quantization="fp8",
        enforce_eager=True,
        env={"GREETING": 'it\'s a "test": grüß\n'},
        secrets={"HF_TOKEN": "hub.token"},
        engine_kwargs={"max_num_seqs": 64, "hf_overrides": {"rope_theta": 1e6}},
        update="surge",
    )
    assert env_file.render(model) == (GOLDEN / "every-field.env").read_text()
    assert model.model_fields_set == set(Model.model_fields) - {"tensor_parallel_size", "pipeline_parallel_size"}


@given(MODELS)
@EXAMPLES
def test_every_value_comes_back_as_it_was(model: Model) -> None:
    assert Model.model_validate(decoded(as_systemd_reads_it(env_file.render(model)))) == model


@given(JSON)
@example("\x7f\x00\x1f'\"\\\u2028\ufeff\U0001f600")
@EXAMPLES
def test_any_json_value_is_one_line_of_printable_ascii_without_quotes(value: object) -> None:
    text = env_file.quotable(value)
    assert text.isascii()
    assert text.isprintable()
    assert "'" not in text
    assert json.loads(text) == value


def systemds_parser() -> ctypes.CDLL | None:
    for library in sorted(Path("/usr/lib").glob("*/systemd/libsystemd-shared-*.so")):
        try:
            return ctypes.CDLL(str(library))
        except OSError:
            continue
    return None


@pytest.mark.skipif(systemds_parser() is None, reason="needs systemd's own library")
@given(model=MODELS)
@EXAMPLES
def test_systemd_itself_reads_every_value_as_it_was(tmp_path_factory: pytest.TempPathFactory, model: Model) -> None:
    file = tmp_path_factory.getbasetemp() / "model.env"
    file.write_text(env_file.render(model))
    parser = systemds_parser()
    assert parser is not None
    lines = ctypes.POINTER(ctypes.c_char_p)()
    # int load_env_file(FILE *f, const char *fname, char ***ret): the function behind EnvironmentFile=
    assert parser.load_env_file(None, str(file).encode(), ctypes.byref(lines)) == 0
    values = {}
    index = 0
    while (line := lines[index]) is not None:
        name, _, value = line.decode().partition("=")
        values[name] = value
        index += 1
    assert Model.model_validate(decoded(values)) == model


def test_names_of_a_mapping_written_in_another_order_change_nothing() -> None:
    one = Model(model_id="m", env={"A": "1", "B": "2"}, engine_kwargs={"x": {"b": 1, "a": 2}, "c": 3})
    other = Model(model_id="m", env={"B": "2", "A": "1"}, engine_kwargs={"c": 3, "x": {"a": 2, "b": 1}})
    assert env_file.render(one) == env_file.render(other)
