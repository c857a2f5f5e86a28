"""From where hosts reach each other, and so whom the firewall lets in."""

from roles.firewall.addresses import HostNetwork, of_version, peers

NAMES = ["gpu-01", "gpu-02", "gpu-03"]


def host(*addresses: str, sources: tuple[str, ...] = ()) -> HostNetwork:
    return HostNetwork(addresses=addresses, sources=sources or (addresses[0].partition("/")[0],))


def one_network() -> dict[str, HostNetwork]:
    return {name: host(f"10.0.0.{number}/24") for number, name in enumerate(NAMES, 1)}


def reached(found: dict[str, HostNetwork]) -> dict[str, str]:
    """What `node_ip` is when it is not set: here, the first address."""
    return {name: network.addresses[0].partition("/")[0] for name, network in found.items()}


def test_a_host_with_one_address_is_let_in_from_it() -> None:
    found = one_network()
    assert peers(NAMES, reached(found), found, {}) == {
        "gpu-01": ("10.0.0.1",),
        "gpu-02": ("10.0.0.2",),
        "gpu-03": ("10.0.0.3",),
    }


def test_node_ip_stands_first_and_the_source_of_the_route_beside_it() -> None:
    # Ray listens on node_ip, and the connection to another host's node_ip leaves from where the route says.
    found = {"gpu-01": host("10.9.0.1/24", "10.0.0.1/24"), "gpu-02": host("10.9.1.2/24", sources=("10.9.1.2",))}
    assert peers(["gpu-01", "gpu-02"], {"gpu-01": "10.0.0.1", "gpu-02": "10.8.0.2"}, found, {}) == {
        "gpu-01": ("10.0.0.1", "10.9.0.1"),
        "gpu-02": ("10.8.0.2", "10.9.1.2"),
    }


def test_an_address_in_a_network_that_two_hosts_share_counts() -> None:
    # NCCL picks the network that it likes best, whatever node_ip says.
    found = {
        "gpu-01": host("10.0.0.1/24", "192.168.100.1/24", "172.30.1.1/24"),
        "gpu-02": host("10.0.0.2/24", "192.168.100.2/24", "172.30.2.1/24"),
    }
    assert peers(["gpu-01", "gpu-02"], reached(found), found, {}) == {
        "gpu-01": ("10.0.0.1", "192.168.100.1"),
        "gpu-02": ("10.0.0.2", "192.168.100.2"),
    }


def test_an_address_that_two_hosts_have_is_nobody_s() -> None:
    # docker0 everywhere, and virtual machines behind NAT that all think they are 10.0.2.15
    found = {
        name: HostNetwork((f"10.0.0.{number}/24", "172.17.0.1/16", "10.0.2.15/24"), ("10.0.2.15",))
        for number, name in enumerate(NAMES, 1)
    }
    assert peers(NAMES, reached(found), found, {}) == {name: (f"10.0.0.{n}",) for n, name in enumerate(NAMES, 1)}


def test_a_host_that_was_not_looked_at_keeps_what_the_rules_have_of_it() -> None:
    found = one_network()
    del found["gpu-03"]
    kept = {"gpu-03": ("10.0.0.3", "192.168.100.3"), "gpu-02": ("10.0.0.99",)}
    assert peers(NAMES, reached(found), found, kept) == {
        "gpu-01": ("10.0.0.1",),
        "gpu-02": ("10.0.0.2",),
        "gpu-03": ("10.0.0.3", "192.168.100.3"),
    }


def test_a_host_that_was_not_looked_at_is_let_in_from_the_node_ip_that_is_set() -> None:
    found = one_network()
    del found["gpu-03"]
    node_ips = {**reached(found), "gpu-03": "10.0.0.33"}
    assert peers(NAMES, node_ips, found, {"gpu-03": ("10.0.0.3",)})["gpu-03"] == ("10.0.0.33", "10.0.0.3")


def test_a_host_that_nobody_knows_is_not_let_in() -> None:
    assert peers(["gpu-01"], {}, {}, {}) == {"gpu-01": ()}


def test_loopback_is_no_way_to_another_host() -> None:
    assert peers(["@local"], {"@local": "127.0.0.1"}, {"@local": HostNetwork((), ("127.0.0.1",))}, {}) == {"@local": ()}


def test_both_versions_of_ip_stand_side_by_side() -> None:
    found = {
        "gpu-01": host("10.0.0.1/24", "2001:db8::1/64"),
        "gpu-02": host("10.0.0.2/24", "2001:db8::2/64"),
    }
    assert peers(["gpu-01", "gpu-02"], reached(found), found, {})["gpu-02"] == ("10.0.0.2", "2001:db8::2")


def test_networks_are_told_apart_by_version_and_none_lies_in_another() -> None:
    given = ("10.9.3.1", "10.9.0.0/16", "fd00::/64", "fd00::7", "192.0.2.1")
    assert of_version(4, given) == ("10.9.0.0/16", "192.0.2.1")
    assert of_version(6, given) == ("fd00::/64",)
