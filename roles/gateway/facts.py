"""What the gateway role reads from a host: all of it in one command, since each fact is one round trip."""

import json
from collections.abc import Iterable

from pyinfra.api.facts import FactBase

from roles.gateway.activation import CANDIDATE, CONFIG, DISTRIBUTION_UNIT, UNIT, State


class GatewayState(FactBase[State]):
    """The gateway's units, whether its candidate is accepted, and what it says of itself at ``health_url``."""

    def command(self, health_url: str) -> str:
        properties = "ActiveState,UnitFileState,NeedDaemonReload"
        return (
            f"systemctl show -p Id,{properties} {UNIT} {DISTRIBUTION_UNIT}; "
            f"cmp -s {CANDIDATE} {CONFIG} || echo CandidateDiffers=yes; "
            f"curl -gs --noproxy '*' --max-time 3 {health_url} || true"
        )

    def process(self, output: Iterable[str]) -> State:
        units: dict[str, dict[str, str]] = {UNIT: {}, DISTRIBUTION_UNIT: {}}
        block: dict[str, str] = {}
        health: dict[str, str] = {}
        candidate_differs = False
        for line in output:
            if line.startswith("{"):
                health = _health(line)
            elif line == "CandidateDiffers=yes":
                candidate_differs = True
            elif not line:
                block = {}
            else:
                key, _, value = line.partition("=")
                block[key] = value
                if key == "Id":
                    units[value] = block
        ours = units[UNIT]
        return State(
            active=ours.get("ActiveState") in ("active", "reloading"),
            enabled=ours.get("UnitFileState") == "enabled",
            unit_file_changed=ours.get("NeedDaemonReload") == "yes",
            distribution_service_active=units[DISTRIBUTION_UNIT].get("ActiveState", "inactive")
            not in ("inactive", "failed"),
            candidate_differs=candidate_differs,
            loaded_config=health.get("config"),
            loaded_unit=health.get("unit"),
        )


def _health(line: str) -> dict[str, str]:
    """Something else may answer on the gateway's port before it is ours."""
    try:
        answer = json.loads(line)
    except ValueError:
        return {}
    return {key: value for key, value in answer.items() if isinstance(value, str)}
