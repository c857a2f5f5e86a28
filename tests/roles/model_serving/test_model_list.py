"""The model list as a whole: defaults, several models beside each other, and every problem in one error."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roles.errors import InputError
from roles.model_serving.list_source import Source
from roles.model_serving.model_list import Model, load

EXAMPLES = sorted(Path("inventories/models").glob("*.yaml"))


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(text: str, *, remove_all: bool = False) -> tuple[Model, ...]:
    Path("lab.yaml").write_text(text)
    return load(Source("file", "lab.yaml"), remove_all=remove_all)


def problems(text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(text)
    assert all("\n" not in line and "pydantic" not in line for line in caught.value.problems)
    return list(caught.value.problems)


def array(text: str) -> tuple[Model, ...]:
    return load(Source("array", "MODELS_CONFIG", text))


def test_a_list_is_read_in_its_order() -> None:
    assert [model.slug for model in read("models:\n- model_id: org/B\n- model_id: a\n")] == ["org-b", "a"]


def test_defaults_hold_for_every_model_that_does_not_say_otherwise() -> None:
    first, second = read("""
        defaults: {start_timeout_s: 60, dtype: half}
        models:
        - model_id: a
        - {model_id: b, dtype: float32}
    """)
    assert (first.start_timeout_s, first.dtype) == (60, "half")
    assert (second.start_timeout_s, second.dtype) == (60, "float32")


def test_environments_add_to_those_of_the_defaults() -> None:
    (model,) = read("""
        defaults:
          env: {A: common, B: common}
          secrets: {HF_TOKEN: hub.token}
          engine_kwargs: {max_num_seqs: 4}
        models:
        - {model_id: a, env: {B: own}, engine_kwargs: {seed: 1}}
    """)
    assert model.env == {"A": "common", "B": "own"}
    assert model.secrets == {"HF_TOKEN": "hub.token"}
    assert model.engine_kwargs == {"max_num_seqs": 4, "seed": 1}


def test_a_share_of_the_gpu_may_come_from_the_defaults() -> None:
    models = read("defaults: {share_gpu: true, gpu_memory_utilization: 0.45}\nmodels: [{model_id: a}, {model_id: b}]")
    assert [model.gpus_per_replica for model in models] == [0.4736, 0.4736]


def test_a_variable_with_a_json_array_holds_the_same_objects() -> None:
    entries: list[dict[str, Any]] = [{"model_id": "a", "env": {"A": "ü"}}, {"model_id": "b", "enforce_eager": True}]
    assert array(json.dumps(entries)) == tuple(Model.model_validate(entry) for entry in entries)


def test_a_variable_with_a_name_is_one_model_by_default() -> None:
    assert load(Source("single", "MODEL_ID", "org/a")) == (Model(model_id="org/a"),)


def test_all_problems_are_told_at_once_each_with_its_place() -> None:
    assert problems("""
        defaults: {dtype: int4, tensor_paralel_size: 2, slug: x}
        models:
        - {model_id: a, min_replicas: 0}
        - {model_id: b, dtype: auto, trust_remote_code: true}
        - {env: {HF_TOKEN: x}, tensor_parallel: 2}
        - tinyllama
        - {model_id: c, dtype: auto, max_replicas: 2, min_replicas: 3}
    """) == [
        "lab.yaml: defaults.tensor_paralel_size: unknown field; did you mean `tensor_parallel_size`?",
        "lab.yaml: defaults.slug: not for all models: set it on each",
        "lab.yaml: models[0].min_replicas: must be at least 1, not 0",
        "lab.yaml: defaults.dtype: must be one of `auto`, `half`, `float16`, `bfloat16`, `float`, `float32`, "
        'not "int4"',
        "lab.yaml: models[1].trust_remote_code: unknown field; arguments of vLLM's engine go under engine_kwargs",
        "lab.yaml: models[2].model_id: missing",
        "lab.yaml: models[2].tensor_parallel: unknown field; did you mean `tensor_parallel_size`?",
        "lab.yaml: models[3]: must be a mapping of fields, not text; write `model_id: tinyllama`",
        "lab.yaml: models[4].max_replicas: must be at least min_replicas (3), not 2",
    ]


def test_a_bad_name_inside_a_default_environment_is_told_there() -> None:
    (line,) = problems("defaults: {env: {A_KEY: x}}\nmodels: [{model_id: a, env: {B: y}}, {model_id: b}]")
    assert line.startswith("lab.yaml: defaults.env.A_KEY: looks like a secret")


def test_problems_of_a_variable_name_the_variable() -> None:
    with pytest.raises(InputError, match=r"^MODELS_CONFIG: \[1\]\.model_id: missing$"):
        array('[{"model_id": "a"}, {}]')
    with pytest.raises(InputError, match=r"^MODELS_CONFIG: must be a JSON array of models"):
        array('{"model_id": "a"}')
    with pytest.raises(InputError, match=r"^MODELS_CONFIG: not JSON: line 1, column 2: "):
        array("[model]")
    with pytest.raises(InputError, match=r'^MODEL_ID: must be 1 to 128 of .*; it is "a b"$'):
        load(Source("single", "MODEL_ID", "a b"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "empty: a model list has `models:` and may have `defaults:`"),
        ("# soon\n", "empty: a model list has `models:` and may have `defaults:`"),
        ("- model_id: a", "must be a mapping with `models:`, not a list"),
        ("tinyllama", "must be a mapping with `models:`, not text"),
        ("defaults: {}", "models: missing"),
        ("models:", "models: must be a list of models, not nothing"),
        ("models: {model_id: a}", "models: must be a list of models, not a mapping"),
        ("models: []\ndefaults: 1", "defaults: must be a mapping of fields, not a number"),
        ("models: []\nversion: 1", "version: unknown; a list has `models` and `defaults`"),
        ("models: []\ndefault: {}", "default: unknown; did you mean `defaults`?"),
        ("models: [", "line 1, column 10: while parsing a flow node, expected the node content, but found"),
    ],
)
def test_a_file_that_is_no_model_list_is_one_line(text: str, line: str) -> None:
    (found,) = problems(text)
    assert found.startswith(f"lab.yaml: {line}")


def test_a_list_without_models_must_be_meant() -> None:
    assert problems("models: []") == [
        "lab.yaml: models: empty, which would remove every model: if that is meant, say so with --data remove_all=true"
    ]
    assert read("models: []", remove_all=True) == ()
    with pytest.raises(InputError, match=r"^MODELS_CONFIG: empty, which would remove every model"):
        array("[]")


def test_one_name_twice_on_one_prefix_is_refused() -> None:
    assert problems("models: [{model_id: a}, {model_id: b}, {model_id: a, slug: other}]") == [
        "lab.yaml: models[2].model_id: a is already served on /v1 by models[0]"
    ]
    with pytest.raises(InputError, match=r"^MODELS_CONFIG: \[1\]\.model_id: a is already served on /v1 by \[0\]$"):
        array('[{"model_id": "a"}, {"model_id": "a"}]')


def test_one_name_on_two_prefixes_needs_a_slug() -> None:
    assert problems("models: [{model_id: a}, {model_id: a, route_prefix: /team}]") == [
        "lab.yaml: models[1].slug: a is already the slug of models[0], the same model on another prefix: "
        "give this one a `slug` of its own"
    ]
    models = read("models: [{model_id: a}, {model_id: a, route_prefix: /team, slug: a-team}]")
    assert [(model.route_prefix, model.slug) for model in models] == [("/v1", "a"), ("/team", "a-team")]


def test_names_that_become_one_slug_are_refused() -> None:
    assert problems("models: [{model_id: Org/A}, {model_id: org-a}]") == [
        "lab.yaml: models[1].slug: org-a is already the slug of models[0], of Org/A: give this one a `slug` of its own"
    ]


def test_several_models_share_a_prefix_and_one_has_its_own() -> None:
    models = read("models: [{model_id: a}, {model_id: b}, {model_id: c, route_prefix: /team-a}]")
    assert [model.route_prefix for model in models] == ["/v1", "/v1", "/team-a"]


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.sampled_from([*Model.model_fields, "x", "a b"]), VALUE, max_size=6) | VALUE))
@settings(max_examples=50, deadline=None, database=None, derandomize=True)
def test_any_json_array_is_a_list_or_lines_that_begin_with_the_place(entries: list[Any]) -> None:
    lines: tuple[str, ...] = ()
    try:
        array(json.dumps(entries))
    except InputError as error:
        lines = error.problems
    for line in lines:
        assert line.startswith("MODELS_CONFIG: ")
        assert "\n" not in line
        assert "is not valid" not in line  # the words for an error nobody thought of


@pytest.mark.parametrize("example", [pytest.param(path.resolve(), id=path.name) for path in EXAMPLES])
def test_the_lists_that_come_with_rayrack_are_good_and_known_to_editors(example: Path) -> None:
    assert load(Source("file", str(example)))
    assert example.read_text().startswith("# yaml-language-server: $schema=models.schema.json\n")
