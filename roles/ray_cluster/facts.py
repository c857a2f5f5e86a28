"""What the Ray cluster reads from a host: each fact is one round trip."""

import json
from collections.abc import Iterable, Mapping

from pyinfra.api.facts import FactBase

from roles.host_programs import BIN
from roles.ray_cluster.activation import TARGET, UNITS, NodeState
from roles.ray_cluster.node import Role
from roles.unit_state import SHOWN, UnitState, blocks

TOKEN = "/etc/rayrack/secrets/ray.token"  # noqa: S105 - where it stands, not what it is


_STARTED, _ACTIVE_SINCE = "InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic"
_PROPERTIES = (*SHOWN, _STARTED, _ACTIVE_SINCE)


def started_with(role: Role) -> str:
    """The command for all of a NodeState but what is outdated, which takes a Python on the host."""
    return (
        f"systemctl show -p {','.join(_PROPERTIES)} {' '.join((*UNITS.values(), TARGET))}; "
        f"cat /run/rayrack/rayrack-{role}.applied.json 2>/dev/null | tr -d '\\n' | sed 's/^/applied /'; echo"
    )


class TokenDigest(FactBase[str | None]):
    """SHA-256 of the host's Ray token; None: it has none. The token itself never leaves the host this way."""

    def command(self) -> str:
        return f"if [ -s {TOKEN} ]; then tr -d '\\n' <{TOKEN} | sha256sum; fi"

    def process(self, output: Iterable[str]) -> str | None:
        return next((line.split()[0] for line in output if line), None)


class NodeStateFact(FactBase[NodeState]):
    """The units of both roles, and what has changed since the node of ``role`` was started."""

    def command(self, role: Role) -> str:
        return f"{started_with(role)}; {BIN}/ray_node outdated {role} | sed 's/^./outdated &/'"

    def process(self, output: Iterable[str]) -> NodeState:
        outdated = []
        applied: dict[str, str] | None = None
        shown = []
        for line in output:
            if line.startswith("outdated "):
                outdated.append(line.removeprefix("outdated "))
            elif line.startswith("applied "):
                applied = _json_object(line.removeprefix("applied "))
            else:
                shown.append(line)
        units = {block["Id"]: UnitState.of(block, _start_s(block)) for block in blocks(shown)}
        return NodeState(units, tuple(outdated), applied)


def _start_s(shown: Mapping[str, str]) -> float | None:
    """Seconds from the beginning of a unit's last start to its end; systemd shows microseconds, 0 for never."""
    began, ended = (int(shown.get(name) or 0) for name in (_STARTED, _ACTIVE_SINCE))
    return (ended - began) / 1e6 if 0 < began <= ended else None


def _json_object(text: str) -> dict[str, str] | None:
    """None for what a power cut has left of one: the host itself then counts it as no record, too."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
