"""What is told of a list that does not fit, since the remedies differ."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from roles.model_serving.model import Model
from roles.planner.placement.place import Host, Placed, PlacedBundle, place, replicas_of
from roles.planner.placement.verdict import Verdict, judge


def model(name: str, **fields: Any) -> Model:
    return Model.model_validate({"model_id": name, "max_replicas": fields.get("min_replicas", 1), **fields})


def share(name: str, utilization: float, replicas: int = 1) -> Model:
    return model(name, share_gpu=True, gpu_memory_utilization=utilization, min_replicas=replicas)


def judged(hosts: list[Host], *models: Model) -> Verdict:
    return judge([replica for each in models for replica in replicas_of(each)], hosts)


TWO = [Host("one", 64, 4, "H100"), Host("two", 64, 4, "H100")]


def test_a_list_that_fits() -> None:
    verdict = judged(TWO, model("a", tensor_parallel_size=4, min_replicas=2))
    assert (verdict.kind, verdict.fits, verdict.models) == ("fits", True, ())


def test_small_models_first_can_leave_no_host_to_a_large_one_and_the_order_that_fits_is_told() -> None:
    verdict = judged(TWO, model("small", min_replicas=2), model("large", tensor_parallel_size=4))
    assert (verdict.kind, verdict.models) == ("order", ("large", "small"))


def test_models_that_need_a_type_come_before_those_that_take_any() -> None:
    rack = [Host("h", 64, 2, "H100"), Host("l", 64, 2, "L4")]
    verdict = judged(rack, model("any", min_replicas=2), model("l4", accelerator_type="L4", tensor_parallel_size=2))
    assert (verdict.kind, verdict.models) == ("order", ("l4", "any"))


def test_a_model_that_no_host_could_hold_is_named_whatever_else_is_wrong() -> None:
    verdict = judged(TWO, model("fine"), model("wide", tensor_parallel_size=8), model("typed", accelerator_type="L4"))
    assert (verdict.kind, verdict.models) == ("too large", ("wide", "typed"))


def test_a_rack_that_has_less_than_is_asked_for_is_short() -> None:
    assert judged(TWO, model("a", min_replicas=9)).kind == "short"
    assert judged(TWO, share("a", 0.57, replicas=9)).kind == "short"
    assert judged([Host("box", 3, 8, "H100")], model("a", min_replicas=4)).kind == "short"
    assert judged([*TWO, Host("l", 64, 1, "L4")], model("a", accelerator_type="L4", min_replicas=2)).kind == "short"


def test_a_rack_that_has_enough_in_sum_may_have_no_room_in_any_order() -> None:
    verdict = judged(TWO, model("a", tensor_parallel_size=3, min_replicas=2), model("b", tensor_parallel_size=2))
    assert verdict.kind == "no room"
    assert [replica.slug for replica in verdict.placement.unplaced] == ["b"]


def test_what_runs_already_is_beside_the_list() -> None:
    running = [Placed(replica, (PlacedBundle("one"),)) for replica in replicas_of(model("r"))]
    large = replicas_of(model("large", tensor_parallel_size=4, min_replicas=2))
    assert judge(large, TWO).fits
    assert judge(large, TWO, running).kind == "short"


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=5),
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
)
def test_an_order_that_is_told_fits(sizes: list[tuple[int, int]], gpus: list[int]) -> None:
    models = {
        f"m{n}": model(f"m{n}", tensor_parallel_size=size, min_replicas=count) for n, (size, count) in enumerate(sizes)
    }
    rack = [Host(f"h{number}", 64, count, "H100") for number, count in enumerate(gpus)]
    verdict = judged(rack, *models.values())
    if verdict.kind == "order":
        assert sorted(verdict.models) == sorted(models)
        assert place([replica for slug in verdict.models for replica in replicas_of(models[slug])], rack).fits
