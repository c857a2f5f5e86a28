"""The order that is told for a list that does not fit in its own."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from roles.model_serving.model import Model
from roles.planner.placement.order import order_that_fits
from roles.planner.placement.place import Host, place, replicas_of


def model(name: str, **fields: Any) -> Model:
    return Model.model_validate({"model_id": name, "max_replicas": fields.get("min_replicas", 1), **fields})


def share(name: str, utilization: float, replicas: int = 1) -> Model:
    return model(name, share_gpu=True, gpu_memory_utilization=utilization, min_replicas=replicas)


def order(hosts: list[Host], *models: Model) -> tuple[str, ...] | None:
    return order_that_fits([replica for each in models for replica in replicas_of(each)], hosts)


TWO = [Host("one", 64, 4, "H100"), Host("two", 64, 4, "H100")]


def test_small_models_first_can_leave_no_host_to_a_large_one_and_the_order_that_fits_is_told() -> None:
    assert order(TWO, model("small", min_replicas=2), model("large", tensor_parallel_size=4)) == ("large", "small")


def test_models_that_need_a_type_come_before_those_that_take_any() -> None:
    rack = [Host("h", 64, 2, "H100"), Host("l", 64, 2, "L4")]
    models = model("any", min_replicas=2), model("l4", accelerator_type="L4", tensor_parallel_size=2)
    assert order(rack, *models) == ("l4", "any")


def test_of_what_fits_in_no_order_none_is_told() -> None:
    assert order(TWO, model("fine"), model("wide", tensor_parallel_size=8)) is None
    assert order(TWO, model("fine"), model("typed", accelerator_type="L4")) is None
    assert order(TWO, model("a", min_replicas=9)) is None
    assert order(TWO, share("a", 0.57, replicas=9)) is None
    assert order([Host("box", 3, 8, "H100")], model("a", min_replicas=4)) is None
    assert order([*TWO, Host("l", 64, 1, "L4")], model("a", accelerator_type="L4", min_replicas=2)) is None
    assert order(TWO, model("a", tensor_parallel_size=3, min_replicas=2), model("b", tensor_parallel_size=2)) is None


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=5),
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
)
def test_an_order_that_is_told_fits(sizes: list[tuple[int, int]], gpus: list[int]) -> None:
    models = {
        f"m{n}": model(f"m{n}", tensor_parallel_size=size, min_replicas=count) for n, (size, count) in enumerate(sizes)
    }
    rack = [Host(f"h{number}", 64, count, "H100") for number, count in enumerate(gpus)]
    if told := order(rack, *models.values()):
        assert sorted(told) == sorted(models)
        assert place([replica for slug in told for replica in replicas_of(models[slug])], rack).fits
