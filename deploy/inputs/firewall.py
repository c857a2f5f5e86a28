"""The firewall of a run: from where the hosts reach each other, and what each lets in."""

import ipaddress
from collections.abc import Iterator

from pyinfra.context import state

from deploy.inputs import run
from deploy.inputs.rack import RackHost
from roles.firewall import addresses, rules
from roles.firewall.addresses import HostNetwork
from roles.firewall.facts import HostNetworkFact
from roles.firewall.rules import Rules
from roles.preflight.facts import ReachedAddress

# What was found, also on hosts that have left the run since.
_networks: dict[str, HostNetwork] = {}


def look_at_this_host() -> None:
    """Note what forbids to close this host's ports, and what an operator should know of it."""
    this = run.this_host()
    if run.problems_of(this.name):
        return
    network = _network_of(this)
    problems = list(_problems(this, network)) if network else []
    run.note(this.name, problems=problems, warnings=list(_warnings(this, network)) if network and not problems else [])


def rules_of(each: RackHost) -> Rules:
    """What a host lets in. The hosts of this run, and the head, are all asked for their addresses first."""
    found, node_ips = {}, {}
    for other in run.rack().hosts:
        network = _network_of(other)
        if network is not None:
            found[other.name] = network
        if other.settings.node_ip is not None:
            node_ips[other.name] = other.settings.node_ip
        elif network is not None:
            node_ips[other.name] = _reached_at(other)
    names = [other.name for other in run.rack().hosts]
    kept = rules.kept(names, [network.rules for network in found.values()])
    peers = addresses.peers(names, node_ips, found, kept)
    return Rules.of(each.settings, found.get(each.name, HostNetwork()), peers, run.listens(each.name, "sshd"))


def _network_of(each: RackHost) -> HostNetwork | None:
    """None: this run does not reach the host. The head is asked also when ``--limit`` leaves it out."""
    if each.name not in _networks:
        handle = run.head() if each.is_head else state.inventory.get_host(each.name)
        if handle not in state.active_hosts and (not each.is_head or handle in state.failed_hosts):
            return None
        run.become_root(handle)
        others = [other.settings.node_ip for other in run.rack().hosts if other.name != each.name]
        targets = [address for address in others if address is not None]
        _networks[each.name] = handle.get_fact(HostNetworkFact, targets=targets)
    return _networks[each.name]


def _reached_at(each: RackHost) -> str:
    reached: str = state.inventory.get_host(each.name).get_fact(ReachedAddress, _sudo=False)
    return reached


def _problems(this: RackHost, network: HostNetwork) -> Iterator[str]:
    if network.nf_tables_problem:
        yield (
            f"{this.name}: its kernel has no nf_tables for the firewall ({network.nf_tables_problem}): use the "
            "distribution's kernel; a container needs CAP_NET_ADMIN"
        )
    head = run.rack().head
    if state.inventory.get_host(head.name) not in state.active_hosts and _is_new(this):
        yield (
            f"{this.name}: the firewall of the head {head.name} does not let it in yet, and --limit leaves {head.name} "
            f"out: run without --limit (on hosts that are as they should be only the firewall changes), or add --limit "
            f"{head.name}"
        )


def _warnings(this: RackHost, network: HostNetwork) -> Iterator[str]:
    left_out = [
        other.name
        for other in run.rack().hosts
        if not other.is_head and state.inventory.get_host(other.name) not in state.active_hosts
    ]
    if left_out and _is_new(this):
        yield (
            f"{this.name}: new, and not let in by the firewall of {', '.join(left_out)}, which this run leaves out: "
            f"deploy there, too, before a model runs on several hosts"
        )
    if network.rules:
        return
    wanted = Rules.of(this.settings, network, {}, run.listens(this.name, "sshd"))
    closed = {
        f"{listener.port} ({listener})"
        for listener in run.listeners(this.name)
        if not listener.is_ours
        and not ipaddress.ip_address(listener.address).is_loopback
        and wanted.closes(listener.port)
    }
    if closed:
        yield (
            f"{this.name}: the firewall will close what listens on {', '.join(sorted(closed))} to all but the hosts of "
            "the rack; where others use it, set firewall_open_ports"
        )


def _is_new(this: RackHost) -> bool:
    """Whether the head has a firewall that does not know this host yet."""
    head = run.rack().head
    network = _network_of(head)
    if this.is_head or network is None or not network.rules:
        return False
    let_in = rules.peers_in(network.rules).get(rules.comment(this.name), ())
    return (this.settings.node_ip or _reached_at(this)) not in let_in
