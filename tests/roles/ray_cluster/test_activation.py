from dataclasses import replace

import pytest

from roles.ray_cluster.activation import TARGET, UNITS, NodeState, UnitState, commands
from roles.ray_cluster.node import Role

HEAD, WORKER = UNITS["head"], UNITS["worker"]
RUNS = UnitState(active=True, enabled=True, file_changed=False, exists=True)
ABSENT = UnitState(active=False, enabled=False, file_changed=False, exists=False)
RUNNING = NodeState({HEAD: RUNS, WORKER: ABSENT, TARGET: RUNS}, outdated=())
BLANK = NodeState({HEAD: ABSENT, WORKER: ABSENT, TARGET: ABSENT}, outdated=("no record of a start",))


def with_unit(name: str, **changed: bool) -> NodeState:
    return NodeState({**RUNNING.units, name: replace(RUNNING.units[name], **changed)}, ())


def verbs(state: NodeState, role: Role = "head") -> list[str]:
    return [" ".join(command.split()[1:3]) for command in commands(state, role)]


def test_a_node_that_runs_as_rendered_is_left_alone() -> None:
    assert verbs(RUNNING) == []


def test_a_blank_host_is_enabled_and_started() -> None:
    assert next(commands(BLANK, "worker")) == f"systemctl enable --quiet {WORKER} {TARGET}"
    assert verbs(BLANK, "worker") == ["enable --quiet", f"restart {WORKER}", f"start {TARGET}"]


def test_a_changed_input_restarts_the_node_and_nothing_else() -> None:
    assert verbs(replace(RUNNING, outdated=("/etc/rayrack/ray.env",))) == [f"restart {HEAD}"]


def test_a_unit_file_that_systemd_has_not_read_yet_is_read_before_the_restart() -> None:
    assert verbs(with_unit(HEAD, file_changed=True)) == ["daemon-reload", f"restart {HEAD}"]


def test_a_changed_target_is_read_without_touching_the_node() -> None:
    assert verbs(with_unit(TARGET, file_changed=True)) == ["daemon-reload"]


def test_a_node_that_was_stopped_is_started_again() -> None:
    assert verbs(with_unit(HEAD, active=False)) == [f"restart {HEAD}"]


def test_a_node_that_was_disabled_is_enabled_without_a_restart() -> None:
    assert list(commands(with_unit(HEAD, enabled=False), "head")) == [f"systemctl enable --quiet {HEAD}"]


def test_a_host_that_changes_its_role_loses_the_other_unit_first() -> None:
    pending = list(commands(NodeState({HEAD: RUNS, WORKER: ABSENT, TARGET: RUNS}, ("no record of a start",)), "worker"))
    assert pending[0].startswith(f"systemctl disable --now {HEAD}; rm -f /etc/systemd/system/{HEAD}")
    assert [command.split()[1:3] for command in pending[1:]] == [["enable", "--quiet"], ["restart", WORKER]]


@pytest.mark.parametrize("role", ["head", "worker"])
def test_a_start_that_fails_gives_its_reason_and_fails_the_operation(role: Role) -> None:
    (restart,) = [command for command in commands(BLANK, role) if " restart " in command]
    assert "grep '^failed: '" in restart
    assert restart.endswith("exit 1; }")
