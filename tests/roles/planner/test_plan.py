"""What comes of a run, in one word and as JSON."""

import json
from dataclasses import replace

import pytest

from roles.planner.plan import EXIT_STATUS, Plan
from tests.roles.planner.plans import HOST, MODEL, plan


def test_a_plan_in_which_nothing_changes_has_nothing_to_do() -> None:
    assert plan().outcome == "nothing"


@pytest.mark.parametrize("change", ["reload", "restart", "start", "stop"])
def test_one_model_that_changes_makes_a_change(change: str) -> None:
    assert plan(models=[MODEL, replace(MODEL, change=change)]).outcome == "changes"


def test_one_host_that_changes_makes_a_change() -> None:
    assert plan(hosts=[HOST, replace(HOST, changes=("rayrack-worker restarts",))]).outcome == "changes"


def test_what_was_not_looked_at_is_not_taken_for_unchanged() -> None:
    assert plan(hosts=[HOST, replace(HOST, changes=None)]).outcome == "unknown"
    assert plan(models=[replace(MODEL, change="unknown")]).outcome == "unknown"


def test_a_problem_makes_it_impossible_whatever_else_there_is() -> None:
    changed = plan(models=[replace(MODEL, change="restart")])
    assert replace(changed, problems=("no room",)).outcome == "impossible"


def test_exit_statuses_are_those_that_scripts_may_rely_on() -> None:
    assert EXIT_STATUS == {"nothing": 0, "impossible": 1, "changes": 2, "unknown": 2}


def test_the_document_is_json_with_the_outcome_first() -> None:
    document = json.loads(json.dumps(plan().document()))
    assert list(document) == ["outcome", "hosts", "models", "problems", "warnings"]
    assert document["hosts"][0]["gpus"][0] == [{"slug": "big", "share": 1.0}]
    assert document["models"][0]["memory"]["max_model_len"] == 32768


def test_a_plan_of_nothing_is_a_plan() -> None:
    assert Plan((), (), (), ()).outcome == "nothing"
