"""From what a host has to a node that runs what was rendered, in as few commands as it takes. Pure: no pyinfra.

It looks at the state and not at what this run changed, so that a run also finishes one that was interrupted.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from roles.ray_cluster.node import Role
from roles.unit_state import UnitState

TARGET = "rayrack.target"
UNITS: dict[Role, str] = {"head": "rayrack-head.service", "worker": "rayrack-worker.service"}
UNIT_DIR = "/etc/systemd/system"


@dataclass(frozen=True)
class NodeState:
    """What a host has of one role's node."""

    units: dict[str, UnitState]
    outdated: tuple[str, ...]
    """The inputs that have changed since the node was started: see ``ray_node outdated``."""
    applied: Mapping[str, str] | None = None
    """The digest of each input that the node was started with; None: there is no record of a start."""


def commands(state: NodeState, role: Role) -> Iterator[str]:
    """The shell commands that are left to do; none when the node already runs as rendered."""
    unit = UNITS[role]
    other = UNITS["worker" if role == "head" else "head"]
    if state.units[other].exists:
        yield f"systemctl disable --now {other}; rm -f {UNIT_DIR}/{other} && systemctl daemon-reload"
    elif any(each.file_changed for each in state.units.values()):
        yield "systemctl daemon-reload"
    to_enable = [name for name in (unit, TARGET) if not state.units[name].enabled]
    if to_enable:
        yield f"systemctl enable --quiet {' '.join(to_enable)}"
    if restarts(state, role):
        # Not `start`: that does nothing to a unit that waits to be started again.
        yield f"systemctl restart {unit} || {{ {_reason(unit)}; exit 1; }}"
    if not state.units[TARGET].active:
        yield f"systemctl start {TARGET}"


def restarts(state: NodeState, role: Role) -> bool:
    """Whether the node has to be started, or started anew."""
    unit = state.units[UNITS[role]]
    return bool(state.outdated) or unit.file_changed or not unit.active


def _reason(unit: str) -> str:
    """The line of the journal that says why a start failed."""
    return (
        f"journalctl -u {unit} -n 50 -o cat --no-pager | grep '^failed: ' | tail -n 1 >&2; "
        f"echo '{unit} did not start: see journalctl -u {unit}' >&2"
    )
