"""From what a host has to a firewall that is as rendered, confirmed, and loaded at boot. Pure: no pyinfra.

It looks at the state and not at what this run changed, so that a run also finishes one that was interrupted.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from roles.host_programs import BIN
from roles.unit_state import UnitState

PROGRAM = f"{BIN}/firewall"
# What a deploy rendered last; it becomes CONFIRMED when SSH has come in beside it.
CANDIDATE = "/etc/rayrack/firewall.candidate.nft"
UNIT, KEEP_TIMER, KEEP_UNIT = "rayrack-firewall.service", "rayrack-firewall-keep.timer", "rayrack-firewall-keep.service"
UNITS = (UNIT, KEEP_UNIT, KEEP_TIMER)
LOAD = f"{PROGRAM} load"


@dataclass(frozen=True)
class State:
    """What a host has."""

    confirmed: bool
    """The candidate is what was confirmed."""
    loaded: bool
    """The kernel has what was confirmed."""
    units: dict[str, UnitState]


def to_be_tried(state: State) -> bool:
    return not state.confirmed


def before_the_trial(state: State) -> Iterator[str]:
    if any(each.file_changed for each in state.units.values()):
        yield "systemctl daemon-reload"


def after_the_trial(state: State) -> Iterator[str]:
    """What is left to do when the candidate is confirmed."""
    if state.confirmed and not state.loaded:
        yield LOAD
    to_enable = [name for name in (UNIT, KEEP_TIMER) if not state.units[name].enabled]
    if to_enable:
        yield f"systemctl enable --quiet {' '.join(to_enable)}"
    if not state.units[UNIT].active:
        yield f"systemctl start {UNIT}"
    # A timer goes on by its former file until it is started anew. Not so the service: Ray requires it, and would stop.
    if state.units[KEEP_TIMER].file_changed or not state.units[KEEP_TIMER].active:
        yield f"systemctl restart {KEEP_TIMER}"
