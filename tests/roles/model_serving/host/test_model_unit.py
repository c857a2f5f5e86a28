"""The commands of a model's unit, against a server that answers as Ray Serve was recorded to."""

import json
import re
import threading
from pathlib import Path

import model_unit
import pytest
import serve_api
from model_host import ModelHost
from start_queue import StartQueue

from tests.roles.model_serving.host.one_unit import NAME, SLUG, UNIT, Unit
from tests.roles.model_serving.host.recorded_serve import MISSING, TOKEN


def test_killed_without_a_job_of_systemd_it_asks_to_be_started_again(unit: Unit) -> None:
    thread = unit.end_when_said("1/1 replicas")
    assert unit.run() == 1
    thread.join()
    assert [app["name"] for app in unit.serve.config["applications"]] == [NAME]


def test_stopped_while_starting_it_removes_what_it_has_put(unit: Unit) -> None:
    unit.serve.polls_to_run = 10**9
    unit.jobs[UNIT] = "stop"
    thread = unit.end_when_said("DEPLOYING")
    assert unit.run() == 0
    thread.join()
    assert unit.serve.config["applications"] == []
    assert unit.record() is None


def test_killed_while_starting_the_next_program_goes_on_where_it_was(unit: Unit) -> None:
    unit.serve.polls_to_run = 10**9
    thread = unit.end_when_said("DEPLOYING")
    assert unit.run() == 1
    thread.join()
    replica = unit.serve.replica(NAME)
    unit.serve.polls_to_run = 0
    unit.started()
    assert unit.serve.replica(NAME) == replica


def test_stopped_before_a_surge_has_begun_the_old_version_goes_too(unit: Unit) -> None:
    unit.started(update="surge")
    unit.jobs[UNIT] = "restart"
    unit.command("stop", update="surge")
    unit.jobs[UNIT] = "stop"
    unit.serve.polls_to_run = 10**9
    thread = unit.end_when_said("DEPLOYING")
    assert unit.run(update="surge") == 0
    thread.join()
    assert unit.serve.config["applications"] == []
    assert unit.record() is None


def test_stop_removes_this_model_only_and_waits_until_it_is_gone(unit: Unit) -> None:
    unit.started()
    other = unit.config("m-other")
    unit.api.change_application("m-other", other)
    unit.jobs[UNIT] = "stop"
    assert unit.command("stop") == 0
    assert list(unit.api.applications()) == ["m-other"]
    assert "requests in progress may finish" in "\n".join(unit.said)
    assert unit.record() is None


@pytest.mark.parametrize("job", ["stop", "restart"])
def test_stop_does_nothing_when_the_head_goes_down_with_it(unit: Unit, job: str) -> None:
    unit.started()
    puts = len(unit.serve.puts)
    unit.jobs["rayrack-head.service"] = job
    assert unit.command("stop") == 0
    assert len(unit.serve.puts) == puts


def test_stop_does_nothing_after_the_program_died(unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    unit.started()
    monkeypatch.delenv("MAINPID")
    assert unit.command("stop") == 0
    assert unit.serve.config["applications"]
    assert unit.record() is not None


def test_stop_without_a_head_that_answers_is_quick_and_no_failure(unit: Unit) -> None:
    unit.started()
    unit.serve.dashboard_status = 503
    assert unit.command("stop") == 0


def test_a_restart_replaces_the_replicas(unit: Unit) -> None:
    unit.started()
    replica = unit.serve.replica(NAME)
    unit.jobs[UNIT] = "restart"
    assert unit.command("stop") == 0
    puts = len(unit.serve.puts)
    unit.started()
    assert unit.serve.replica(NAME) != replica
    assert unit.serve.puts[puts]["applications"] == [], "swap: the old one goes first"


def test_a_restarted_model_serves_until_it_is_its_turn(unit: Unit) -> None:
    unit.started()
    replica = unit.serve.replica(NAME)
    with StartQueue(unit.host.run_dir, "tiny-b") as other, other.turn(1, str):
        unit.jobs[UNIT] = "restart"
        unit.command("stop", dtype="half")
        thread = unit.end_when_said("waiting for the start of tiny-b")
        assert unit.run(dtype="half") == 0, "and another restart meanwhile changes nothing of that"
        thread.join()
        assert unit.serve.replica(NAME) == replica
    unit.started(dtype="half")
    assert unit.serve.replica(NAME) != replica


def test_a_restart_that_no_node_could_hold_leaves_nothing_behind(
    unit: Unit, capsys: pytest.CaptureFixture[str]
) -> None:
    unit.started()
    unit.jobs[UNIT] = "restart"
    unit.command("stop", tensor_parallel_size=20)
    assert unit.run(tensor_parallel_size=20) == 78
    assert "needs 21 CPU" in capsys.readouterr().err
    assert unit.serve.config["applications"] == []
    assert unit.record() is None


def test_a_surge_that_no_node_could_hold_leaves_the_old_version_serving(
    unit: Unit, capsys: pytest.CaptureFixture[str]
) -> None:
    unit.started(update="surge")
    before = unit.serve.config["applications"]
    unit.jobs[UNIT] = "restart"
    unit.command("stop", update="surge", tensor_parallel_size=20)
    thread = unit.end_when_said("the previous version")
    assert unit.run(update="surge", tensor_parallel_size=20) == 0
    thread.join()
    assert unit.serve.config["applications"] == before
    assert "update failed, the previous version goes on serving: needs 21 CPU" in capsys.readouterr().err


def test_a_restart_with_wrong_settings_leaves_nothing_behind(
    unit: Unit, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unit.started()
    unit.jobs[UNIT] = "restart"
    unit.command("stop")
    monkeypatch.setattr(ModelHost, "from_environ", lambda _: unit.host)
    monkeypatch.setenv("RAYRACK_MODEL_ID", "{")
    assert model_unit.main(["run", SLUG]) == 78
    assert "RAYRACK_MODEL_ID" in capsys.readouterr().err
    assert unit.serve.config["applications"] == []
    assert unit.record() is None


def test_a_surging_restart_never_removes_the_application(unit: Unit) -> None:
    unit.started(update="surge")
    replica = unit.serve.replica(NAME)
    unit.jobs[UNIT] = "restart"
    assert unit.command("stop", update="surge") == 0
    unit.started(update="surge")
    assert unit.serve.replica(NAME) != replica
    assert all(put["applications"] for put in unit.serve.puts)


def test_a_surge_that_fails_puts_the_previous_version_back_and_says_so(
    unit: Unit, capsys: pytest.CaptureFixture[str]
) -> None:
    unit.started(update="surge")
    before = unit.serve.config["applications"]
    unit.jobs[UNIT] = "restart"
    unit.command("stop", update="surge", model_source=MISSING)
    started_with = unit.fields(update="surge")
    thread = unit.end_when_said("the previous version")
    assert unit.run(update="surge", model_source=MISSING) == 0
    thread.join()
    assert unit.serve.config["applications"] == before
    assert f"update failed, the previous version goes on serving: model_source {MISSING}" in capsys.readouterr().err
    record = unit.record()
    assert record is not None
    assert record.fields == started_with, "so that the next deploy tries again"
    assert record.failed_update is not None


def test_a_stop_of_a_surging_model_removes_it(unit: Unit) -> None:
    unit.started(update="surge")
    unit.jobs[UNIT] = "stop"
    unit.command("stop", update="surge")
    assert unit.serve.config["applications"] == []


def test_reload_applies_numbers_in_place(unit: Unit, capsys: pytest.CaptureFixture[str]) -> None:
    unit.started()
    replica = unit.serve.replica(NAME)
    assert unit.command("reload", max_replicas=3, target_ongoing_requests=4) == 0
    assert unit.serve.replica(NAME) == replica
    override = unit.serve.config["applications"][0]["deployments"][0]["autoscaling_config"]
    assert override == {"min_replicas": 1, "max_replicas": 3, "target_ongoing_requests": 4}
    assert capsys.readouterr().out == "tiny-a: applied in place: max_replicas, target_ongoing_requests\n"
    record = unit.record()
    assert record is not None
    assert record.fields == unit.fields(max_replicas=3, target_ongoing_requests=4)


def test_reload_refuses_what_needs_new_replicas_and_changes_nothing(
    unit: Unit, capsys: pytest.CaptureFixture[str]
) -> None:
    unit.started()
    puts, record = len(unit.serve.puts), unit.record()
    assert unit.command("reload", max_replicas=3, dtype="half", env={"A": "1"}) == 1
    assert capsys.readouterr().err == "tiny-a: reload: needs restart: dtype, env\n"
    assert len(unit.serve.puts) == puts
    assert unit.record() == record


def test_reload_of_unchanged_settings_puts_nothing(unit: Unit) -> None:
    unit.started()
    puts = len(unit.serve.puts)
    assert unit.command("reload") == 0
    assert len(unit.serve.puts) == puts


def test_reload_waits_for_nobody(unit: Unit, capsys: pytest.CaptureFixture[str]) -> None:
    assert unit.command("reload") == 1
    assert capsys.readouterr().err == "tiny-a: reload: it is not ready yet\n"


def test_an_application_that_somebody_removed_is_started_again(
    unit: Unit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(model_unit, "ABSENT_LIMIT_S", 0.02)

    def remove() -> None:
        unit.until_said("ongoing")
        unit.serve.put({"applications": []})

    thread = threading.Thread(target=remove)
    thread.start()
    assert unit.run() == 1
    thread.join()
    assert capsys.readouterr().err == "tiny-a: its application is gone from Serve: putting it again\n"


def test_a_dashboard_that_is_away_for_a_while_is_shown_and_survived(unit: Unit) -> None:
    def away() -> None:
        unit.until_said("ongoing")
        unit.serve.dashboard_status = 503
        unit.until_said("unknown: ")
        unit.said.clear()
        unit.serve.dashboard_status = 200
        unit.end_when_said("ongoing").join()

    thread = threading.Thread(target=away)
    thread.start()
    assert unit.run() == 1
    thread.join()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"RAYRACK_DTYPE": "half"}, "tiny-a: RAYRACK_DTYPE: not JSON: half"),
        ({"RAYRACK_SLUG": '"other"'}, "tiny-a: RAYRACK_SLUG is other: its env file must have that name"),
        ({"RAY_AUTH_TOKEN_PATH": "/nonexistent"}, "tiny-a: Ray's token: /nonexistent: No such file or directory"),
        ({"RAYRACK_SERVE_PORT": ""}, "tiny-a: RAYRACK_SERVE_PORT: missing"),
        ({"RAYRACK_SECRETS": '{"HF_TOKEN": "hub"}'}, "tiny-a: secrets.HF_TOKEN: no file hub in /etc/rayrack/secrets"),
    ],
)
def test_wrong_settings_fail_for_good_in_one_line(
    unit: Unit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, str],
    complaint: str,
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    environ = {f"RAYRACK_{name.upper()}": json.dumps(value) for name, value in unit.fields().items()}
    environ |= {f"RAYRACK_{name}_PORT": str(unit.serve.port) for name in ("DASHBOARD", "SERVE", "SERVE_METRICS")}
    environ |= {"RAYRACK_CACHE_DIR": '"/c"', "RAYRACK_RAY_TEMP_DIR": '"/r"', "RAYRACK_SERVE_HOST": '"127.0.0.1"'}
    environ["RAY_AUTH_TOKEN_PATH"] = f"{tmp_path}/token"
    for name, value in (environ | change).items():
        monkeypatch.setenv(name, value)
    assert model_unit.main(["run", SLUG]) == 78
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(complaint)


def test_a_secret_is_known_by_its_name_among_those_of_the_host(
    unit: Unit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_unit, "SECRET_NAMES", str(tmp_path / "secrets"))
    fields = unit.fields(secrets={"HF_TOKEN": "hub.token"})
    (tmp_path / f"secrets.{SLUG}").write_text("hub.token.old\nray.token\n")
    with pytest.raises(
        model_unit.serve_app.SettingsError, match=r"secrets\.HF_TOKEN: no file hub\.token in /etc/rayrack/secrets"
    ):
        model_unit._check_secrets(fields)
    (tmp_path / f"secrets.{SLUG}").write_text("hub.token\nray.token\n")
    model_unit._check_secrets(fields)


def test_a_model_can_be_stopped_although_its_settings_have_become_wrong(
    unit: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit.started()
    monkeypatch.setattr(ModelHost, "from_environ", lambda _environ: unit.host)
    assert model_unit.main(["stop", SLUG]) == 0
    assert unit.serve.config["applications"] == []


@pytest.mark.parametrize(("applications", "seconds"), [(0, 5), (1, 5), (10, 5), (20, 10), (40, 20), (1000, 20)])
def test_units_look_at_serve_less_often_when_they_are_many(applications: int, seconds: float) -> None:
    assert model_unit.poll_s(applications) == seconds


def test_between_two_signs_of_life_is_less_than_the_watchdog_allows() -> None:
    template = Path("templates/model_serving/etc/systemd/system/rayrack-model@.service.j2").read_text()
    watchdog = re.search(r"^WatchdogSec=(\d+)$", template, re.MULTILINE)
    assert watchdog
    longest_s = model_unit.poll_s(1000) + serve_api.REQUEST_TIMEOUT_S + model_unit.METRICS_TIMEOUT_S
    assert longest_s < int(watchdog[1])
