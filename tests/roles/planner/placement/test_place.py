"""Where replicas will stand, and when the planner says that they fit."""

import math
from collections import Counter
from typing import Any

import pytest
import serve_app
from hypothesis import given
from hypothesis import strategies as st

from roles.model_serving.model import Model
from roles.planner.placement.place import (
    Host,
    Placed,
    PlacedBundle,
    Placement,
    Replica,
    bundles_of,
    can_run,
    place,
    replicas_of,
)
from roles.planner.placement.room import UNITS, Bundle, total
from roles.settings import Settings


def model(name: str = "m", **fields: Any) -> Model:
    return Model.model_validate({"model_id": name, "max_replicas": fields.get("min_replicas", 1), **fields})


def share(name: str, utilization: float, replicas: int = 1, **fields: Any) -> Model:
    return model(name, share_gpu=True, gpu_memory_utilization=utilization, min_replicas=replicas, **fields)


def host(name: str, gpus: int, cpus: float | None = 64, gpu_model: str | None = "H100") -> Host:
    return Host(name, cpus, gpus, gpu_model if gpus else None)


def placed(hosts: list[Host], *models: Model) -> Placement:
    return place([replica for each in models for replica in replicas_of(each)], hosts)


def where(placement: Placement) -> list[tuple[str, ...]]:
    """The hosts of each replica that is placed."""
    return [one.hosts for one in placement.placed]


def test_each_replica_goes_to_the_host_that_keeps_the_largest_part_free() -> None:
    assert where(placed([host("small", 2), host("large", 8)], model(min_replicas=3))) == [("large",)] * 3
    assert where(placed([host("one", 2), host("two", 2)], model(min_replicas=4))) == [("one",), ("two",)] * 2


def test_cpus_left_decide_between_hosts_with_as_many_gpus_left() -> None:
    assert where(placed([host("busy", 4, cpus=8), host("idle", 4, cpus=9)], model())) == [("idle",)]


def test_a_tensor_parallel_group_stays_on_one_host() -> None:
    rack = [host("one", 3), host("two", 3)]
    placement = placed(rack, model("a", tensor_parallel_size=2, min_replicas=2))
    assert where(placement) == [("one",), ("two",)]
    assert placement.fits
    third = placed(rack, model("a", tensor_parallel_size=2, min_replicas=3))
    assert [replica.number for replica in third.unplaced] == [2]
    assert not third.fits


def test_the_workers_of_a_pipeline_fill_one_host_before_the_next() -> None:
    placement = placed([host("one", 3), host("two", 2)], model(tensor_parallel_size=2, pipeline_parallel_size=2))
    assert [bundle.host for bundle in placement.placed[0].bundles] == ["one", "one", "one", "two"]


def test_a_share_goes_where_it_leaves_the_least_and_a_whole_gpu_is_one_that_nobody_has_touched() -> None:
    placement = placed([host("box", 3)], share("a", 0.57), share("b", 0.285), model("c"), share("d", 0.285))
    assert [one.bundles[0].gpus for one in placement.placed] == [((0, 0.6),), ((0, 0.3),), ((1, 1.0),), ((2, 0.3),)]
    assert placement.free["box"].gpus == pytest.approx((0.1, 0.0, 0.7))


def test_a_host_with_shares_left_on_all_gpus_has_room_for_no_whole_one() -> None:
    placement = placed([host("box", 2)], share("a", 0.57, replicas=2), model("b"))
    assert [replica.slug for replica in placement.unplaced] == ["b"]


def test_when_the_best_host_refuses_the_next_best_takes_it() -> None:
    # Three times 0.4 of a GPU is more than the one GPU that is left next to it, and no whole one. The pipeline, which
    # is one worker here and three there, leaves one GPU on `next`.
    rack = [host("best", 3, gpu_model="L4"), host("next", 1)]
    placement = placed(rack, share("a", 0.57, replicas=3, accelerator_type="L4"), model("b"))
    assert where(placement)[-1] == ("next",)
    assert placement.fits


def test_a_refusal_leaves_doubt_since_ray_goes_on_counting_what_was_refused() -> None:
    rack = [host("best", 3, gpu_model="L4"), host("next", 1)]
    before = [share("a", 0.57, replicas=3, accelerator_type="L4"), model("b")]
    placement = placed(rack, *before, share("c", 0.285, accelerator_type="L4"))
    assert [replica.slug for replica in placement.uncertain] == ["c"]
    assert not placement.fits
    assert placed(rack, *before[:1], share("c", 0.285, accelerator_type="L4"), model("b")).fits


def test_unlike_hosts_that_ray_ranks_equal_make_what_comes_after_uncertain() -> None:
    rack = [host("h", 2), host("l", 2, gpu_model="L4")]
    any_gpu, on_l4 = model("a"), model("b", tensor_parallel_size=2, accelerator_type="L4")
    placement = placed(rack, any_gpu, on_l4)
    assert [replica.slug for replica in placement.uncertain] == ["b"]
    assert placed(rack, on_l4, any_gpu).fits
    assert placed([host("h", 2), host("l", 3, gpu_model="L4")], any_gpu, on_l4).fits


def test_an_accelerator_type_is_met_by_hosts_of_that_type_and_by_those_nobody_has_looked_at() -> None:
    wanted = model(accelerator_type="H100")
    assert where(placed([host("l", 8, gpu_model="L4"), host("h", 1)], wanted)) == [("h",)]
    assert where(placed([host("l", 8, gpu_model="L4"), host("unknown", 1, gpu_model=None)], wanted)) == [("unknown",)]
    assert placed([host("l", 8, gpu_model="L4")], wanted).unplaced


def test_cpus_nobody_has_counted_are_never_what_is_missing() -> None:
    assert placed([host("box", 0, cpus=None)], model(accelerator_type="cpu", min_replicas=50)).fits
    assert placed([host("box", 0, cpus=99)], model(accelerator_type="cpu", min_replicas=50)).unplaced


def test_a_model_without_a_gpu_is_placed_where_the_runtime_can_run_it_and_nowhere_else() -> None:
    cuda, cpu = Host("gpu-01", 64, 8, "H100", runs_cpu_models=False), Host("cpu-01", 8, 0, None)
    assert where(placed([cuda, cpu], model(accelerator_type="cpu"))) == [("cpu-01",)]
    assert placed([cuda], model(accelerator_type="cpu")).unplaced
    assert placed([Host("cuda", 64, 0, None, runs_cpu_models=False)], model(accelerator_type="cpu")).unplaced


def test_what_runs_takes_its_room_first_and_as_many_whole_gpus_as_it_may_have() -> None:
    half = replicas_of(share("running", 0.475, replicas=2))
    running = [Placed(replica, (PlacedBundle("box"),)) for replica in half]
    rack = [host("box", 2, cpus=4)]
    placement = place(replicas_of(share("more", 0.475, replicas=2)), rack, running)
    assert placement.fits
    assert placement.free["box"].cpus == 0
    assert place(replicas_of(model("whole")), rack, running).unplaced


def test_what_runs_is_taken_off_in_full_whatever_its_order() -> None:
    models = [share("a", 0.475, replicas=2), model("b")]
    running = [Placed(replica, (PlacedBundle("box"),)) for each in models for replica in replicas_of(each)]
    assert place([], [host("box", 2)], running).free["box"].gpus == (0, 0)
    assert place([], [host("box", 1)], running).free["box"].gpus == (0,)


def test_twenty_shares_of_a_twentieth_are_one_gpu() -> None:
    assert placed([host("box", 1)], share("a", 0.0475, replicas=20)).fits
    assert placed([host("box", 1)], share("a", 0.0475, replicas=21)).unplaced


def test_ray_cuts_off_what_is_below_its_unit_after_multiplying() -> None:
    assert Bundle.of({"GPU": 0.5263}).gpu == 5263
    assert Bundle.of({"GPU": 0.0029}).gpu == 28


def test_a_resource_the_planner_does_not_know_is_an_error() -> None:
    with pytest.raises(ValueError, match="not TPU"):
        Bundle.of({"TPU": 1})


def test_a_model_can_run_where_one_of_its_placement_groups_could_stand_or_one_worker_of_a_pipeline() -> None:
    box = Host.of("box", Settings(gpus=2, gpu_model="L4"), 16)
    assert can_run(model(tensor_parallel_size=2), box)
    assert not can_run(model(tensor_parallel_size=3), box)
    assert can_run(model(tensor_parallel_size=2, pipeline_parallel_size=2), box)
    assert not can_run(model(accelerator_type="H100"), box)
    assert not can_run(model(accelerator_type="cpu"), box)
    assert can_run(model(accelerator_type="cpu"), Host.of("cpu", Settings(runtime="cpu"), 2))
    assert not can_run(model(accelerator_type="cpu"), Host.of("cpu", Settings(runtime="cpu"), 1))


@given(
    st.sampled_from(["cpu", "H100", None]),
    st.integers(1, 8),
    st.integers(1, 4),
    st.floats(0.01, 0.95, allow_nan=False),
    st.booleans(),
)
def test_a_replica_asks_ray_for_what_the_application_asks_for(
    kind: str | None, tensor: int, pipeline: int, utilization: float, shares: bool
) -> None:
    sizes: dict[str, Any] = {"tensor_parallel_size": tensor, "pipeline_parallel_size": pipeline}
    if shares and kind != "cpu":
        sizes = {"share_gpu": True, "gpu_memory_utilization": utilization}
    each = model(accelerator_type=kind, **sizes)
    needs = serve_app.needs(each.model_dump())
    assert bundles_of(each) == tuple(Bundle.of(bundle) for bundle in needs.bundles)
    assert replicas_of(each)[0].one_host == needs.one_node


# Open-ended racks and lists.

hosts = st.lists(
    st.tuples(st.integers(0, 8), st.sampled_from([None, 0, 1, 2, 5, 64]), st.sampled_from(["H100", "L4", None])),
    min_size=1,
    max_size=6,
).map(lambda found: [host(f"h{index}", *each) for index, each in enumerate(found)])


@st.composite
def model_lists(draw: st.DrawFn, most: int = 8) -> list[Model]:
    models = []
    for number in range(draw(st.integers(1, most))):
        fields: dict[str, Any] = {"min_replicas": draw(st.integers(1, 3))}
        fields["accelerator_type"] = draw(st.sampled_from([None, None, "H100", "L4", "cpu"]))
        if fields["accelerator_type"] != "cpu" and draw(st.booleans()):
            fields |= {"share_gpu": True, "gpu_memory_utilization": draw(st.integers(1, 95)) / 100}
        else:
            fields["tensor_parallel_size"] = draw(st.integers(1, 4))
            fields["pipeline_parallel_size"] = draw(st.sampled_from([1, 1, 2]))
        models.append(model(f"m{number}", **fields))
    return models


@given(hosts, model_lists())
def test_no_gpu_and_no_cpu_is_given_twice(rack: list[Host], models: list[Model]) -> None:
    placement = placed(rack, *models)
    gpus: Counter[tuple[str, int]] = Counter()
    cpus: Counter[str] = Counter()
    for one in placement.placed:
        for wanted, bundle in zip(one.replica.bundles, one.bundles, strict=True):
            cpus[bundle.host] += wanted.cpu
            assert math.isclose(sum(part for _, part in bundle.gpus) * UNITS, wanted.gpu)
            for index, part in bundle.gpus:
                gpus[bundle.host, index] += round(part * UNITS)
    for each in rack:
        assert all(gpus[each.name, index] <= (UNITS if index < each.gpus else 0) for index in range(9))
        free = placement.free[each.name]
        assert [round(part * UNITS) for part in free.gpus] == [UNITS - gpus[each.name, n] for n in range(each.gpus)]
        if each.num_cpus is not None:
            assert free.cpus == each.num_cpus - cpus[each.name] / UNITS >= 0


@given(hosts, model_lists())
def test_no_replica_is_lost_and_no_strict_group_is_split(rack: list[Host], models: list[Model]) -> None:
    placement = placed(rack, *models)
    asked = [replica for each in models for replica in replicas_of(each)]
    assert Counter([*(one.replica for one in placement.placed), *placement.unplaced]) == Counter(asked)
    assert all(len(one.hosts) == 1 for one in placement.placed if one.replica.one_host)
    assert placement == placed(rack, *models)


@given(hosts, model_lists(), model_lists(most=1))
def test_one_more_model_at_the_end_moves_no_other(rack: list[Host], models: list[Model], more: list[Model]) -> None:
    last = more[0].model_copy(update={"slug": "last"})
    before, after = placed(rack, *models), placed(rack, *models, last)
    kept = [one for one in after.placed if one.replica.slug != "last"]
    assert kept == list(before.placed)


@given(hosts, model_lists(most=3))
def test_more_of_everything_on_one_host_of_each_kind_is_enough_for_all(rack: list[Host], models: list[Model]) -> None:
    replicas: list[Replica] = [replica for each in models for replica in replicas_of(each)]
    needed = total(bundle for replica in replicas for bundle in replica.bundles)
    gpus = sum(bool(bundle.gpu) for replica in replicas for bundle in replica.bundles)
    enough = [Host("large", needed.cpu / UNITS, gpus, None), Host("cpu", needed.cpu / UNITS, 0, None)]
    assert place(replicas, enough).fits


def test_what_runs_already_is_beside_the_list() -> None:
    two = [Host("one", 64, 4, "H100"), Host("two", 64, 4, "H100")]
    running = [Placed(replica, (PlacedBundle("one"),)) for replica in replicas_of(model())]
    large = replicas_of(model(tensor_parallel_size=4, min_replicas=2))
    assert place(large, two).fits
    assert not place(large, two, running).fits
