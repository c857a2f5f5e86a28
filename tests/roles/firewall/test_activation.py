from dataclasses import replace

import pytest

from roles.firewall import activation
from roles.firewall.activation import KEEP_TIMER, KEEP_UNIT, UNIT, State
from roles.unit_state import UnitState

ON = UnitState(active=True, enabled=True, file_changed=False, exists=True)
OFF = UnitState(active=False, enabled=False, file_changed=False, exists=False)
DONE = State(confirmed=True, loaded=True, units={UNIT: ON, KEEP_UNIT: replace(ON, active=False), KEEP_TIMER: ON})
BLANK = State(confirmed=False, loaded=False, units=dict.fromkeys((UNIT, KEEP_UNIT, KEEP_TIMER), OFF))


def words(state: State) -> list[str]:
    trial = ["try"] if activation.to_be_tried(state) else []
    return [*activation.before_the_trial(state), *trial, *activation.after_the_trial(state)]


def test_a_firewall_that_is_as_rendered_is_left_alone() -> None:
    assert words(DONE) == []


def test_a_blank_host_gets_everything_and_the_trial_comes_first() -> None:
    assert words(BLANK) == [
        "try",
        f"systemctl enable --quiet {UNIT} {KEEP_TIMER}",
        f"systemctl start {UNIT}",
        f"systemctl restart {KEEP_TIMER}",
    ]


def test_new_rules_are_tried_and_no_unit_is_touched() -> None:
    assert words(replace(DONE, confirmed=False, loaded=True)) == ["try"]


def test_rules_that_were_confirmed_and_are_not_loaded_are_loaded() -> None:
    assert words(replace(DONE, loaded=False)) == ["/opt/rayrack/bin/firewall load"]


@pytest.mark.parametrize("unit", [UNIT, KEEP_UNIT])
def test_a_new_unit_file_is_read_and_the_service_that_ray_requires_is_never_restarted(unit: str) -> None:
    changed = replace(DONE, units={**DONE.units, unit: replace(DONE.units[unit], file_changed=True)})
    assert words(changed) == ["systemctl daemon-reload"]


def test_a_new_timer_file_starts_the_timer_anew() -> None:
    changed = replace(DONE, units={**DONE.units, KEEP_TIMER: replace(ON, file_changed=True)})
    assert words(changed) == ["systemctl daemon-reload", f"systemctl restart {KEEP_TIMER}"]


def test_an_interrupted_run_is_finished() -> None:
    confirmed_only = replace(BLANK, confirmed=True, loaded=True)
    assert words(confirmed_only) == words(BLANK)[1:]
