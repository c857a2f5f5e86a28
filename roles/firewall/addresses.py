"""From which addresses the hosts of a rack reach each other. Pure: no pyinfra."""

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

# By host, in the order of the inventory.
Peers = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class HostNetwork:
    """What a host says of its network (``host/network_info.py``)."""

    addresses: tuple[str, ...] = ()
    """With the length of the network each is in: ``10.0.0.1/24``."""
    sources: tuple[str, ...] = ()
    """Where connections leave from that take the default route, or go to another host's ``node_ip``."""
    ssh_port: int | None = None
    """Where this run came in; None: not over SSH."""
    ephemeral: tuple[int, int] = (32768, 60999)
    """``net.ipv4.ip_local_port_range``"""
    nf_tables_problem: str | None = None
    rules: str = ""
    """The rules that were confirmed there last; empty: none."""


def peers(
    names: Iterable[str],
    node_ips: Mapping[str, str],
    found: Mapping[str, HostNetwork],
    kept: Mapping[str, Sequence[str]],
) -> Peers:
    """The addresses of each host of the rack that others may see as the source of its connections.

    Args:
        names: all hosts of the inventory.
        node_ips: of those whose ``node_ip`` is known.
        found: what those hosts said that were looked at.
        kept: what the rules on the hosts have had of each host so far: it stands for a host that was not looked at.
    """
    own = {name: tuple(_own(name, found)) for name in found}
    result = {}
    for name in names:
        first = [node_ips[name]] if name in node_ips else []
        others = own[name] if name in own else kept.get(name, ())
        result[name] = tuple(address for address in dict.fromkeys([*first, *others]) if _is_for_others(address))
    return result


def _own(name: str, found: Mapping[str, HostNetwork]) -> Iterator[str]:
    """What a packet of this host's to another host of the rack may have as its source: the address of a route, or one
    in a network that both have. An address that two hosts have (of a container bridge, say) is nobody's."""
    counted = Counter(address for network in found.values() for address in {*_plain(network), *network.sources})
    networks = {
        ipaddress.ip_interface(address).network
        for other, network in found.items()
        if other != name
        for address in network.addresses
        if counted[address.partition("/")[0]] == 1
    }
    here = found[name]
    for address in here.addresses:
        if ipaddress.ip_interface(address).network in networks and counted[address.partition("/")[0]] == 1:
            yield address.partition("/")[0]
    yield from (address for address in here.sources if counted[address] == 1)


def _plain(network: HostNetwork) -> list[str]:
    return [address.partition("/")[0] for address in network.addresses]


def _is_for_others(address: str) -> bool:
    return not ipaddress.ip_address(address).is_loopback


def of_version(version: int, addresses: Iterable[str]) -> tuple[str, ...]:
    """The addresses or networks of one version of IP, none inside another, in order."""
    networks = [ipaddress.ip_network(address) for address in addresses]
    if version == 4:
        found = ipaddress.collapse_addresses(net for net in networks if isinstance(net, ipaddress.IPv4Network))
        return tuple(map(_shown, found))
    return tuple(
        map(_shown, ipaddress.collapse_addresses(net for net in networks if isinstance(net, ipaddress.IPv6Network)))
    )


def _shown(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    """One address without the length of its network, as nft writes it."""
    return str(network.network_address) if network.num_addresses == 1 else str(network)
