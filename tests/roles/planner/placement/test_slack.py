"""Room to spare as proof: it promises only what following every way confirms."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.model_serving.model import Model
from roles.planner.placement import place as placement
from roles.planner.placement.place import Host, Placed, PlacedBundle, Placement, Replica, place, replicas_of


def replicas(name: str, count: int, **fields: Any) -> list[Replica]:
    fields = {"model_id": name, "min_replicas": count, "max_replicas": count, **fields}
    return list(replicas_of(Model.model_validate(fields)))


def share(name: str, count: int, utilization: float, **fields: Any) -> list[Replica]:
    return replicas(name, count, share_gpu=True, gpu_memory_utilization=utilization, **fields)


def by_proof_alone(asked: list[Replica], rack: list[Host], running: Sequence[Placed] = ()) -> Placement:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placement, "MOST_STATES", 0)
        return place(asked, rack, running)


MIXED = [Host(f"h{number}", 128, 8, ("H100", "L4")[number % 2]) for number in range(40)]


def test_a_rack_with_room_to_spare_is_proven_although_its_ways_are_too_many_to_follow() -> None:
    asked = [*share("a", 40, 0.3), *replicas("b", 30), *replicas("c", 10, accelerator_type="L4"), *share("d", 40, 0.19)]
    found = place(asked, MIXED)
    assert not found.followed
    assert found.fits


def test_near_the_end_of_a_full_rack_nothing_is_proven_and_that_is_told() -> None:
    asked = [
        *share("a", 100, 0.3),
        *share("b", 100, 0.4),
        *replicas("c", 10, accelerator_type="L4"),
        *replicas("d", 200),
    ]
    found = place(asked, MIXED)
    assert not found.followed
    assert not found.unplaced
    assert {replica.slug for replica in found.uncertain} <= {"c", "d"}
    assert found.uncertain


def test_whole_gpus_are_proven_up_to_the_last_one() -> None:
    rack = [Host("one", None, 4, "H100"), Host("two", None, 2, "H100")]
    assert by_proof_alone(replicas("a", 6), rack).fits
    assert by_proof_alone([*replicas("a", 4), *replicas("p", 1, pipeline_parallel_size=2)], rack).fits


def test_where_shares_stand_already_a_raylet_may_have_refused() -> None:
    rack = [Host("shared", 128, 3, "H100"), Host("free", 64, 2, "H100")]
    running = [Placed(replica, (PlacedBundle("shared"),)) for replica in share("r", 2, 0.475)]
    pair, single = replicas("pair", 1, tensor_parallel_size=2), replicas("single", 1)
    # Ray tries the two GPUs' worth that is left on `shared` for the pair; after that it may not see the single one.
    assert place([*pair, *single], rack, running).uncertain == tuple(single)
    assert set(by_proof_alone([*pair, *single], rack, running).uncertain) >= set(single)


hosts = st.lists(
    st.tuples(st.sampled_from([1, 4, 6, 12, 64, None]), st.integers(0, 4), st.sampled_from(["H100", "L4", None])),
    min_size=1,
    max_size=4,
).map(lambda found: [Host(f"h{number}", *each) for number, each in enumerate(found)])


@st.composite
def lists(draw: st.DrawFn) -> list[Replica]:
    asked: list[Replica] = []
    for number in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from([None, None, "H100", "L4", "cpu"]))
        count = draw(st.integers(1, 3))
        if kind != "cpu" and draw(st.booleans()):
            asked += share(
                f"m{number}", count, draw(st.sampled_from([0.1, 0.3, 0.38, 0.475, 0.5, 0.9])), accelerator_type=kind
            )
        else:
            sizes = {"tensor_parallel_size": draw(st.integers(1, 3)), "pipeline_parallel_size": draw(st.integers(1, 2))}
            asked += replicas(f"m{number}", count, accelerator_type=kind, **sizes)
    return asked


@given(hosts, lists())
def test_what_is_proven_is_so_in_every_way(rack: list[Host], asked: list[Replica]) -> None:
    every_way, proven = place(asked, rack), by_proof_alone(asked, rack)
    assert {*every_way.unplaced, *every_way.uncertain} <= {*proven.unplaced, *proven.uncertain}
