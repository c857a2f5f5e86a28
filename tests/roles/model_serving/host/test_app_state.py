"""Serve's description of an application in words an operator can act on; recorded from Ray 2.60."""

from typing import Any

import app_state

from tests.roles.model_serving.host.recorded_serve import FIXTURES, fixture


def app(file: str, name: str) -> Any:
    return fixture(file)["applications"][name]


def test_a_running_model_is_summed_up_with_its_replicas_and_requests() -> None:
    running = app("running.json", "m-tiny-a")
    assert app_state.summary(running, "tiny-a", 3) == "RUNNING, 1/1 replicas, 3 ongoing"
    assert app_state.summary(running, "tiny-a", None) == "RUNNING, 1/1 replicas"


def test_a_dead_engine_shows() -> None:
    summary = app_state.summary(app("unhealthy.json", "m-tiny-a"), "tiny-a", 0)
    assert summary.startswith("UNHEALTHY, 0/1 replicas, 0 ongoing: A replica's health check failed.")


def test_while_an_application_is_built_it_has_no_replicas_to_speak_of() -> None:
    assert app_state.summary({"status": "DEPLOYING", "message": "", "deployments": {}}, "x", None) == "DEPLOYING"


def test_a_failure_is_the_last_line_of_the_traceback() -> None:
    failed = app("deploy_failed.json", "m-bad")
    assert (app_state.failure(failed) or "").startswith(
        "RuntimeError: Failed to create vLLM engine config: Repo id must be"
    )
    assert "\n" not in (app_state.failure(failed) or "")


def test_a_model_directory_that_is_not_there_is_told_as_such_after_the_first_attempt() -> None:
    first = app("first_attempt_failed.json", "m-emb")
    assert first["status"] == "DEPLOYING", "Serve tries twice more"
    line = app_state.missing_directory(first, "/srv/models/nonexistent")
    assert (
        line == "model_source /srv/models/nonexistent: no such directory with a model on the host that should load it"
    )


def test_a_hub_id_is_never_called_a_missing_directory() -> None:
    assert app_state.missing_directory(app("deploy_failed.json", "m-bad"), "Org/Model") is None


def test_an_application_that_cannot_be_built_is_wrong_input() -> None:
    unknown = app("not_built_and_not_placed.json", "m-unk")
    assert app_state.is_wrong_input(unknown)
    assert app_state.failure(unknown) == "ValueError: Unknown engine argument: no_such_argument"


def test_a_running_application_has_not_failed() -> None:
    assert app_state.failure(app("running.json", "m-tiny-a")) is None


def test_a_replica_that_ray_finds_no_room_for_has_no_process() -> None:
    assert app_state.unplaced(app("not_built_and_not_placed.json", "m-big"), "big")
    assert not app_state.unplaced(app("running.json", "m-tiny-a"), "tiny-a")


def test_during_a_surge_the_old_replica_serves() -> None:
    ids = app_state.running(app("first_attempt_failed.json", "m-emb"), "emb")
    assert len(ids) == 1


def test_ongoing_requests_are_counted_per_application() -> None:
    metrics = (FIXTURES / "serve_haproxy_metrics.txt").read_text()
    busy = metrics.replace(
        '"http-m-tiny-a-via-ingress-request-router"} 0', '"http-m-tiny-a-via-ingress-request-router"} 3'
    )
    assert app_state.ongoing_requests(busy, "m-tiny-a") == 3
    assert app_state.ongoing_requests(busy, "m-tiny-b") == 0
    assert app_state.ongoing_requests(busy, "m-tiny") is None


def test_boilerplate_after_the_reason_is_left_out() -> None:
    text = "1 validation error for X\n  bad [type=missing]\n    For further information visit https://errors\n\n"
    assert app_state.last_line(text) == "bad [type=missing]"
