"""What the firewall lets in and out, from where and whom: what its template is rendered with. Pure: no pyinfra."""

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from roles.base_system import users
from roles.firewall import addresses
from roles.firewall.addresses import HostNetwork, Peers
from roles.setting_rules import closed_ports, open_ports
from roles.settings import Settings

TEMPLATE = "templates/firewall/etc/rayrack/firewall.nft.j2"
CONFIRMED = "/etc/rayrack/firewall.nft"
# From the first to the last, both included.
Ports = tuple[int, int]

# No settings of ours, and found on a rack: Serve's fallback proxy, which passes requests on to every model, and the
# metrics of the autoscaler and of the dashboard.
FALLBACK = 8500
RAY_S_OWN = (FALLBACK, 44217, 44227)
# Where the first process of an engine waits for the others, unless it takes a free port: torch's and vLLM's default.
RENDEZVOUS = (29500, 29501)
# Serve's HAProxy shows more than numbers on its page of statistics: that is no metrics port.
METRICS = re.compile(r".*metrics_port")
# Whose programs connect to the rack's services. Names, as only the host knows the numbers; nft looks them up.
USERS = ("root", users.RAY, users.GATEWAY)

_ELEMENT = re.compile(r'^\s*(?P<address>[0-9A-Fa-f.:]+) comment "(?P<name>[^"]+)"', re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9@._:/+-]{1,100}")


@dataclass(frozen=True)
class Rules:
    """Everything the template needs."""

    closed: tuple[Ports, ...]
    """TCP ports that only ``peers`` reach, in order, with gaps between them."""
    metrics: tuple[int, ...]
    """Those of them that ``metrics_from`` reaches, too."""
    services: tuple[Ports, ...]
    """Those of them that of a host's own users only ``USERS`` reach, here and on ``peers``."""
    peers: tuple[tuple[str, str], ...]
    """Address and host."""
    metrics_from: tuple[str, ...]
    ephemeral: Ports

    @classmethod
    def of(cls, settings: Settings, network: HostNetwork, peers: Peers, ssh_ports: Iterable[int]) -> "Rules":
        """The rules of a host with these settings.

        Args:
            peers: the addresses of all hosts of the rack.
            ssh_ports: where the host's SSH servers listen, beside the port that this run came in at.
        """
        own = [(port, port) for port in ssh_port_of(network, ssh_ports)]
        stay_open = [*own, (settings.gateway_port, settings.gateway_port), *open_ports(settings)]
        wanted = [(low, high) for low, high, _ in closed_ports(settings)]
        others = [(port, port) for port in (*RAY_S_OWN, *RENDEZVOUS)]
        return cls(
            closed=without(merged([*wanted, *others, network.ephemeral]), stay_open),
            services=without(merged((low, high) for low, high, _ in service_ports(settings)), stay_open),
            metrics=tuple(sorted(low for low, _, name in closed_ports(settings) if METRICS.fullmatch(name))),
            peers=tuple(dict.fromkeys((address, comment(name)) for name, each in peers.items() for address in each)),
            metrics_from=tuple(settings.metrics_from or ()),
            ephemeral=network.ephemeral,
        )

    @property
    def closed_elements(self) -> tuple[str, ...]:
        return elements(self.closed)

    @property
    def service_elements(self) -> tuple[str, ...]:
        return elements(self.services)

    @property
    def users(self) -> tuple[str, ...]:
        return USERS

    @property
    def peers_4(self) -> tuple[str, ...]:
        return self._peers(4)

    @property
    def peers_6(self) -> tuple[str, ...]:
        return self._peers(6)

    @property
    def metrics_from_4(self) -> tuple[str, ...]:
        return addresses.of_version(4, self.metrics_from)

    @property
    def metrics_from_6(self) -> tuple[str, ...]:
        return addresses.of_version(6, self.metrics_from)

    def _peers(self, version: int) -> tuple[str, ...]:
        wanted = ((address, name) for address, name in self.peers if ipaddress.ip_address(address).version == version)
        return tuple(f'{address} comment "{name}"' for address, name in wanted)

    def closes(self, port: int) -> bool:
        return any(low <= port <= high for low, high in self.closed)


def service_ports(settings: Settings) -> Iterator[tuple[int, int, str]]:
    """The ports where Ray and Serve answer, with the names of their settings.

    Not the metrics, which an agent on the host reads as a user of its own; and not the dashboard: it is on loopback and
    asks for the token, and an operator's ``ssh -L`` comes to it as whoever has logged in.
    """
    for low, high, name in closed_ports(settings):
        if name != "dashboard_port" and not METRICS.fullmatch(name):
            yield low, high, name
    yield FALLBACK, FALLBACK, "Serve's fallback"


def elements(ports: Iterable[Ports]) -> tuple[str, ...]:
    """As nft writes them in a set."""
    return tuple(f"{low}-{high}" if low < high else f"{low}" for low, high in ports)


def ssh_port_of(network: HostNetwork, listening: Iterable[int]) -> list[int]:
    return sorted({*listening, *([network.ssh_port] if network.ssh_port else [])})


def merged(ranges: Iterable[Ports]) -> tuple[Ports, ...]:
    """The same ports in as few ranges as there can be, in order."""
    found: list[Ports] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return tuple(found)


def without(ranges: Sequence[Ports], taken: Iterable[Ports]) -> tuple[Ports, ...]:
    """The ports of ``ranges`` that are in none of ``taken``."""
    left = list(ranges)
    for low, high in taken:
        left = [
            part
            for first, last in left
            for part in ((first, min(last, low - 1)), (max(first, high + 1), last))
            if part[0] <= part[1]
        ]
        left = list(dict.fromkeys(left))
    return merged(left)


def comment(name: str) -> str:
    """A host's name as nft takes it beside an address; a digest where it does not."""
    return name if _NAME.fullmatch(name) else hashlib.sha256(name.encode()).hexdigest()[:32]


def peers_in(rules: str) -> dict[str, tuple[str, ...]]:
    """The addresses that a host's rules have of each host, by what ``comment`` makes of its name."""
    found: dict[str, tuple[str, ...]] = {}
    for match in _ELEMENT.finditer(rules):
        found[match["name"]] = (*found.get(match["name"], ()), match["address"])
    return found


def kept(names: Iterable[str], rules: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """What the rules of several hosts have of each host of the inventory."""
    known = [peers_in(text) for text in rules]
    return {
        name: tuple(dict.fromkeys(address for each in known for address in each.get(comment(name), ())))
        for name in names
    }
