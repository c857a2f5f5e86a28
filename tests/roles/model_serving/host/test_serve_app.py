"""The Serve application of a model, and what a change of its settings needs."""

import json
from typing import Any

import pytest
import serve_app

from roles.model_serving import env_file
from roles.model_serving.model import FIELDS, Model, gpu_share


def fields(**values: Any) -> dict[str, Any]:
    return Model(**{"model_id": "Org/Big-7B", **values}).model_dump(mode="json")


def application(**values: Any) -> dict[str, Any]:
    return serve_app.application(fields(**values), generation="1", cache_dir="/cache")


def llm_config(**values: Any) -> dict[str, Any]:
    config: dict[str, Any] = application(**values)["args"]["llm_configs"][0]
    return config


def test_every_field_of_the_model_list_is_sorted_by_what_its_change_needs() -> None:
    assert sorted(serve_app.FIELDS) == sorted(FIELDS)
    assert len(set(serve_app.FIELDS)) == len(serve_app.FIELDS)


def test_the_fields_survive_their_env_file() -> None:
    model = Model(model_id="a", engine_kwargs={"a": 'it\'s \\ "quoted" \x7f'})
    environ = dict(
        line.replace("'", "").split("=", 1) for line in env_file.render(model).splitlines() if not line.startswith("#")
    )
    assert serve_app.fields_from(environ) == model.model_dump(mode="json")


def test_true_is_another_argument_than_one_and_order_is_none() -> None:
    one, true = fields(engine_kwargs={"a": 1, "b": 2}), fields(engine_kwargs={"a": True, "b": 2})
    assert serve_app.change(one, true) == serve_app.Change("restart", ("engine_kwargs",))
    assert serve_app.change(one, fields(engine_kwargs={"b": 2, "a": 1})) == serve_app.Change("unchanged")


RUNS, DOWN = ("active", "activating", "reloading"), ("inactive", "failed", "deactivating", "maintenance")


@pytest.mark.parametrize("active", DOWN)
def test_a_unit_that_does_not_run_needs_a_start_whatever_its_files_say(active: str) -> None:
    for applied, wanted in ((fields(), fields()), (None, fields(dtype="half")), (fields(), None)):
        assert serve_app.needed(active, applied, wanted).kind == "start"


@pytest.mark.parametrize("active", RUNS)
def test_a_unit_that_runs_with_what_its_files_say_needs_nothing(active: str) -> None:
    assert serve_app.needed(active, fields(), fields()) == serve_app.Change("unchanged")


def test_only_a_unit_that_is_up_can_be_reloaded() -> None:
    more = fields(max_replicas=2)
    assert serve_app.needed("active", fields(), more) == serve_app.Change("reload", ("max_replicas",))
    assert serve_app.needed("activating", fields(), more) == serve_app.Change("restart", ("max_replicas",))


def test_files_that_are_wrong_restart_a_unit_which_then_says_so() -> None:
    assert serve_app.needed("active", fields(), None).kind == "restart"


def test_a_unit_that_left_no_record_is_restarted_unless_it_is_starting() -> None:
    assert serve_app.needed("active", None, fields()).kind == "restart"
    assert serve_app.needed("activating", None, fields()).kind == "unchanged"


def test_the_application_is_built_on_the_node_from_one_model_on_a_route_of_its_own() -> None:
    app = application()
    assert app["name"] == "m-org-big-7b"
    assert app["route_prefix"] == "/m/org-big-7b"
    assert app["import_path"] == "rayrack_application:build"
    assert len(app["args"]["llm_configs"]) == 1
    assert list(app["args"]) == ["llm_configs"], "LLMServingArgs forbids other keys"
    assert app["runtime_env"]["env_vars"] == {
        "RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING": "1",
        "RAYRACK_GENERATION": "1",
        "PYTHONPATH": "/opt/rayrack/lib/engine_environment",
    }


def test_only_the_generation_differs_between_two_restarts() -> None:
    one = serve_app.application(fields(), generation="1", cache_dir="/cache")
    two = serve_app.application(fields(), generation="2", cache_dir="/cache")
    assert one != two
    assert serve_app.same_replicas(one, two)
    assert serve_app.generation_of(two) == "2"


def test_the_numbers_that_are_applied_in_place_are_not_in_the_version() -> None:
    one = application()
    two = application(min_replicas=2, max_replicas=3, target_ongoing_requests=50, update="surge")
    assert serve_app.same_replicas(one, two)
    assert two["deployments"][0]["autoscaling_config"] == {
        "min_replicas": 2,
        "max_replicas": 3,
        "target_ongoing_requests": 50,
    }


@pytest.mark.parametrize("change", [{"dtype": "half"}, {"env": {"A": "1"}}, {"engine_kwargs": {"seed": 1}}])
def test_anything_else_is_in_the_version(change: dict[str, Any]) -> None:
    assert not serve_app.same_replicas(application(), application(**change))


def test_surge_is_asked_of_the_engines_deployment_which_is_the_only_one() -> None:
    assert [d["max_surge_percent"] for d in application(update="surge")["deployments"]] == [100]
    assert [d["max_surge_percent"] for d in application(update="swap")["deployments"]] == [0]
    assert [d["name"] for d in application()["deployments"]] == ["LLMServer:org-big-7b"]


def test_a_cpu_model_asks_for_no_gpu() -> None:
    config = llm_config(accelerator_type="cpu")
    assert config["accelerator_config"] == {"kind": "cpu"}
    assert "accelerator_type" not in config, "Ray refuses a type beside the CPU"
    assert config["placement_group_config"] == {
        "bundle_per_worker": {"CPU": 1, "rayrack_runtime_cpu": 0.001},
        "strategy": "STRICT_PACK",
    }
    assert "gpu_memory_utilization" not in config["engine_kwargs"]


def test_a_gpu_model_asks_for_whole_gpus_of_its_type() -> None:
    config = llm_config(accelerator_type="H100", tensor_parallel_size=4)
    assert config["accelerator_type"] == "H100"
    assert config["placement_group_config"] == {"bundle_per_worker": {"GPU": 1}, "strategy": "STRICT_PACK"}
    assert config["engine_kwargs"]["tensor_parallel_size"] == 4
    assert config["engine_kwargs"]["gpu_memory_utilization"] == 0.9


def test_a_model_with_pipeline_stages_may_span_hosts() -> None:
    assert llm_config(pipeline_parallel_size=2)["placement_group_config"]["strategy"] == "PACK"


@pytest.mark.parametrize("utilization", [0.1, 0.3, 0.35, 0.475, 0.5, 0.95])
def test_a_shared_gpu_is_asked_for_as_the_model_list_counts_it(utilization: float) -> None:
    config = llm_config(share_gpu=True, gpu_memory_utilization=utilization)
    assert config["placement_group_config"]["bundle_per_worker"] == {"GPU": gpu_share(utilization)}
    assert config["engine_kwargs"]["gpu_memory_utilization"] == utilization


def test_engine_arguments_are_left_out_when_the_model_decides() -> None:
    assert not {"max_model_len", "quantization"} & set(llm_config()["engine_kwargs"])
    kwargs = llm_config(max_model_len=4096, quantization="fp8", engine_kwargs={"seed": 7}, runner="pooling")[
        "engine_kwargs"
    ]
    assert kwargs["max_model_len"] == 4096
    assert kwargs["quantization"] == "fp8"
    assert kwargs["seed"] == 7
    assert kwargs["runner"] == "pooling"


def test_serve_is_never_given_a_limit_below_the_target() -> None:
    assert application(target_ongoing_requests=8)["deployments"][0]["max_ongoing_requests"] == 1000
    assert application(target_ongoing_requests=5000)["deployments"][0]["max_ongoing_requests"] == 10_000


def test_compile_caches_have_their_place_unless_the_model_says_otherwise() -> None:
    environment = llm_config(env={"TRITON_CACHE_DIR": "/mine"})["runtime_env"]["env_vars"]
    assert environment["VLLM_CACHE_ROOT"] == "/cache/org-big-7b/vllm"
    # FlashInfer and CUDA's driver would fill the service user's home otherwise.
    assert environment["FLASHINFER_WORKSPACE_BASE"] == "/cache/org-big-7b/flashinfer"
    assert environment["CUDA_CACHE_PATH"] == "/cache/org-big-7b/cuda"
    assert environment["TRITON_CACHE_DIR"] == "/mine"


def test_of_a_secret_serve_learns_the_file_name_only() -> None:
    environment = llm_config(secrets={"HF_TOKEN": "hub.token"})["runtime_env"]["env_vars"]
    assert json.loads(environment["RAYRACK_SECRETS"]) == {"HF_TOKEN": "hub.token"}
    assert environment["PYTHONPATH"] == serve_app.ENGINE_ENVIRONMENT
    assert "HF_TOKEN" not in environment


def test_a_model_keeps_its_own_python_path_beside_the_one_for_secrets() -> None:
    environment = llm_config(secrets={"A_KEY": "k"}, env={"PYTHONPATH": "/mine"})["runtime_env"]["env_vars"]
    assert environment["PYTHONPATH"] == f"{serve_app.ENGINE_ENVIRONMENT}:/mine"


def test_a_model_without_secrets_gets_none_of_their_machinery() -> None:
    assert not {"PYTHONPATH", "RAYRACK_SECRETS"} & set(llm_config()["runtime_env"]["env_vars"])


@pytest.mark.parametrize(
    ("before", "after", "kind", "names"),
    [
        ({}, {}, "unchanged", ()),
        ({}, {"max_replicas": 2}, "reload", ("max_replicas",)),
        ({}, {"target_ongoing_requests": 9, "max_replicas": 2}, "reload", ("max_replicas", "target_ongoing_requests")),
        ({}, {"dtype": "half", "max_replicas": 2}, "restart", ("dtype",)),
        ({"env": {"A": "1"}}, {"env": {"A": "2"}}, "restart", ("env",)),
        ({}, {"start_timeout_s": 99, "update": "surge", "route_prefix": "/team"}, "unchanged", ()),
    ],
)
def test_a_change_names_the_fields_that_need_it(
    before: dict[str, Any], after: dict[str, Any], kind: str, names: tuple[str, ...]
) -> None:
    assert serve_app.change(fields(**before), fields(**after)) == serve_app.Change(kind, names)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("RAYRACK_MAX_REPLICAS", "two", "RAYRACK_MAX_REPLICAS: not JSON: two"),
        ("RAYRACK_MAX_REPLICAS", '"2"', "RAYRACK_MAX_REPLICAS: must be a whole number"),
        ("RAYRACK_MAX_REPLICAS", "0", "RAYRACK_MAX_REPLICAS: must be a whole number"),
        ("RAYRACK_ENV", "[]", "RAYRACK_ENV: must be a JSON object"),
    ],
)
def test_a_wrong_override_is_named_with_its_variable(variable: str, value: str, complaint: str) -> None:
    environ = {f"RAYRACK_{name.upper()}": json.dumps(value) for name, value in fields().items()}
    with pytest.raises(serve_app.SettingsError, match=complaint):
        serve_app.fields_from({**environ, variable: value})


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(serve_app.SettingsError, match="RAYRACK_MODEL_ID is missing"):
        serve_app.fields_from({})


ON_CPU = {"rayrack_runtime_cpu": 0.001}


@pytest.mark.parametrize(
    ("values", "bundles", "one_node"),
    [
        ({"accelerator_type": "cpu"}, ({"CPU": 2, **ON_CPU},), True),
        ({"accelerator_type": "cpu", "tensor_parallel_size": 2}, ({"CPU": 2, **ON_CPU}, {"CPU": 1, **ON_CPU}), True),
        ({}, ({"GPU": 1, "CPU": 1},), True),
        (
            {"accelerator_type": "L4", "pipeline_parallel_size": 2},
            ({"GPU": 1, "CPU": 1, "accelerator_type:L4": 0.001}, {"GPU": 1, "accelerator_type:L4": 0.001}),
            False,
        ),
    ],
)
def test_a_replica_needs_what_ray_will_ask_for(values: dict[str, Any], bundles: Any, one_node: bool) -> None:
    assert serve_app.needs(fields(**values)) == serve_app.Needs(bundles, one_node)
