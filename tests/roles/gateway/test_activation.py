import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from roles.gateway import activation
from roles.gateway.activation import State, commands
from roles.gateway.config import Gateway, GatewayConfig, GatewayModel
from tests.roles.gateway.conftest import MODELS
from tests.roles.gateway.running import RunningGateway, furnish, rendered

GATEWAY = Gateway.of(
    [GatewayModel("/v1", "a", "a")],
    GatewayConfig(bind="*", port=8000, serve_port=8100, maxconn=500, max_body_kib=4032, metrics_port=9102),
)
RUNNING = State(
    active=True,
    enabled=True,
    unit_file_changed=False,
    distribution_service_active=False,
    candidate_differs=False,
    loaded_config=GATEWAY.config_digest,
    loaded_unit=GATEWAY.unit_digest,
)
BLANK = State(
    active=False,
    enabled=False,
    unit_file_changed=False,
    distribution_service_active=False,
    candidate_differs=True,
    loaded_config=None,
    loaded_unit=None,
)


SHORT = {"accept": "haproxy -c", "wait": "timeout", "keys": "api_keys apply"}


def words(state: State) -> list[str]:
    """What is done, in short: the verbs of systemctl, and those of ``SHORT``."""
    return [
        next((short for short, part in SHORT.items() if part in command), command.split()[1])
        for command in commands(state, GATEWAY)
    ]


def test_a_gateway_that_runs_as_rendered_is_left_alone() -> None:
    assert words(RUNNING) == []


def test_a_blank_host_gets_everything() -> None:
    assert words(BLANK) == ["accept", "enable", "restart", "wait"]


def test_a_new_configuration_is_accepted_and_reloaded_and_nobody_is_cut_off() -> None:
    assert words(replace(RUNNING, candidate_differs=True, loaded_config="old")) == ["accept", "reload", "wait"]


def test_a_new_unit_file_restarts() -> None:
    changed = replace(RUNNING, unit_file_changed=True, loaded_unit="old")
    assert words(changed) == ["daemon-reload", "restart", "wait"]


@pytest.mark.parametrize(
    ("interrupted", "rest"),
    [
        (replace(RUNNING, loaded_config="old"), ["reload", "wait"]),
        (replace(RUNNING, loaded_unit="old"), ["restart", "wait"]),
        (replace(RUNNING, active=False, loaded_config=None, loaded_unit=None), ["restart", "wait"]),
        (replace(RUNNING, enabled=False), ["enable"]),
        (replace(BLANK, candidate_differs=False), ["enable", "restart", "wait"]),
    ],
    ids=["before the reload", "before the restart", "before the start", "before it was enabled", "before all of it"],
)
def test_a_run_finishes_one_that_was_interrupted(interrupted: State, rest: list[str]) -> None:
    assert words(interrupted) == rest


def test_a_gateway_that_is_too_busy_to_answer_is_reloaded_and_not_restarted() -> None:
    assert words(replace(RUNNING, loaded_config=None, loaded_unit=None)) == ["reload", "wait"]


def test_a_certificate_that_changed_on_the_host_is_loaded_by_a_reload() -> None:
    assert words(replace(RUNNING, certificate_differs=True)) == ["reload", "wait"]


def test_changed_keys_are_told_to_the_processes_without_a_reload() -> None:
    assert words(replace(RUNNING, keys_differ=True)) == ["keys"]


def test_after_a_reload_the_old_processes_are_told_as_well() -> None:
    assert words(replace(RUNNING, keys_differ=True, certificate_differs=True)) == ["reload", "wait", "keys"]


def test_a_gateway_that_starts_reads_its_keys_by_itself() -> None:
    assert words(replace(RUNNING, keys_differ=True, loaded_unit="old")) == ["restart", "wait"]


def test_the_gateway_of_before_tls_is_restarted() -> None:
    """It does not answer over TLS, and could not be signalled by the new user."""
    before = replace(RUNNING, loaded_config=None, loaded_unit=None, candidate_differs=True, unit_file_changed=True)
    assert words(before) == ["accept", "daemon-reload", "restart", "wait"]


def test_the_distributions_own_service_is_stopped_first() -> None:
    assert list(commands(replace(RUNNING, distribution_service_active=True), GATEWAY)) == [
        "systemctl stop haproxy.service"
    ]


def run(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20, check=False)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host's /etc/rayrack/gateway with an old configuration."""
    for name, value in (("DIRECTORY", ""), ("CANDIDATE", "candidate.cfg"), ("CONFIG", "haproxy.cfg")):
        monkeypatch.setattr(activation, name, str(tmp_path / value))
    (tmp_path / "haproxy.cfg").write_text("the old one")
    furnish(tmp_path)
    return tmp_path


def candidate(directory: Path) -> str:
    return rendered(replace(GATEWAY, directory=str(directory), run_directory=str(directory)))


def accept() -> subprocess.CompletedProcess[str]:
    return run(next(commands(replace(RUNNING, candidate_differs=True), GATEWAY)))


def test_a_valid_candidate_becomes_the_configuration(directory: Path) -> None:
    before = {path.name for path in directory.iterdir()}
    (directory / "candidate.cfg").write_text(candidate(directory))
    assert accept().returncode == 0
    assert (directory / "haproxy.cfg").read_text() == candidate(directory)
    assert {path.name for path in directory.iterdir()} == before | {"candidate.cfg", "haproxy.cfg"}


def test_a_broken_candidate_is_refused_with_its_reason_and_changes_nothing(directory: Path) -> None:
    (directory / "candidate.cfg").write_text(candidate(directory) + "\nbogus\n")
    refused = accept()
    assert refused.returncode == 1
    assert "unknown keyword 'bogus'" in refused.stderr
    assert refused.stderr.endswith(f"the gateway goes on with {directory}/haproxy.cfg as it was\n")
    assert (directory / "haproxy.cfg").read_text() == "the old one"


def wait(gateway: Gateway) -> subprocess.CompletedProcess[str]:
    return run(list(commands(BLANK, gateway))[-1])


def test_a_run_waits_until_the_gateway_says_that_it_has_loaded(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # a host behind a proxy asks itself without it
    assert wait(gateway.gateway(MODELS)).returncode == 0


def test_a_gateway_that_does_not_load_fails_the_run(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activation, "LOADED_WITHIN_S", 1)
    failed = wait(gateway.gateway(MODELS[:1]))
    assert failed.returncode == 1
    assert "has not loaded /etc/rayrack/gateway/haproxy.cfg within 1 s: see journalctl -u" in failed.stderr
