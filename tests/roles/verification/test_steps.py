"""What the last step of a run asks and waits for. The lab runs it for real."""

import json
import logging
from typing import Any

import pytest

from roles.model_serving.model import Model
from roles.verification import steps
from tests.roles.fake_host import Change, changes

TINY = Model(model_id="tiny-a", accelerator_type="cpu")
BIG = Model(model_id="Org/Big", route_prefix="/team-a")
URL = "https://127.0.0.1:8000"
READY = "Every model has answered its warm-up request"
LISTED = "The gateway lists every model"
FIRST_KEY = ("no API key yet: make one", "then: use it")


def units(**ready: bool) -> str:
    return json.dumps(
        {
            slug.replace("_", "-"): {"env_sha256": "x", "enabled": True, "step": "none", "ready": up}
            for slug, up in ready.items()
        }
    )


def seen(*models: Model, keys: int = 1, problem: str = "") -> str:
    """What clients see, as check_gateway prints it."""
    listed: dict[str, list[str]] = {"/team-a": [], "/v1": []}
    for model in models:
        listed[model.route_prefix].append(model.model_id)
    return json.dumps({"listed": {} if problem else listed, "keys": keys, "problem": problem})


def ready(overview: str) -> dict[str, Change]:
    return changes(steps.wait_until_ready, {"model_units overview": overview}, models=[TINY, BIG])


def listed(view: str) -> dict[str, Change]:
    responses: dict[Any, str] = {"check_gateway look": view}
    found = changes(steps.wait_until_listed, responses, models=[TINY, BIG], gateway_url=URL, first_key=FIRST_KEY)
    del found["Program that asks the gateway"]
    return found


def test_a_rack_that_serves_is_not_waited_for() -> None:
    assert ready(units(tiny_a=True, org_big=True)) == {}
    assert listed(seen(TINY, BIG)) == {}


def test_all_models_are_waited_for_at_once() -> None:
    for overview in (units(tiny_a=True, org_big=False), units(tiny_a=True)):
        assert ready(overview)[READY] == Change(("/opt/rayrack/bin/model_units wait tiny-a org-big",), {})


def test_a_model_that_clients_cannot_see_is_waited_for_on_its_own_prefix() -> None:
    assert listed(seen(TINY))[LISTED].commands == (
        f"/opt/rayrack/bin/check_gateway wait {URL} 30 'org-big /team-a Org/Big'",
    )


def test_a_gateway_that_does_not_answer_lists_nothing() -> None:
    (command,) = listed(seen(problem="ConnectionRefusedError"))[LISTED].commands
    assert command.endswith(f"wait {URL} 30 'tiny-a /v1 tiny-a' 'org-big /team-a Org/Big'")


def test_without_models_there_is_nothing_to_wait_for() -> None:
    assert changes(steps.wait_until_ready, {}, models=[]) == {}


@pytest.mark.parametrize(("keys", "told"), [(0, list(FIRST_KEY)), (1, []), (7, [])])
def test_how_to_make_the_first_key_is_told_when_there_is_none(
    keys: int, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert listed(seen(TINY, BIG, keys=keys)) == {}
    assert [record.message for record in caplog.records if record.message in FIRST_KEY] == told
