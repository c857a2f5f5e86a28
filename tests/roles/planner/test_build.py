"""From inventory, list and hosts to one plan."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roles.model_serving.list_source import Source
from roles.model_serving.model import Model
from roles.planner import build
from roles.planner.build import PlanHost, PlanInputs
from roles.planner.changes.hosts import HostChange
from roles.planner.changes.models import ModelChange
from roles.planner.memory import check as memory
from roles.planner.memory import hardware
from roles.planner.memory.found_model import FoundModel
from roles.planner.memory.safetensors import Weights
from roles.planner.placement.place import Host
from roles.planner.plan import GpuShare

LIST = Source("file", "models.yaml")
GIB = 2**30


def host(name: str, gpus: int = 4, gpu_model: Any = "H100", **values: Any) -> PlanHost:
    gpu = hardware.gpu(gpu_model, None) if gpus else None
    return PlanHost(Host(name, 64, gpus, gpu_model if gpus else None), is_head=name == "gpu-01", gpu=gpu, **values)


def model(name: str, **fields: Any) -> Model:
    return Model(**{"model_id": name, "max_replicas": fields.get("min_replicas", 1), **fields})


RACK = (host("gpu-01"), host("gpu-02"))


def inputs(models: Sequence[Model], hosts: Sequence[PlanHost] = RACK, **values: Any) -> PlanInputs:
    return PlanInputs(hosts, models, LIST, **values)


def test_every_replica_stands_on_the_gpus_it_is_shown_on() -> None:
    shares = {"share_gpu": True, "gpu_memory_utilization": 0.475}
    plan = build.plan(inputs([model("big", tensor_parallel_size=3), model("a", **shares), model("b", **shares)]))
    assert plan.problems == ()
    assert plan.hosts[0].gpus[:3] == ((GpuShare("big", 1.0),),) * 3
    assert sum(share.share for each in plan.hosts for gpu in each.gpus for share in gpu) == 4.0
    assert [each.hosts for each in plan.models] == [("gpu-01",), ("gpu-02",), ("gpu-02",)]


def test_what_forbids_the_run_makes_the_plan_impossible_and_stands_first() -> None:
    plan = build.plan(inputs([model("big", tensor_parallel_size=8)], problems=["no"]))
    assert (plan.outcome, plan.problems[0], len(plan.problems)) == ("impossible", "no", 2)


def test_a_host_that_is_left_out_holds_nothing_and_says_why() -> None:
    plan = build.plan(inputs([model("big", tensor_parallel_size=4)], [replace(RACK[0], left_out="ill"), RACK[1]]))
    assert plan.hosts[0].left_out == "ill"
    assert plan.models[0].hosts == ("gpu-02",)
    without = build.plan(
        inputs([model("a"), model("b", tensor_parallel_size=4)], [replace(RACK[0], left_out="ill"), RACK[1]])
    )
    assert without.outcome == "impossible"


def test_weights_that_no_gpu_holds_are_a_problem_with_the_field_and_the_hosts() -> None:
    found = {"huge": FoundModel(None, Weights(200 * GIB, {}, 0, source="huge on the host"))}
    plan = build.plan(inputs([model("huge")], found=found))
    (problem,) = plan.problems
    assert problem.startswith("models.yaml: models[0].tensor_parallel_size: on gpu-01, gpu-02: weights of 200.0 GiB")
    assert plan.outcome == "impossible"


def test_of_unlike_gpus_those_that_are_too_small_are_named_with_the_type_that_would_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def check(_model: Model, _shape: object, _stored: object, gpu: Any, **_: object) -> memory.Memory:
        if "L4" in gpu.name:
            return memory.Memory("does not fit", problems=((("max_model_len",), "too long"),))
        return memory.Memory("fits", notes=("a note",))

    monkeypatch.setattr(memory, "check", check)
    plan = build.plan(inputs([model("a")], [RACK[0], host("gpu-03", gpu_model="L4")]))
    assert plan.problems == (
        "models.yaml: models[0].max_model_len: on gpu-03: too long; one of these makes it fit: accelerator_type: H100",
    )
    assert plan.warnings == ("models.yaml: models[0]: a note",)


def test_how_far_autoscaling_could_go_is_told() -> None:
    plan = build.plan(inputs([model("a", tensor_parallel_size=2, max_replicas=9), model("b", tensor_parallel_size=4)]))
    assert [(each.placed, each.reachable) for each in plan.models] == [(1, 2), (1, 1)]


def test_changes_stand_beside_their_models_and_hosts() -> None:
    changes = [
        ModelChange("a", "restart", ("dtype",), "", 60.0),
        ModelChange("old", "stop", why="not in the model list"),
    ]
    of_hosts = [
        HostChange("gpu-01", "files", "unchanged"),
        HostChange("gpu-01", "node", "restart", ("/etc/rayrack/ray.env",), "", 12.0),
    ]
    plan = build.plan(inputs([model("a")], model_changes=changes, host_changes=of_hosts))
    a, old = plan.models
    assert (a.change, a.why, a.seconds_without) == ("restart", ("dtype",), 60.0)
    assert (old.slug, old.change) == ("old", "stop")
    assert plan.hosts[0].changes == ("node: restarts: ray.env (12 s)",)
    assert plan.hosts[1].changes is None, "nobody looked"


def test_without_anybody_having_looked_everything_is_unknown_but_the_fit() -> None:
    plan = build.plan(inputs([model("a")]))
    assert (plan.outcome, plan.models[0].change, plan.models[0].placed) == ("unknown", "unknown", 1)


def test_what_runs_is_in_the_way_only_when_it_is_known_to_run() -> None:
    models = [model("large", tensor_parallel_size=4), model("small", min_replicas=2)]
    changes = [ModelChange("large", "start"), ModelChange("small", "unchanged")]
    assert build.plan(inputs(models, model_changes=changes)).problems == ()
    standing = {"small": ["gpu-01", "gpu-02"]}
    (problem,) = build.plan(inputs(models, model_changes=changes, standing=standing)).problems
    assert "beside the models that run now" in problem


sizes = st.builds(
    lambda number, tensor, replicas: model(f"m{number}", tensor_parallel_size=tensor, min_replicas=replicas),
    st.integers(0, 10**6),
    st.integers(1, 4),
    st.integers(1, 3),
)


@given(st.lists(sizes, max_size=5, unique_by=lambda each: each.slug), st.integers(1, 3))
@settings(max_examples=60, deadline=None, database=None, derandomize=True)
def test_no_gpu_is_given_twice_and_a_plan_without_problems_places_all(models: list[Model], hosts: int) -> None:
    plan = build.plan(inputs(models, [host(f"gpu-{number}") for number in range(hosts)]))
    for each in plan.hosts:
        assert all(sum(share.share for share in gpu) <= 1 for gpu in each.gpus)
    if not plan.problems:
        assert all(each.placed == each.min_replicas for each in plan.models)
