"""How a model starts, against a server that answers as Ray Serve was recorded to."""

import threading
import time

import model_start
import model_unit
import pytest
import systemd
from model_host import Record, read_load, remove_load, write_load, write_record
from start_queue import StartQueue

from tests.roles.model_serving.host.one_unit import NAME, SLUG, UNIT, Unit
from tests.roles.model_serving.host.recorded_serve import MISSING


def test_ready_is_said_only_after_the_model_has_answered(unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    answered_before_ready: list[int] = []
    unit.jobs[UNIT] = "stop"

    def notify(*lines: str) -> None:
        if "READY=1" in lines:
            answered_before_ready.append(len(unit.serve.requests))
        unit.said.extend(lines)

    monkeypatch.setattr(systemd, "notify", notify)
    thread = unit.end_when_said("ongoing")
    assert unit.run() == 0
    thread.join()
    assert answered_before_ready == [1]
    assert unit.serve.requests == [("/m/tiny-a/v1/completions", {"model": SLUG, "prompt": "Hello", "max_tokens": 1})]


def test_the_status_says_state_replicas_and_requests_and_feeds_the_watchdog(unit: Unit) -> None:
    unit.jobs[UNIT] = "stop"
    thread = unit.end_when_said("ongoing")
    unit.run()
    thread.join()
    assert "STATUS=RUNNING, 1/1 replicas, 0 ongoing" in unit.said
    assert unit.said[unit.said.index("STATUS=RUNNING, 1/1 replicas, 0 ongoing") + 1] == "WATCHDOG=1"


def test_a_pooling_model_is_warmed_up_with_an_embedding(unit: Unit) -> None:
    unit.started(runner="pooling")
    assert unit.serve.requests == [("/m/tiny-a/v1/embeddings", {"model": SLUG, "input": "Hello"})]


def test_how_long_a_model_took_to_load_is_remembered_with_what_it_was(unit: Unit) -> None:
    assert read_load(unit.host.state_dir, SLUG) is None
    unit.started(dtype="half")
    load = read_load(unit.host.state_dir, SLUG)
    assert load is not None
    assert 0 <= load["seconds"] < 20
    assert load["fields"] == unit.fields(dtype="half")


def test_a_load_that_failed_or_was_taken_over_leaves_the_last_time_as_it_was(unit: Unit) -> None:
    unit.started()
    write_load(unit.host.state_dir, SLUG, 61.26, {})
    unit.started()
    assert unit.run(model_source=MISSING) == 78
    assert read_load(unit.host.state_dir, SLUG) == {"seconds": 61.3, "fields": {}}


def test_a_time_that_cannot_be_written_or_read_is_not_known_and_fails_nothing(unit: Unit) -> None:
    unit.host.state_dir.write_text("a file where the directory should be")
    unit.started()
    assert read_load(unit.host.state_dir, SLUG) is None
    unit.host.state_dir.unlink()
    write_load(unit.host.state_dir, SLUG, 1, {})
    (file,) = unit.host.state_dir.rglob("*.json")
    for broken in ("", "[]", '{"seconds": null, "fields": {}}', '{"seconds": 1}'):
        file.write_text(broken)
        assert read_load(unit.host.state_dir, SLUG) is None


def test_the_time_of_a_model_that_is_removed_is_forgotten(unit: Unit) -> None:
    write_load(unit.host.state_dir, SLUG, 1, {})
    for _ in range(2):
        remove_load(unit.host.state_dir, SLUG)
        assert read_load(unit.host.state_dir, SLUG) is None


def test_every_replica_gets_a_warm_up_request(unit: Unit) -> None:
    unit.started(min_replicas=3, max_replicas=3)
    assert len(unit.serve.requests) == 3


def test_a_missing_directory_fails_for_good_with_its_path_and_leaves_nothing(
    unit: Unit, capsys: pytest.CaptureFixture[str]
) -> None:
    assert unit.run(model_source=MISSING) == 78
    expected = f"tiny-a: model_source {MISSING}: no such directory with a model on the host that should load it\n"
    assert capsys.readouterr().err == expected
    assert f"STATUS={expected.removeprefix('tiny-a: ').strip()}" in unit.said
    assert unit.serve.config["applications"] == []
    assert unit.record() is None


def test_an_unknown_engine_argument_fails_for_good(unit: Unit, capsys: pytest.CaptureFixture[str]) -> None:
    assert unit.run(engine_kwargs={"no_such_argument": 1}) == 78
    assert capsys.readouterr().err == "tiny-a: ValueError: Unknown engine argument: no_such_argument\n"


def test_a_failing_model_leaves_the_others_alone(unit: Unit) -> None:
    other = unit.config("m-other")
    unit.serve.put({"applications": [other]})
    replica = unit.serve.replica("m-other")
    unit.run(model_source=MISSING)
    assert unit.serve.config["applications"] == [other]
    assert unit.serve.replica("m-other") == replica


def test_what_no_node_could_hold_is_refused_before_anything_is_put(
    unit: Unit, capsys: pytest.CaptureFixture[str]
) -> None:
    assert unit.run(tensor_parallel_size=20) == 78
    assert (
        capsys.readouterr().err
        == "tiny-a: needs 21 CPU with the runtime `cpu` on one node; total: 192.0.2.2 8 CPU with the runtime `cpu`\n"
    )
    assert unit.serve.puts == []


def test_in_a_young_cluster_nodes_are_waited_for(unit: Unit) -> None:
    (node,) = unit.serve.nodes["data"]["result"]["result"]
    node["start_time_ms"] = time.time() * 1000
    node["resources_total"]["CPU"] = 1.0

    def join() -> None:
        unit.until_said("waiting for nodes to join")
        assert not list((unit.host.run_dir / "model-starts").iterdir()), "and it holds up no other model"
        node["resources_total"]["CPU"] = 8.0

    thread = threading.Thread(target=join)
    thread.start()
    unit.started()
    thread.join()
    assert unit.serve.requests


def test_a_start_that_takes_too_long_says_what_it_waited_for(unit: Unit, capsys: pytest.CaptureFixture[str]) -> None:
    unit.serve.polls_to_run = 10**9
    fields = unit.fields() | {"start_timeout_s": 0}
    assert model_unit.run(fields, unit.host, unit.api) == 78
    assert "not ready within start_timeout_s (0 s): the engine is still loading" in capsys.readouterr().err
    assert unit.serve.config["applications"] == []


def test_an_engine_that_dies_at_its_first_request_is_not_ready(
    unit: Unit, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_start, "ROUTE_LIMIT_S", 0.05)
    unit.serve.warm_up_status = 500
    assert unit.run() == 1
    assert "READY=1" not in unit.said
    said = capsys.readouterr().err
    assert "the warm-up request failed: " in said
    assert "500 InvalidCxxCompiler; see /tmp/ray/session_latest/logs/worker-" in said
    assert unit.serve.config["applications"] == []


def test_a_failure_that_may_pass_is_tried_three_times_in_a_row(
    unit: Unit, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_start, "ROUTE_LIMIT_S", 0.02)
    unit.serve.warm_up_status = 500
    assert [unit.run(), unit.run(), unit.run()] == [1, 1, 78]
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition("(")[2] for line in lines[:2]] == ["attempt 1 of 3)", "attempt 2 of 3)"]
    assert [unit.run(), unit.run()] == [1, 1], "after giving up, a start by hand begins anew"


def test_a_dashboard_that_never_answers_is_named(
    unit: Unit, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_start, "REST_LIMIT_S", 0.05)
    unit.serve.dashboard_status = 503
    assert unit.run() == 1
    assert "Ray's dashboard does not answer" in capsys.readouterr().err


def test_a_program_that_died_takes_the_running_application_over(unit: Unit) -> None:
    unit.started()
    replica, puts = unit.serve.replica(NAME), len(unit.serve.puts)
    unit.started()
    assert unit.serve.replica(NAME) == replica
    assert len(unit.serve.puts) == puts


def test_taking_over_applies_numbers_that_have_changed_meanwhile(unit: Unit) -> None:
    unit.started()
    replica = unit.serve.replica(NAME)
    unit.started(max_replicas=4)
    assert unit.serve.replica(NAME) == replica
    assert unit.serve.config["applications"][0]["deployments"][0]["autoscaling_config"]["max_replicas"] == 4


def test_a_running_application_with_other_settings_is_replaced(unit: Unit) -> None:
    unit.started()
    replica = unit.serve.replica(NAME)
    unit.started(dtype="half")
    assert unit.serve.replica(NAME) != replica


def test_one_model_starts_at_a_time(unit: Unit) -> None:
    unit.jobs[UNIT] = "stop"
    with StartQueue(unit.host.run_dir, "tiny-b") as other, other.turn(1, str):
        thread = unit.end_when_said("waiting for the start of tiny-b")
        assert unit.run() == 0
        thread.join()
    assert unit.serve.puts == []


def test_a_broken_record_is_as_good_as_none(unit: Unit) -> None:
    write_record(unit.host.run_dir, SLUG, Record("ready", {}))
    file = unit.host.run_dir / "models" / f"{SLUG}.json"
    file.write_text("{")
    assert unit.record() is None
    unit.started()
