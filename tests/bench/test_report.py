"""What stands in docs/figures.md."""

import pytest

from tests.bench import report
from tests.bench.__main__ import PARTS
from tests.bench.churn import Churn, list_with_one_more
from tests.bench.deploys import DeployError, DeployTimes, changes_in
from tests.bench.load import Answer
from tests.bench.measures import block
from tests.bench.plain_vllm import flags
from tests.bench.rotation import ModelAway, Rotation
from tests.bench.throughput import Comparison, Side, Throughput

CHANGED = """--> Results:
    Operation     Hosts   Success   Error   No Change
    A             2       1         -       1
    Grand total   2       3         -       38
"""


def side(*rates: int) -> Side:
    return Side(tuple(block([Answer(n / rate, (n + 1) / rate) for n in range(rate)]) for rate in rates))


def test_every_part_has_its_place_in_the_page() -> None:
    page = report.FIGURES.read_text()
    for part in PARTS:
        assert "| new |" in report.replace_part(page, part, "| new |")


def test_only_the_measured_part_of_the_page_changes() -> None:
    page = "a\n<!-- one: begin -->\nold\n<!-- one: end -->\nb\n<!-- two: begin -->\nstays\n<!-- two: end -->\n"
    expected = "a\n<!-- one: begin -->\nnew\n<!-- one: end -->\nb\n<!-- two: begin -->\nstays\n<!-- two: end -->\n"
    assert report.replace_part(page, "one", "new\n") == expected


def test_a_page_without_its_markers_is_not_written() -> None:
    with pytest.raises(ValueError, match="one: begin"):
        report.replace_part("nothing here", "one", "new")


def test_a_table_lines_up_as_text() -> None:
    assert report.table(("a", "long"), [("wide", "b")]) == "| a    | long |\n|------|------|\n| wide | b    |"


def test_the_deploy_table_says_whether_the_aim_was_met() -> None:
    assert "under 6 s: met" in report.deploy_table(DeployTimes(2, (5.0, 4.0, 9.0), (0.5, 0.5, 0.5)))
    assert "under 6 s: missed" in report.deploy_table(DeployTimes(2, (7.0, 4.0, 9.0), (0.5, 0.5, 0.5)))


def test_the_throughput_table_compares_at_each_concurrency() -> None:
    comparison = Comparison(8, side(90, 45), side(100, 50))
    text = report.throughput_table(Throughput("tiny-a", 16, 0.03, (comparison,)))
    assert "0.90 (aim 0.8: met)" in text
    assert "rayrack, 8 at a time" in text


def test_the_rotation_table_has_a_line_for_each_model_in_the_order_of_the_list() -> None:
    rotation = Rotation((ModelAway("b", 100, 40, 31.6), ModelAway("a", 90, 50, 62.0)), 95.3)
    lines = report.rotation_table(rotation).splitlines()[2:]
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in lines] == [
        ["`b`", "32 s", "40 of 100"],
        ["`a`", "62 s", "50 of 90"],
        ["the deploy, until all have answered again", "95 s", ""],
    ]


def test_the_churn_table_shows_the_first_failure() -> None:
    text = report.churn_table(Churn("tiny-a", 500, ("HTTP 503: x", "HTTP 502"), 1.5, 0.2, 80, 12))
    assert "2 of 500 (HTTP 503: x)" in text


@pytest.mark.parametrize(("output", "changes"), [(CHANGED, 3), (CHANGED.replace(" 3 ", " - "), 0)])
def test_changes_are_read_from_the_table_pyinfra_prints(output: str, changes: int) -> None:
    assert changes_in(output) == changes


def test_an_output_without_results_is_no_deploy() -> None:
    with pytest.raises(DeployError, match="no results"):
        changes_in("Traceback")


def test_the_longer_list_serves_the_same_weights_under_another_name() -> None:
    text = "defaults: {dtype: bfloat16}\nmodels:\n- {model_id: tiny-a, model_source: /srv/a, slug: a}\n"
    longer = list_with_one_more(text, "tiny-a")
    assert "model_id: tiny-a\n" in longer
    assert "model_id: added-by-the-bench" in longer
    assert longer.count("model_source: /srv/a") == 2
    assert longer.count("slug:") == 1


def test_engine_arguments_become_command_line_flags() -> None:
    engine = {
        "enforce_eager": True,
        "enable_prefix_caching": False,
        "max_model_len": 512,
        "quantization": None,
        "x": {"a": 1},
    }
    assert flags(engine) == [
        "--enforce-eager",
        "--no-enable-prefix-caching",
        "--max-model-len",
        "512",
        "--x",
        '{"a": 1}',
    ]
