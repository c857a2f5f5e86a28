"""What a plan says of each model: the rules are the unit's own, so these tests ask whether it says them of the right
files, for how long, and what the nodes that go down take with them."""

import hashlib
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import model_units
import pytest
import serve_app
from hypothesis import given
from hypothesis import strategies as st

from roles.model_serving import env_file
from roles.model_serving.model import Model
from roles.planner.changes import models as changes
from roles.planner.changes.models import ModelChange, NodeDown, RunningModel, model_changes
from tests.roles.model_serving.test_env_file import MODELS

HEAD = NodeDown("gpu-01", "10.0.0.1", is_head=True, seconds=30)
WORKER = NodeDown("gpu-02", "10.0.0.2", is_head=False, seconds=20)
USUAL: dict[str, Any] = {
    "model_id": "tiny-a",
    "slug": "tiny-a",
    "model_source": "/srv/models/tiny-a",
    "min_replicas": 2,
}
# Another value of each field; with the fields that it needs beside it.
OTHER: dict[str, dict[str, Any]] = {
    "model_id": {"model_id": "tiny-b"},
    "model_source": {"model_source": "/srv/models/tiny-b"},
    "slug": {"slug": "tiny-b"},
    "runner": {"runner": "pooling"},
    "accelerator_type": {"accelerator_type": "H100"},
    "tensor_parallel_size": {"tensor_parallel_size": 2},
    "pipeline_parallel_size": {"pipeline_parallel_size": 2},
    "gpu_memory_utilization": {"gpu_memory_utilization": 0.5},
    "share_gpu": {"share_gpu": True, "gpu_memory_utilization": 0.9},
    "max_model_len": {"max_model_len": 512},
    "dtype": {"dtype": "half"},
    "quantization": {"quantization": "fp8"},
    "enforce_eager": {"enforce_eager": True},
    "env": {"env": {"A": "1"}},
    "secrets": {"secrets": {"HF_TOKEN": "hub.token"}},
    "engine_kwargs": {"engine_kwargs": {"max_num_seqs": 8}},
    "min_replicas": {"min_replicas": 1},
    "max_replicas": {"max_replicas": 3},
    "target_ongoing_requests": {"target_ongoing_requests": 4},
    "route_prefix": {"route_prefix": "/team-a"},
    "weights_gib": {"weights_gib": 1.5},
    "start_timeout_s": {"start_timeout_s": 60},
    "update": {"update": "surge"},
}


def model(**values: Any) -> Model:
    return Model(**{**USUAL, "max_replicas": 2, **values})


def running(started_with: Model, **values: Any) -> RunningModel:
    """A model that runs with these fields, two replicas on two hosts; its load took a minute."""
    text, fields = env_file.render(started_with), started_with.model_dump(mode="json")
    usual = RunningModel(
        active="active",
        enabled=True,
        env_sha256=hashlib.sha256(text.encode()).hexdigest(),
        env={f"RAYRACK_{name.upper()}": json.dumps(value) for name, value in fields.items()},
        overrides={},
        applied=fields,
        load={"seconds": 60.0, "fields": fields},
        replicas=("10.0.0.1", "10.0.0.2"),
    )
    return replace(usual, **values)


def change(wanted: Model, found: RunningModel, *nodes: NodeDown) -> ModelChange:
    (told,) = model_changes([wanted], {wanted.slug: found}, nodes)
    return told


def test_a_model_that_runs_as_it_is_rendered_is_unchanged() -> None:
    assert change(model(), running(model())) == ModelChange("tiny-a", "unchanged", seconds_without=0.0)


@given(MODELS)
def test_so_is_any_model_that_a_list_can_describe(any_model: Model) -> None:
    assert change(any_model, running(any_model)).kind == "unchanged"


@given(MODELS, MODELS)
def test_a_model_whose_env_file_differs_is_never_unchanged(one: Model, other: Model) -> None:
    told = change(other, running(one))
    assert (told.kind == "unchanged") is (env_file.render(one) == env_file.render(other))


@given(MODELS, MODELS, st.sampled_from(["active", "activating", "failed", "inactive", "deactivating"]), st.booleans())
def test_the_plan_says_what_the_head_will_do(one: Model, other: Model, active: str, known: bool) -> None:
    found = running(one, active=active, applied=one.model_dump(mode="json") if known else None)
    fields = other.model_dump(mode="json")
    kind = change(other, found).kind
    needed = serve_app.needed(active, found.applied, fields).kind
    assert needed == ("unchanged" if kind == "settings" else kind)


def test_the_table_of_other_values_has_every_field() -> None:
    assert sorted(OTHER) == sorted(serve_app.FIELDS)


@pytest.mark.parametrize("name", OTHER)
def test_each_field_alone_is_told_with_what_its_change_needs(name: str) -> None:
    new = model(**OTHER[name])
    (told,) = model_changes([new], {new.slug: running(model())})
    kind = "restart" if name in serve_app.IN_REPLICA else "reload" if name in serve_app.IN_PLACE else "settings"
    assert (told.kind, told.fields) == (kind, (name,))
    assert kind == "restart" or told.seconds_without == 0.0


def test_a_plan_goes_to_json() -> None:
    told = model_changes([model(**OTHER["env"])], {"tiny-a": running(model()), "gone": running(model())})
    assert json.loads(json.dumps([asdict(each) for each in told]))[0] == {
        "slug": "tiny-a",
        "kind": "restart",
        "fields": ["env"],
        "why": "",
        "seconds_without": 65.0,
    }


def test_a_new_model_is_started_and_one_off_the_list_is_stopped() -> None:
    assert model_changes([model()], {"gone": running(model())}) == (
        ModelChange("tiny-a", "start", why="new in the model list"),
        ModelChange("gone", "stop", why="not in the model list"),
    )


@pytest.mark.parametrize("active", ["failed", "inactive"])
def test_a_model_that_does_not_run_is_started_whether_or_not_it_was_changed(active: str) -> None:
    for wanted in (model(), model(**OTHER["env"])):
        told = change(wanted, running(model(), active=active))
        assert (told.kind, told.why) == ("start", f"its unit is {active}")
        assert told.seconds_without == 60.0


def test_a_start_under_way_with_these_settings_goes_on() -> None:
    told = change(model(), running(model(), active="activating"))
    assert (told.kind, told.why) == ("unchanged", "it is starting now")


def test_a_head_that_was_not_looked_at_makes_every_model_unknown() -> None:
    (told,) = model_changes([model()], None)
    assert (told.kind, told.seconds_without) == ("unknown", None)


def test_a_value_of_the_override_file_wins_over_the_list() -> None:
    found = running(model(), overrides={"RAYRACK_MAX_MODEL_LEN": "512"}, applied=fields_of(max_model_len=512))
    assert change(model(), found).kind == "unchanged"
    told = change(model(max_model_len=256), found)
    assert (told.kind, told.fields) == ("settings", ())


def test_an_override_that_was_not_applied_yet_is_told_with_its_field() -> None:
    told = change(model(), running(model(), overrides={"RAYRACK_MAX_MODEL_LEN": "512"}))
    assert (told.kind, told.fields) == ("restart", ("max_model_len",))


def test_a_broken_override_is_named() -> None:
    told = change(model(), running(model(), overrides={"RAYRACK_ENV": "nonsense"}))
    assert told.kind == "restart"
    assert told.why.startswith("tiny-a.override.env: RAYRACK_ENV: not JSON: nonsense")


def test_a_file_that_only_lost_its_comment_is_written_anew() -> None:
    told = change(model(), running(model(), env_sha256="0" * 64))
    assert told == ModelChange("tiny-a", "settings", (), "its env file is written anew", 0.0)


def test_a_unit_that_was_disabled_is_enabled_and_goes_on() -> None:
    assert change(model(), running(model(), enabled=False)).kind == "settings"


def fields_of(**values: Any) -> dict[str, Any]:
    return model(**values).model_dump(mode="json")


def test_a_model_is_away_while_it_drains_and_loads() -> None:
    assert change(model(**OTHER["env"]), running(model())).seconds_without == changes.DRAIN_S + 60


def test_a_surge_is_away_for_no_time_as_soon_as_it_is_asked_for() -> None:
    new = model(**OTHER["env"], update="surge")
    assert change(new, running(model())).seconds_without == 0.0
    assert change(new, running(model(), active="activating")).seconds_without == changes.DRAIN_S + 60


@pytest.mark.parametrize("name", changes.LOAD_FIELDS)
def test_a_load_that_was_measured_with_another_size_tells_nothing(name: str) -> None:
    assert change(model(**OTHER[name]), running(model())).seconds_without is None


def test_a_load_that_was_never_measured_tells_nothing() -> None:
    assert change(model(**OTHER["env"]), running(model(), load=None)).seconds_without is None


def test_a_head_that_goes_down_takes_every_model_with_it() -> None:
    surging = model(**OTHER["env"], update="surge")
    for wanted in (model(), model(**OTHER["max_replicas"]), surging):
        told = change(wanted, running(model()), HEAD)
        assert (told.kind, told.why) == ("restart", "the head gpu-01 goes down")
        assert told.seconds_without == 90.0
    assert change(model(), running(model(), active="failed"), HEAD).kind == "start"


def test_a_worker_that_goes_down_takes_the_models_with_replicas_there() -> None:
    only_there = running(model(), replicas=("10.0.0.2", "10.0.0.2"))
    told = change(model(), only_there, WORKER)
    assert (told.kind, told.why) == ("restart", "2 of its 2 replicas on gpu-02, which goes down")
    assert told.seconds_without == 80.0
    assert change(model(), running(model(), replicas=("10.0.0.1", None)), WORKER).kind == "unchanged"


def test_a_model_with_a_replica_elsewhere_goes_on_serving() -> None:
    told = change(model(), running(model()), WORKER)
    assert (told.kind, told.seconds_without) == ("restart", 0.0)
    assert told.why == "1 of its 2 replicas on gpu-02, which goes down"


def test_where_replicas_or_pipeline_stages_are_not_known_a_worker_makes_the_model_unknown() -> None:
    told = change(model(), running(model(), replicas=None), WORKER)
    assert (told.kind, told.seconds_without) == ("unknown", None)
    staged = model(pipeline_parallel_size=2)
    told = change(staged, running(staged, replicas=("10.0.0.1",)), WORKER)
    assert (told.kind, told.why) == ("unknown", "a pipeline stage of it may be on gpu-02, which goes down")


@given(MODELS, MODELS, st.lists(st.sampled_from([HEAD, WORKER]), min_size=1, unique=True))
def test_nodes_that_go_down_never_make_less_of_a_change(one: Model, other: Model, nodes: list[NodeDown]) -> None:
    before, after = change(other, running(one)), change(other, running(one), *nodes)
    assert after.kind == "restart"
    assert set(before.fields) <= set(after.fields)


def test_what_the_head_describes_is_read_back(tmp_path: Path) -> None:
    described = {
        **asdict(running(model())),
        "replicas": ["10.0.0.1", None],
        "env": model_units.variables(tmp_path / "no.env"),
    }
    found = RunningModel.parse(json.loads(json.dumps(described)))
    assert found == running(model(), replicas=("10.0.0.1", None), env={})


def test_the_shortest_drain_is_the_one_of_ray_s_env_file() -> None:
    text = Path("templates/ray_cluster/etc/rayrack/ray.env.j2").read_text()
    (seconds,) = re.findall(r"^RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S=(\d+)$", text, re.MULTILINE)
    assert float(seconds) == changes.DRAIN_S


def test_a_run_that_ends_on_the_head_tells_nothing_of_its_models() -> None:
    (change,) = model_changes([Model(model_id="m")], {}, head_stops=True)
    assert (change.kind, change.why) == ("unknown", "the run ends on the head at its driver")
