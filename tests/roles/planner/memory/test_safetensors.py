"""Sizes of weights from what describes them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.errors import InputError
from roles.planner.memory import safetensors
from tests.roles.planner.memory import fixtures

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def test_the_index_says_the_sum() -> None:
    text = b'{"metadata": {"total_size": 16060522496}, "weight_map": {"a": "b"}}'
    assert safetensors.from_index(text, "x").loaded == 16_060_522_496


def test_the_hubs_api_counts_elements_by_dtype() -> None:
    data = {"safetensors": {"parameters": {"BF16": 10, "F8_E4M3": 100}, "total": 110}}
    found = safetensors.from_parameters(data, "x")
    assert (found.total, found.by_dtype) == (120, {"BF16": 20, "F8_E4M3": 100})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "x: not JSON: line 1, column 1: Expecting value"),
        (b"[]", "x: metadata.total_size: must be a number of bytes: set weights_gib in the model list"),
        (b'{"metadata": {"total_size": -1}}', "x: metadata.total_size: must be a number of bytes"),
        (b'{"metadata": {"total_size": true}}', "x: metadata.total_size: must be a number of bytes"),
        (b'{"metadata": {"total_size": 1e400}}', "x: metadata.total_size: must be a number of bytes"),
        (b"\xff", "x: not UTF-8 text"),
        (b'{"a": 1, "a": 2}', "x: not usable: a name is set twice in one object"),
        (b"[" * 100_000, "x: nested too deeply"),
        (b"1" * 10_000, "x: not usable: "),
        (b" " * (32 * 2**20 + 1), "x: larger than 32 MiB: that is no index of safetensors files"),
    ],
)
def test_what_is_no_index_is_one_line(text: bytes, problem: str) -> None:
    with pytest.raises(InputError) as error:
        safetensors.from_index(text, "x")
    (line,) = error.value.problems
    assert line.startswith(problem)
    assert "\n" not in line


@given(st.binary(max_size=200) | JSON.map(lambda data: json.dumps(data).encode()))
def test_whatever_the_index_is_the_answer_is_a_size_or_one_line(text: bytes) -> None:
    found = fixtures.or_one_line(lambda: safetensors.from_index(text, "x"))
    assert found is None or found.total > 0


@given(JSON | st.fixed_dictionaries({"safetensors": st.fixed_dictionaries({"parameters": JSON})}))
def test_whatever_the_hub_answers_is_sizes_or_one_line(data: object) -> None:
    found = fixtures.or_one_line(lambda: safetensors.from_parameters(data, "x"))
    assert found is None or found.total > 0
