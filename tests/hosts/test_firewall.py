"""The firewall: its table as the deploy has confirmed it, for the hosts of the inventory and nobody else."""

import json
from collections.abc import Iterable
from functools import cache
from typing import Any

from roles.firewall.rules import comment, service_ports
from roles.setting_rules import closed_ports
from tests.hosts.reach import CheckedHost, CheckedRack, expect, last_line


@cache
def sets(host: CheckedHost) -> dict[str, list[Any]]:
    """The elements of each set of the table."""
    listed = host.run("nft --json list table inet rayrack")
    expect(
        listed.rc == 0,
        f"{host}: the firewall's table is gone: Ray's ports are open to all",
        f"on {host}: systemctl reload rayrack-firewall; journalctl -u rayrack-firewall -u rayrack-firewall-keep",
    )
    entries = [entry["set"] for entry in json.loads(listed.stdout)["nftables"] if "set" in entry]
    return {entry["name"]: entry.get("elem", []) for entry in entries}


def test_the_firewall_is_as_it_was_confirmed(host: CheckedHost) -> None:
    status = host.run("/opt/rayrack/bin/firewall status")
    expect(status.rc == 0, f"{host}: {last_line(status.stderr)}", host.deploy_again)


def test_the_firewall_lets_in_the_hosts_of_the_inventory_and_nobody_else(
    host: CheckedHost, checked: CheckedRack
) -> None:
    found = sets(host)
    let_in = {each["elem"]["val"]: each["elem"]["comment"] for each in [*found["peers_4"], *found["peers_6"]]}
    settings = {each: each.rack_host.settings.node_ip for each in checked.hosts}
    missing = [
        each.rack_host.name
        for each, node_ip in settings.items()
        if comment(each.rack_host.name) not in let_in.values() or (node_ip is not None and node_ip not in let_in)
    ]
    # A rack of one host needs no address of its own: what it says to itself goes over loopback.
    expect(
        not missing or len(checked.hosts) == 1,
        f"{host}: the firewall does not let in {', '.join(missing)}",
        host.deploy_again,
    )
    names = {comment(each.rack_host.name) for each in checked.hosts}
    strangers = [f"{address} ({name})" for address, name in let_in.items() if name not in names]
    expect(
        not strangers,
        f"{host}: the firewall lets in what is no host of the inventory: {', '.join(strangers)}",
        host.deploy_again,
    )


def test_the_firewall_closes_every_port_that_is_not_for_everybody(host: CheckedHost) -> None:
    left = not_in(sets(host)["closed"], closed_ports(host.rack_host.settings))
    expect(not left, f"{host}: the firewall leaves open to all: {', '.join(left)}", host.deploy_again)


def test_the_firewall_closes_ray_and_serve_to_the_users_of_the_host(host: CheckedHost) -> None:
    left = not_in(sets(host).get("services", []), service_ports(host.rack_host.settings))
    expect(not left, f"{host}: the firewall leaves open to every local user: {', '.join(left)}", host.deploy_again)


def not_in(elements: Iterable[Any], ports: Iterable[tuple[int, int, str]]) -> list[str]:
    """The ports that a set of the table lacks, with their names."""
    ranges = [each["range"] if isinstance(each, dict) else [each, each] for each in elements]
    return [
        f"{name} ({low if low == high else f'{low}-{high}'})"
        for low, high, name in ports
        if not any(first <= low and high <= last for first, last in ranges)
    ]
