"""What the last step of a run asks and waits for. The lab runs it for real."""

import json
from typing import Any

from roles.model_serving.model import Model
from roles.verification import steps
from tests.roles.fake_host import Change, changes

TINY = Model(model_id="tiny-a", accelerator_type="cpu")
BIG = Model(model_id="Org/Big", route_prefix="/team-a")
URL = "http://127.0.0.1:8000"
READY = "Every model has answered its warm-up request"
LISTED = "The gateway lists every model"


def units(**ready: bool) -> str:
    return json.dumps(
        {
            slug.replace("_", "-"): {"env_sha256": "x", "enabled": True, "step": "none", "ready": up}
            for slug, up in ready.items()
        }
    )


def lists(*models: Model) -> str:
    """What the two prefixes' lists answer, as the fact's command prints it."""
    pages = []
    for prefix in ("/team-a", "/v1"):
        data = [{"id": model.model_id} for model in models if model.route_prefix == prefix]
        pages += [prefix, json.dumps({"object": "list", "data": data})]
    return "\n".join(pages)


def verified(overview: str, pages: str) -> dict[str, Change]:
    responses: dict[Any, str] = {"model_units overview": overview, "echo /team-a": pages}
    return changes(steps.wait_until_served, responses, models=[TINY, BIG], gateway_url=URL)


def test_a_rack_that_serves_is_not_waited_for() -> None:
    assert verified(units(tiny_a=True, org_big=True), lists(TINY, BIG)) == {}


def test_all_models_are_waited_for_at_once() -> None:
    for overview in (units(tiny_a=True, org_big=False), units(tiny_a=True)):
        change = verified(overview, lists(TINY, BIG))[READY]
        assert change == Change(("/opt/rayrack/bin/model_units wait tiny-a org-big",), {})


def test_a_model_that_clients_cannot_see_is_waited_for_on_its_own_prefix() -> None:
    (command,) = verified(units(tiny_a=True, org_big=True), lists(TINY))[LISTED].commands
    assert command.startswith("timeout 30 sh -c 'until curl ")
    assert f"{URL}/team-a/models" in command
    assert "Org/Big" in command
    assert "tiny-a" not in command


def test_a_gateway_that_does_not_answer_lists_nothing() -> None:
    assert len(verified(units(tiny_a=True, org_big=True), "/team-a\n\n/v1")[LISTED].commands) == 2


def test_without_models_there_is_nothing_to_wait_for() -> None:
    assert changes(steps.wait_until_served, {}, models=[], gateway_url=URL) == {}
