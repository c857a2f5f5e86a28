"""What starts must find room beside what goes on running, which Ray never moves."""

from collections.abc import Mapping, Sequence
from typing import Any

from roles.model_serving.list_source import Source
from roles.model_serving.model import Model
from roles.planner import live_fit
from roles.planner.changes.models import Kind, ModelChange
from roles.planner.placement.place import Host

LIST = Source("file", "models.yaml")
HOSTS = [Host("gpu-01", 64, 4, "H100"), Host("gpu-02", 64, 4, "H100")]


def model(name: str, **fields: Any) -> Model:
    return Model(**{"model_id": name, "max_replicas": fields.get("min_replicas", 1), **fields})


def problems(
    models: Sequence[Model],
    kinds: Mapping[str, Kind],
    standing: Mapping[str, Sequence[str]],
    hosts: Sequence[Host] = HOSTS,
) -> list[str]:
    changes = [ModelChange(slug, kind) for slug, kind in kinds.items()]
    return list(live_fit.problems(models, hosts, changes, standing, LIST))


def test_what_nobody_starts_needs_no_room() -> None:
    assert problems([model("a")], {"a": "unchanged"}, {"a": ["gpu-01"]}) == []


def test_a_new_model_finds_the_room_that_is_left() -> None:
    models = [model("a", tensor_parallel_size=4), model("b", tensor_parallel_size=4)]
    assert problems(models, {"a": "unchanged", "b": "start"}, {"a": ["gpu-01"]}) == []


def test_a_new_model_that_would_fit_an_empty_rack_may_not_fit_this_one() -> None:
    models = [model("large", tensor_parallel_size=4), model("small", min_replicas=2)]
    assert problems(models, {"large": "start", "small": "unchanged"}, {"small": ["gpu-01", "gpu-02"]}) == [
        "models.yaml: models[0]: finds no room beside the models that run now, though the list fits an empty rack: 4 "
        "GPUs needed on one host; free: gpu-01 3 GPUs, gpu-02 3 GPUs; stop a model that runs on one of these hosts, "
        "deploy, and start it again"
    ]
    assert problems(models, {"large": "start", "small": "unchanged"}, {"small": ["gpu-01", "gpu-01"]}) == []


def test_a_swap_frees_its_room_first_and_a_surge_does_not() -> None:
    one = [Host("gpu-01", 64, 4, "H100")]
    swap, surge = model("a", tensor_parallel_size=4), model("a", tensor_parallel_size=4, update="surge")
    assert problems([swap], {"a": "restart"}, {"a": ["gpu-01"]}, one) == []
    assert problems([surge], {"a": "restart"}, {"a": ["gpu-01"]}, one) == [
        "models.yaml: models[0]: update: surge has no room for new replicas beside the old ones: 4 GPUs needed on one "
        "host; free: gpu-01 0 GPUs; set update: swap"
    ]
    assert problems([surge], {"a": "restart"}, {"a": ["gpu-01"]}) == []


def test_a_model_that_stops_leaves_its_room() -> None:
    assert problems([model("new", tensor_parallel_size=4)], {"new": "start", "old": "stop"}, {"old": ["gpu-01"]}) == []


def test_more_replicas_need_room_and_those_there_already_do_not() -> None:
    grown = model("a", tensor_parallel_size=3, min_replicas=2)
    assert problems([grown], {"a": "reload"}, {"a": ["gpu-01"]}) == []
    one = HOSTS[:1]
    assert "finds no room" in problems([grown], {"a": "reload"}, {"a": ["gpu-01"]}, one)[0]
    surging = grown.model_copy(update={"update": "surge"})
    assert "finds no room" in problems([surging], {"a": "reload"}, {"a": ["gpu-01"]}, one)[0], "nothing surges here"


def test_a_replica_on_a_host_that_has_left_the_rack_counts_as_gone() -> None:
    pair = model("a", tensor_parallel_size=4, min_replicas=2)
    assert problems([pair], {"a": "unchanged"}, {"a": ["gpu-01", "gpu-99"]}) == []
    assert "finds no room" in problems([pair], {"a": "unchanged"}, {"a": ["gpu-01", "gpu-99"]}, HOSTS[:1])[0]


def test_models_have_their_turns_in_the_order_of_the_list() -> None:
    """The first needs what the second frees, which holds its room until it is its turn."""
    one = HOSTS[:1]
    standing = {"a": ["gpu-01"], "b": ["gpu-01"]}
    a, b = model("a", tensor_parallel_size=3), model("b", tensor_parallel_size=1)
    resized = [ModelChange(slug, "restart", ("tensor_parallel_size",)) for slug in ("a", "b")]
    stands_on_three = {"a": ["gpu-01"], "b": ["gpu-01"] * 3}
    assert list(live_fit.problems([b, a], one, resized, standing, LIST)) == []
    (problem,) = live_fit.problems([a, b], one, resized, stands_on_three, LIST)
    assert problem.startswith("models.yaml: models[0]: finds no room")


def test_a_restart_that_asks_for_no_more_than_before_always_has_its_room() -> None:
    scattered = {"a": ["gpu-01"], "b": ["gpu-01", "gpu-02"]}
    models = [model("a", tensor_parallel_size=3), model("b", min_replicas=2)]
    restarts = [ModelChange(slug, "restart", ("dtype",)) for slug in ("a", "b")]
    assert list(live_fit.problems(models, HOSTS, restarts, scattered, LIST)) == []
