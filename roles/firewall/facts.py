"""What the firewall reads from a host: each fact is one round trip."""

import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from pyinfra.api.facts import FactBase

from roles.firewall.activation import CANDIDATE, PROGRAM, UNITS, State
from roles.firewall.addresses import HostNetwork
from roles.firewall.rules import CONFIRMED
from roles.storage.facts import PYTHON
from roles.unit_state import SHOWN, UnitState, blocks

HOST = Path(__file__).parent / "host"


class HostNetworkFact(FactBase[HostNetwork]):
    """The host's addresses, its ports, and the rules it has.

    ``targets``: addresses of other hosts of the rack.
    """

    def command(self, targets: Sequence[str]) -> str:
        return f"{PYTHON} -ISc {shlex.quote((HOST / 'network_info.py').read_text())} {shlex.join(targets)}"

    @staticmethod
    def default() -> HostNetwork:
        return HostNetwork()

    def process(self, output: Iterable[str]) -> HostNetwork:
        *_, line = output
        found = json.loads(line)
        for name in ("addresses", "sources", "ephemeral"):
            found[name] = tuple(found[name])
        return HostNetwork(**found)


class FirewallState(FactBase[State]):
    """Whether the candidate is confirmed, what was confirmed loaded, and the units as they should be."""

    def command(self) -> str:
        return (
            f"systemctl show -p {','.join(SHOWN)} {' '.join(UNITS)}; echo; "
            f"! cmp -s {CANDIDATE} {CONFIRMED} || echo Confirmed=yes; "
            f"! {PROGRAM} status 2>/dev/null || echo Loaded=yes"
        )

    def process(self, output: Iterable[str]) -> State:
        lines = list(output)
        said = {"Confirmed=yes", "Loaded=yes"}.intersection(lines)
        units = {block["Id"]: UnitState.of(block) for block in blocks(line for line in lines if line not in said)}
        return State("Confirmed=yes" in said, "Loaded=yes" in said, units)
