"""The figures of one head's models, on values whose answer is known by hand."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.model_serving.list_source import Source
from roles.model_serving.model_list import load
from tests.bench import report
from tests.bench.models_per_head import (
    MEMORY_LIMIT_MIB,
    PART,
    SIZES,
    Size,
    expected_mib,
    exponent,
    model_list,
    start_s,
    table,
)

TEN = Size(
    models=10,
    start_s=4.0,
    unchanged_s=3.0,
    unchanged_cpu_s=1.0,
    plan_s=2.0,
    list_s=0.001,
    get_s=0.01,
    get_kib=70,
    put_s=0.02,
    cores={"watchers": 0.01, "dashboard": 0.1, "controller": 0.05, "replicas": 0.1, "gateway": 0.001},
    machine_cores=1.5,
    mib={"watchers": 120, "dashboard": 500, "controller": 100, "replicas": 900},
    processes={"watchers": 10, "dashboard": 13, "controller": 1, "replicas": 10},
)


@given(
    power=st.floats(-3, 3),
    factor=st.floats(1e-3, 1e3),
    xs=st.lists(st.integers(1, 1000), min_size=2, max_size=6, unique=True),
)
def test_the_exponent_of_a_power_is_that_power(power: float, factor: float, xs: list[int]) -> None:
    assert exponent([(x, factor * x**power) for x in xs]) == pytest.approx(power, abs=1e-6)


def test_one_size_tells_nothing_about_growth() -> None:
    with pytest.raises(ValueError, match="two sizes"):
        exponent([(10, 1.0), (10, 2.0)])


def test_a_start_is_the_time_between_the_last_models_that_this_deploy_has_started() -> None:
    # A deploy that started two: the gap before them is the time between two deploys.
    assert start_s([1, 2, 100, 103], started=2) == 3
    assert start_s([0, 100, 101, 102, 104, 106, 108], started=7) == 2, "of many, the last five"
    assert math.isnan(start_s([7], started=1))


def test_memory_is_expected_to_grow_by_a_replica_and_a_watcher_for_each_model() -> None:
    assert expected_mib(TEN, 12) == 1620 + 2 * (90 + 12)
    assert expected_mib(TEN, 100) > MEMORY_LIMIT_MIB


def test_the_table_has_a_column_for_each_size_and_the_power_of_the_growth() -> None:
    text = table([replace(TEN, models=1, start_s=math.nan), TEN, replace(TEN, models=20, get_s=0.04)])
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert lines[0] == ["models", "1", "10", "20", "power"]
    by_name = {line[0]: line[1:] for line in lines}
    assert by_name["GET of the applications, s"] == ["0.010", "0.010", "0.040", "2.00"]
    assert by_name["start of one more model, s"][:2] == ["", "4.0"], "one model alone has no time between two"
    assert by_name["watchers, % of a core"] == ["1.0", "1.0", "1.0", "0.00"]


def test_a_single_size_has_no_growth() -> None:
    assert {line.strip("|").split("|")[-1].strip() for line in table([TEN]).splitlines()[2:]} == {""}


@pytest.mark.parametrize("models", SIZES)
def test_the_stand_in_may_take_a_models_name_for_its_slug(models: int, tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(model_list(models))
    found = load(Source("file", str(file)))
    assert len(found) == models
    assert all(model.slug == model.model_id for model in found)


def test_its_place_in_the_page_is_there() -> None:
    assert "| new |" in report.replace_part(report.FIGURES.read_text(), PART, "| new |")
