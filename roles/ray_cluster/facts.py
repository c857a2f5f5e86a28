"""What the Ray cluster reads from a host: each fact is one round trip."""

from collections.abc import Iterable

from pyinfra.api.facts import FactBase

from roles.host_programs import BIN
from roles.ray_cluster.activation import TARGET, UNITS, NodeState, UnitState
from roles.ray_cluster.node import Role

TOKEN = "/etc/rayrack/secrets/ray.token"  # noqa: S105 - where it stands, not what it is


class TokenDigest(FactBase[str | None]):
    """SHA-256 of the host's Ray token; None: it has none. The token itself never leaves the host this way."""

    def command(self) -> str:
        return f"if [ -s {TOKEN} ]; then tr -d '\\n' <{TOKEN} | sha256sum; fi"

    def process(self, output: Iterable[str]) -> str | None:
        return next((line.split()[0] for line in output if line), None)


class NodeStateFact(FactBase[NodeState]):
    """The units of both roles, and what has changed since the node of ``role`` was started."""

    def command(self, role: Role) -> str:
        names = " ".join((*UNITS.values(), TARGET))
        return (
            f"systemctl show -p Id,LoadState,ActiveState,UnitFileState,NeedDaemonReload {names}; "
            f"{BIN}/ray_node outdated {role} | sed 's/^./outdated &/'"
        )

    def process(self, output: Iterable[str]) -> NodeState:
        units: dict[str, UnitState] = {}
        outdated = []
        block: dict[str, str] = {}
        for line in (*output, ""):
            if line.startswith("outdated "):
                outdated.append(line.removeprefix("outdated "))
            elif line:
                key, _, value = line.partition("=")
                block[key] = value
                if len(block) == 5:
                    units[block["Id"]] = UnitState(
                        active=block["ActiveState"] == "active",
                        enabled=block["UnitFileState"] == "enabled",
                        file_changed=block["NeedDaemonReload"] == "yes",
                        exists=block["LoadState"] == "loaded",
                    )
                    block = {}
        return NodeState(units, tuple(outdated))
