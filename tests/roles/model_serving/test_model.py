"""One model of the list: defaults, limits, and fields that must fit together."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from roles import field_errors
from roles.model_serving.model import FIELDS, Model, gpu_share


def errors(**fields: Any) -> list[str]:
    """The problems of a model as an operator reads them; fails when there is none."""
    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"model_id": "m", **fields})
    return field_errors.lines(caught.value, field_errors.path, FIELDS)


def test_a_name_is_enough() -> None:
    model = Model(model_id="Qwen/Qwen2.5-32B-Instruct")
    assert model.model_dump() == {
        "model_id": "Qwen/Qwen2.5-32B-Instruct",
        "model_source": "Qwen/Qwen2.5-32B-Instruct",
        "slug": "qwen-qwen2.5-32b-instruct",
        "route_prefix": "/v1",
        "runner": "generate",
        "weights_gib": None,
        "start_timeout_s": 1800,
        "accelerator_type": None,
        "tensor_parallel_size": 1,
        "pipeline_parallel_size": 1,
        "min_replicas": 1,
        "max_replicas": 1,
        "target_ongoing_requests": 8,
        "gpu_memory_utilization": 0.9,
        "share_gpu": False,
        "max_model_len": None,
        "dtype": "auto",
        "quantization": None,
        "enforce_eager": False,
        "env": {},
        "secrets": {},
        "engine_kwargs": {},
        "update": "swap",
    }


def test_every_field_is_described() -> None:
    assert [name for name, field in Model.model_fields.items() if not field.description] == []


def test_a_model_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Model(model_id="m").min_replicas = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    "model_id", ["", " m", "m ", "a b", "a\n", "a//b", "/a", "a/", "a/../b", "a/.b", "llama:8b", "ä", "a#b", "x" * 129]
)
def test_a_name_that_a_url_or_a_map_would_have_to_quote_is_refused(model_id: str) -> None:
    (line, *_) = errors(model_id=model_id)
    assert line.startswith("model_id: must be 1 to 128 of A-Z")
    assert "HAProxy's map" in line


@pytest.mark.parametrize(
    "source", ["owner/name", "name", "/var/lib/rayrack/models/x", "s3://bucket/x", "gs://bucket/x"]
)
def test_weights_come_from_a_hub_a_path_or_a_bucket(source: str) -> None:
    assert Model(model_id="m", model_source=source).model_source == source


@pytest.mark.parametrize("source", ["./x", "../x", "a/b/c", "http://x/y", "/a b", "/a/../b", "~/x", "", "/\x7f"])
def test_any_other_place_for_weights_is_refused(source: str) -> None:
    assert errors(model_source=source)[0].startswith("model_source: must be a ")


@pytest.mark.parametrize("prefix", ["/v1", "/team-a", "/team-a/v1", "/V1", "/mm", "/m1"])
def test_a_prefix_is_one_or_more_path_segments(prefix: str) -> None:
    assert Model(model_id="m", route_prefix=prefix).route_prefix == prefix


@pytest.mark.parametrize("prefix", ["", "/", "v1", "/v1/", "//v1", "/a b", "/a?b", "/a%20", "/../x", "/" + "x" * 64])
def test_a_prefix_that_is_no_plain_path_is_refused(prefix: str) -> None:
    assert errors(route_prefix=prefix)[0].startswith("route_prefix: must begin with '/'")


@pytest.mark.parametrize("prefix", ["/m", "/m/x", "/healthz"])
def test_reserved_prefixes_are_refused(prefix: str) -> None:
    assert errors(route_prefix=prefix)[0].startswith(f"route_prefix: /{prefix.split('/')[1]} is reserved")
    assert errors(route_prefix="/-")


@pytest.mark.parametrize("prefix", ["/v1/models", "/models", "/a/chat/completions"])
def test_a_prefix_inside_the_openai_api_is_refused(prefix: str) -> None:
    assert "is a path of the OpenAI API" in errors(route_prefix=prefix)[0]


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("tensor_parallel_size", 0, "must be at least 1, not 0"),
        ("tensor_parallel_size", 65, "must be at most 64, not 65"),
        ("tensor_parallel_size", "2", 'must be a whole number, not "2"'),
        ("tensor_parallel_size", 2.0, "must be a whole number, not 2.0"),
        ("tensor_parallel_size", True, "must be a whole number, not true"),
        ("pipeline_parallel_size", -1, "must be at least 1, not -1"),
        ("min_replicas", 0, "must be at least 1, not 0"),
        ("max_replicas", 10**9, "must be at most 1000, not 1000000000"),
        ("target_ongoing_requests", 0, "must be at least 1, not 0"),
        ("start_timeout_s", 9, "must be at least 10, not 9"),
        ("start_timeout_s", 10**6, "must be at most 86400, not 1000000"),
        ("gpu_memory_utilization", 0, "must be more than 0, not 0"),
        ("gpu_memory_utilization", 1.01, "must be at most 1, not 1.01"),
        ("gpu_memory_utilization", "0.5", 'must be a number, not "0.5"'),
        ("max_model_len", 0, "must be at least 1, not 0"),
        ("enforce_eager", "yes", 'must be true or false, not "yes"'),
        ("enforce_eager", 1, "must be true or false, not 1"),
        ("quantization", "", 'is too short (at least 1): ""'),
        ("model_source", 5, 'must be text, not 5 (put it in quotes: "...")'),
        ("env", ["A=1"], 'must be a mapping, not ["A=1"]'),
        ("runner", "embed", 'must be one of `generate`, `pooling`, not "embed"'),
        ("update", "blue", 'must be one of `swap`, `surge`, not "blue"'),
    ],
)
def test_a_value_of_the_wrong_kind_or_size_is_refused(field: str, value: object, problem: str) -> None:
    assert errors(**{field: value}) == [f"{field}: {problem}"]


def test_an_accelerator_written_in_lower_case_is_recognised() -> None:
    assert errors(accelerator_type="h100")[0].endswith('not "h100"; did you mean `H100`?')


def test_more_minimum_than_maximum_replicas_are_refused() -> None:
    assert errors(min_replicas=3, max_replicas=2) == ["max_replicas: must be at least min_replicas (3), not 2"]
    assert errors(min_replicas=3) == ["max_replicas: must be at least min_replicas (3), not 1"]


def test_a_replica_asks_for_a_gpu_per_worker() -> None:
    assert Model(model_id="m", tensor_parallel_size=4, pipeline_parallel_size=2).gpus_per_replica == 8
    assert Model(model_id="m").uses_gpu


def test_a_cpu_model_asks_for_no_gpu() -> None:
    model = Model(model_id="m", accelerator_type="cpu", tensor_parallel_size=2)
    assert (model.uses_gpu, model.gpus_per_replica) == (False, 0)


def test_a_shared_gpu_is_asked_for_by_memory_share() -> None:
    assert Model(model_id="m", share_gpu=True, gpu_memory_utilization=0.95).gpus_per_replica == 1
    assert Model(model_id="m", share_gpu=True, gpu_memory_utilization=0.19).gpus_per_replica == 0.2
    assert Model(model_id="m", share_gpu=True, gpu_memory_utilization=0.35).gpus_per_replica == 0.3684
    assert gpu_share(0.017195) == 0.0181  # floats make it 0.01809999...


@given(st.lists(st.integers(1, 95), min_size=1, max_size=20).filter(lambda parts: sum(parts) <= 95))
@settings(max_examples=50, deadline=None, database=None, derandomize=True)
def test_models_with_up_to_095_of_the_memory_together_fit_one_gpu(percents: list[int]) -> None:
    assert sum(round(gpu_share(percent / 100) * 10_000) for percent in percents) <= 10_000


def test_sharing_a_gpu_needs_a_single_gpu_and_an_explicit_share() -> None:
    assert errors(share_gpu=True) == [
        "gpu_memory_utilization: missing: share_gpu needs to be told how much of the GPU this model takes"
    ]
    assert errors(share_gpu=True, gpu_memory_utilization=0.96) == [
        "gpu_memory_utilization: must be at most 0.95 with share_gpu, not 0.96"
    ]
    assert errors(share_gpu=True, gpu_memory_utilization=1e-9) == [
        "gpu_memory_utilization: too small to share a GPU: 1e-09"
    ]
    assert errors(share_gpu=True, gpu_memory_utilization=0.5, tensor_parallel_size=2, pipeline_parallel_size=2) == [
        "tensor_parallel_size: must be 1 with share_gpu, not 2",
        "pipeline_parallel_size: must be 1 with share_gpu, not 2",
    ]
    assert errors(share_gpu=True, gpu_memory_utilization=0.5, accelerator_type="cpu") == [
        "share_gpu: must be false with accelerator_type `cpu`"
    ]


@pytest.mark.parametrize("name", ["HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET", "hf_token"])
def test_a_secret_in_env_is_sent_to_secrets_without_showing_it(name: str) -> None:
    (line,) = errors(env={name: "hunter2"})
    assert line.startswith(f"env.{name}: looks like a secret")
    assert "`secrets`" in line
    assert "hunter2" not in line


@pytest.mark.parametrize("field", ["env", "secrets"])
@pytest.mark.parametrize("name", ["1A", "A-B", "A B", "", "A=B", "Ä"])
def test_a_name_no_environment_can_have_is_refused(field: str, name: str) -> None:
    assert "is not a name of an environment variable" in errors(**{field: {name: "x"}})[0]


@pytest.mark.parametrize("field", ["env", "secrets"])
@pytest.mark.parametrize("name", ["RAY_ADDRESS", "CUDA_VISIBLE_DEVICES", "RAYRACK_SLUG", "RAY_AUTH_MODE"])
def test_a_variable_that_the_units_own_is_refused(field: str, name: str) -> None:
    assert errors(**{field: {name: "x"}})[0].startswith(f"{field}.{name}: must not be set: ")


def test_environment_values_are_text() -> None:
    assert errors(env={"A": 1}) == ['env.A: must be text, not 1 (put it in quotes: "...")']
    assert Model(model_id="m", env={"A": "", "b": "ü\n'"}).env == {"A": "", "b": "ü\n'"}


@pytest.mark.parametrize("file", ["../x", "/etc/x", "a/b", "", ".x", "a b"])
def test_a_secret_is_a_file_of_the_secrets_directory(file: str) -> None:
    assert errors(secrets={"HF_TOKEN": file})[0].startswith("secrets.HF_TOKEN: must be the name of a file")
    assert Model(model_id="m", secrets={"HF_TOKEN": "hub.token"}).secrets == {"HF_TOKEN": "hub.token"}


def test_rays_own_token_cannot_be_handed_to_a_model() -> None:
    assert errors(secrets={"X": "ray.token"}) == ["secrets.X: must not be ray.token: that one opens the whole cluster"]


def test_a_name_in_env_and_in_secrets_is_refused() -> None:
    assert errors(env={"A": "x"}, secrets={"A": "a"}) == ["secrets.A: is set in `env` too: keep one"]


@pytest.mark.parametrize("name", ["tensor_parallel_size", "gpu_memory_utilization", "max_model_len", "dtype", "runner"])
def test_an_engine_argument_that_is_a_field_is_sent_there(name: str) -> None:
    assert errors(engine_kwargs={name: 1}) == [
        f"engine_kwargs.{name}: is a field of the list: set it beside engine_kwargs, not in it"
    ]


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("model", "model_source"),
        ("served_model_name", "model_id"),
        ("hf_token", "secrets"),
        ("data_parallel_size", "max"),
    ],
)
def test_an_engine_argument_that_another_field_stands_for_is_sent_there(name: str, field: str) -> None:
    (line,) = errors(engine_kwargs={name: "x"})
    assert line.startswith(f"engine_kwargs.{name}: must not be set here: use ")
    assert field in line


def test_an_engine_argument_spelled_as_on_a_command_line_is_refused() -> None:
    assert "lower case with underscores" in errors(engine_kwargs={"max-num-seqs": 1})[0]


def test_any_other_engine_argument_passes_with_any_json_value() -> None:
    kwargs: dict[str, Any] = {"max_num_seqs": 4, "hf_overrides": {"rope": [1, 2.5, None, True, "x"]}}
    assert Model(model_id="m", engine_kwargs=kwargs).engine_kwargs == kwargs


@pytest.mark.parametrize("field", ["env", "engine_kwargs"])
def test_a_mapping_larger_than_one_variable_may_be_is_refused(field: str) -> None:
    assert errors(**{field: {"a": "x" * 16 * 1024}}) == [f"{field}: has 16393 bytes as JSON and may have 16384"]
