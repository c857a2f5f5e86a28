"""All units at once: what each needs, and when one counts as ready or failed."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import model_units
import pytest
import serve_app
from model_host import Record, read_load, write_load, write_record
from model_units import Unit

from roles.model_serving import env_file
from roles.model_serving.model import Model
from roles.planner.changes.models import RunningModel
from tests.roles.model_serving.host.recorded_serve import TOKEN, RecordedServe, fixture, serving

MODEL = Model(model_id="tiny-a", accelerator_type="cpu")
SLUG = MODEL.slug


def unit(active: str = "active", **values: Any) -> Unit:
    return Unit(
        **{"active": active, "sub": "", "result": "success", "status": "", "enabled": True, "queued": False, **values}
    )


class Host:
    """The files of one model on its head."""

    def __init__(self, directory: Path) -> None:
        self.env_dir = directory / "etc"
        self.run_dir = directory / "run"
        for path in (self.env_dir, self.run_dir):
            path.mkdir()
        (self.env_dir / f"{SLUG}.env").write_text(env_file.render(MODEL))

    def override(self, text: str) -> None:
        (self.env_dir / f"{SLUG}.override.env").write_text(text)

    def record(self, **values: Any) -> None:
        fields = MODEL.model_dump(mode="json")
        write_record(self.run_dir, SLUG, Record(**{"state": "ready", "fields": fields, **values}))

    def step(self, state: Unit) -> str:
        return model_units.needed_step(SLUG, state, self.env_dir, self.run_dir)

    def verdict(self, state: Unit, waited_s: float = 0) -> str | None:
        return model_units.verdict(SLUG, state, waited_s, self.env_dir, self.run_dir)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize("active", ["inactive", "failed", "deactivating"])
def test_a_unit_that_does_not_run_needs_a_start(host: Host, active: str) -> None:
    assert host.step(unit(active)) == "start"


def test_a_unit_that_runs_with_its_settings_needs_nothing(host: Host) -> None:
    host.record()
    assert host.step(unit()) == "none"


def test_a_start_under_way_with_the_right_settings_is_left_to_finish(host: Host) -> None:
    host.record(state="starting")
    assert host.step(unit("activating")) == "none"


def test_numbers_that_apply_in_place_need_a_reload(host: Host) -> None:
    host.record()
    host.override("RAYRACK_MAX_REPLICAS=2\n")
    assert host.step(unit()) == "reload"


def test_a_start_under_way_with_old_numbers_begins_anew(host: Host) -> None:
    host.record(state="starting")
    host.override("RAYRACK_MAX_REPLICAS=2\n")
    assert host.step(unit("activating")) == "restart"


def test_other_settings_need_a_restart(host: Host) -> None:
    host.record()
    host.override("RAYRACK_DTYPE='\"half\"'\n")
    assert host.step(unit()) == "restart"


def test_settings_that_are_wrong_need_a_restart_that_says_so(host: Host) -> None:
    host.record()
    host.override("RAYRACK_DTYPE=half\n")
    assert host.step(unit()) == "restart"


def test_a_unit_that_has_just_been_started_is_left_alone(host: Host) -> None:
    assert host.step(unit("activating")) == "none"


def test_ready_is_a_running_unit_with_its_files_settings(host: Host) -> None:
    host.record()
    assert host.verdict(unit()) == ""
    assert host.verdict(unit("activating")) is None


def test_a_reload_that_never_comes_is_a_failure_after_a_minute(host: Host) -> None:
    host.record()
    host.override("RAYRACK_MAX_REPLICAS=2\n")
    assert host.verdict(unit()) is None
    assert "runs with other settings" in (host.verdict(unit(), waited_s=61) or "")


def test_a_failed_unit_says_what_its_program_said_last(host: Host) -> None:
    failed = unit("failed", result="exit-code", status="model_source /srv/x: no such directory")
    assert host.verdict(failed) == "model_source /srv/x: no such directory"


def test_a_surge_that_was_given_up_is_a_failure_although_the_unit_runs(host: Host) -> None:
    host.record(failed_update="no room")
    assert host.verdict(unit()) == "update failed, the previous version goes on serving: no room"


def test_a_unit_that_nothing_starts_is_a_failure_but_a_queued_one_waits(host: Host) -> None:
    idle = unit("inactive")
    assert host.verdict(idle) is None
    assert "nothing starts it" in (host.verdict(idle, waited_s=31) or "")
    assert host.verdict(unit("inactive", queued=True), waited_s=600) is None


def test_what_a_unit_said_before_it_ended_is_not_what_it_is_doing() -> None:
    assert model_units.doing(unit("activating", status="DEPLOYING after 3 s")) == "DEPLOYING after 3 s"
    assert model_units.doing(unit("inactive", status="RUNNING", queued=True)) == "queued behind rayrack-head.service"
    assert model_units.doing(unit("deactivating", sub="stop")) == "deactivating (stop)"


def test_an_override_file_is_read_as_systemd_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "x.override.env"
    file.write_text('# a comment\n\n; another\nA=1\nB=\'"text"\'\nC="{\\"a\\": 1}"\nno assignment\n')
    found = model_units.variables(file)
    assert found == {"A": "1", "B": '"text"', "C": '{"a": 1}'}


def test_an_env_file_as_the_deploy_writes_it_is_read_back(host: Host) -> None:
    found = model_units.settings(host.env_dir, SLUG)
    assert {name: json.loads(value) for name, value in found.items()} == {
        f"RAYRACK_{name.upper()}": value for name, value in MODEL.model_dump(mode="json").items()
    }


def test_waiting_for_nothing_is_over_at_once() -> None:
    assert model_units.wait([]) == 0


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl of the test's own: a shell script to be written."""
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return program


def show_then(what: str) -> str:
    """A script that describes a unit as systemd does one it has never seen, and does ``what`` for all else."""
    values = ("Id=rayrack-model@a.service", "ActiveState=inactive", "SubState=dead", "Result=success", "UnitFileState=")
    return "#!/bin/sh\n[ $1 != list-units ] && [ $1 != list-unit-files ] || exit 0\n" + (
        f"[ $1 = show ] && printf '%s\\n' {' '.join(values)} && exit\n{what}\n"
    )


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[RecordedServe]:
    """Ray's dashboard, and the files by which the head's programs find it."""
    (tmp_path / "token").write_text(TOKEN)
    with serving(RecordedServe()) as serve:
        settings = {"DASHBOARD_PORT": serve.port, "SERVE_HOST": "0.0.0.0", "SERVE_PORT": 1, "SERVE_METRICS_PORT": 1}
        texts = {"CACHE_DIR": "/cache", "RAY_TEMP_DIR": "/tmp/ray"}
        lines = [f"RAYRACK_{name}='{json.dumps(value)}'\n" for name, value in {**settings, **texts}.items()]
        (tmp_path / "ray.env").write_text("".join(lines))
        yield serve


def ask_serve(tmp_path: Path, token: str = "token") -> dict[str, Any] | None:
    files = (tmp_path / "ray.env", tmp_path / "ray.override.env")
    return model_units.serve_applications(files, str(tmp_path / token))


def test_serve_is_asked_with_the_head_s_own_settings_and_token(dashboard: RecordedServe, tmp_path: Path) -> None:
    app = serve_app.application(MODEL.model_dump(mode="json"), generation="0", cache_dir="/cache")
    dashboard.polls_to_run = 0
    dashboard.put({"applications": [app]})
    found = ask_serve(tmp_path)
    assert found is not None
    assert found["m-tiny-a"]["status"] == "RUNNING"


def test_a_serve_that_cannot_be_asked_tells_nothing(dashboard: RecordedServe, tmp_path: Path) -> None:
    assert ask_serve(tmp_path, "no.token") is None
    dashboard.dashboard_status = 503
    assert ask_serve(tmp_path) is None
    (tmp_path / "ray.env").unlink()
    assert ask_serve(tmp_path) is None


def described(host: Host, systemctl: Path, monkeypatch: pytest.MonkeyPatch, serve: dict[str, Any] | None) -> Any:
    systemctl.write_text(show_then("exit 1").replace("@a.", f"@{SLUG}.").replace("=inactive", "=active"))
    monkeypatch.setattr(model_units, "serve_applications", lambda: serve)
    return model_units.describe(host.env_dir, host.run_dir, host.run_dir / "state")


def test_a_model_is_described_by_its_files_its_start_its_load_and_its_nodes(
    host: Host, systemctl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.record()
    host.override("RAYRACK_MAX_REPLICAS=2\n")
    fields = MODEL.model_dump(mode="json")
    write_load(host.run_dir / "state", SLUG, 61, fields)
    app = fixture("running.json")["applications"]["m-tiny-a"]
    (replica,) = app["deployments"]["LLMServer:tiny-a"]["replicas"]
    gone = {**replica, "node_ip": "192.0.2.9", "state": "STOPPING"}
    app["deployments"]["LLMServer:tiny-a"]["replicas"] = [replica, gone]
    found = described(host, systemctl, monkeypatch, {"m-tiny-a": app})
    text = env_file.render(MODEL)
    assert found == {
        SLUG: {
            "active": "active",
            "enabled": False,
            "env_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "env": {f"RAYRACK_{name.upper()}": json.dumps(value) for name, value in fields.items()},
            "overrides": {"RAYRACK_MAX_REPLICAS": "2"},
            "applied": fields,
            "load": {"seconds": 61.0, "fields": fields},
            "replicas": ["192.0.2.2"],
        }
    }
    assert RunningModel.parse(json.loads(json.dumps(found[SLUG]))).replicas == ("192.0.2.2",)


def test_a_head_without_models_describes_none(systemctl: Path, capsys: pytest.CaptureFixture[str]) -> None:
    systemctl.write_text(show_then("exit 1"))
    assert model_units.main(["describe"]) == 0
    assert json.loads(capsys.readouterr().out) == {}


def test_a_model_that_is_removed_leaves_no_time_of_its_load(
    host: Host, systemctl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemctl.write_text("#!/bin/sh\n")
    monkeypatch.setattr(model_units, "STATE_DIR", host.run_dir)
    write_load(host.run_dir, SLUG, 61, {})
    assert model_units.apply([], host.env_dir, host.run_dir) == 0
    assert read_load(host.run_dir, SLUG) is None


def test_what_is_not_known_of_a_model_is_null(host: Host, systemctl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = described(host, systemctl, monkeypatch, None)[SLUG]
    assert (found["applied"], found["load"], found["replicas"]) == (None, None, None)
    assert described(host, systemctl, monkeypatch, {})[SLUG]["replicas"] == []


def test_a_systemctl_that_fails_is_one_line_and_exit_code_1(systemctl: Path, capfd: pytest.CaptureFixture[str]) -> None:
    systemctl.write_text(show_then("echo 'Failed to enable unit: Access denied' >&2; exit 4"))
    assert model_units.main(["apply", "a"]) == 1
    reason, line = capfd.readouterr().err.splitlines()
    assert reason == "Failed to enable unit: Access denied"
    assert line.startswith("model_units: `systemctl enable rayrack-model@a.service` failed with exit code 4")


def test_a_systemctl_that_hangs_is_one_line_and_exit_code_1(
    systemctl: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_units, "STOP_LIMIT_S", 0.2)
    systemctl.write_text(show_then("exec sleep 60"))
    assert model_units.main(["apply", "a"]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("model_units: `systemctl enable rayrack-model@a.service` did not end within 0.2 s")


def test_without_an_answer_of_systemd_there_is_no_overview(
    systemctl: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_units, "RUN_LIMIT_S", 0.2)
    systemctl.write_text("#!/bin/sh\nexec sleep 60\n")
    assert model_units.main(["overview"]) == 1
    output = capfd.readouterr()
    assert output.out == ""
    assert "did not end within 0.2 s" in output.err
