"""Which ports are closed, and what of the rules can be read back from them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.firewall import rules
from roles.firewall.addresses import HostNetwork
from roles.firewall.rules import Ports, Rules
from roles.planner.changes.hosts import rendered
from roles.setting_rules import closed_ports
from roles.setting_types import port_range
from roles.settings import Settings

PORT = st.integers(1, 65535)
RANGES = st.lists(st.tuples(PORT, PORT).map(lambda pair: (min(pair), max(pair))), max_size=6)


def of(settings: Settings | None = None, **network: object) -> Rules:
    return Rules.of(settings or Settings(), HostNetwork(**network), {}, [])  # type: ignore[arg-type]


def ports_of(ranges: "tuple[Ports, ...] | list[Ports]") -> set[int]:
    return {port for low, high in ranges for port in range(low, high + 1)}


@given(RANGES, RANGES)
def test_ranges_are_taken_out_of_ranges(ranges: list[Ports], taken: list[Ports]) -> None:
    left = rules.without(rules.merged(ranges), taken)
    assert ports_of(left) == ports_of(ranges) - ports_of(taken)
    assert all(high + 1 < low for (_, high), (low, _) in pairwise(left)), "nft takes no overlap"


def test_every_port_of_a_setting_is_closed_but_the_gateway_s() -> None:
    closed, settings = of(), Settings()
    named = [name for name in Settings.model_fields if name.endswith("_port") and name != "gateway_port"]
    assert {name for _, _, name in closed_ports(settings)} == {*named, "worker_ports", "direct_ingress_ports"}
    for low, high, name in closed_ports(settings):
        assert closed.closes(low), name
        assert closed.closes(high), name
    assert not closed.closes(settings.gateway_port)


def test_so_are_the_ports_that_ray_and_engines_take_unasked() -> None:
    assert all(of().closes(port) for port in (8500, 44217, 44227, 29500, 29501, 32768, 60999))
    narrow = of(ephemeral=(50000, 50100))
    assert narrow.closes(44217)
    assert not narrow.closes(44218)


def test_the_kernel_s_ports_are_those_of_the_host() -> None:
    closed = of(ephemeral=(1024, 65000))
    assert closed.closes(9100)
    assert not closed.closes(65001)
    assert "# ip_local_port_range: 1024-65000\n" in rendered(rules.TEMPLATE, rules=closed)


def test_what_shall_stay_open_is_not_closed() -> None:
    closed = of(Settings(firewall_open_ports=(50051, "60000-60010")))
    assert not any(closed.closes(port) for port in (50051, 60000, 60005, 60010))
    assert all(closed.closes(port) for port in (50050, 50052, 59999, 60011))


@pytest.mark.parametrize("wrong", [6379, "6379-6380", "20500-20600", "1-65535", 8265, 9101])
def test_no_port_of_ray_s_is_opened_to_all(wrong: int | str) -> None:
    with pytest.raises(ValueError, match="do not fit together"):
        Settings(firewall_open_ports=(wrong,))


@pytest.mark.parametrize("wrong", [0, 65536, "7-7", "9-8", "sixty", True, "60000-70000"])
def test_an_impossible_port_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="firewall_open_ports"):
        Settings(firewall_open_ports=(wrong,))


@pytest.mark.parametrize("wrong", ["prometheus", "10.0.0.1/24", "10.0.0.0/33", ""])
def test_metrics_are_for_addresses_and_networks(wrong: str) -> None:
    with pytest.raises(ValueError, match="metrics_from"):
        Settings(metrics_from=(wrong,))


def test_metrics_are_the_ports_of_metrics_and_no_others() -> None:
    settings = Settings()
    assert {settings.metrics_port, settings.serve_metrics_port} <= set(of().metrics)
    others = {settings.gcs_port, settings.serve_stats_port, settings.serve_port, settings.dashboard_port}
    assert not others & set(of().metrics)


def test_a_service_is_every_port_of_a_setting_but_metrics_and_the_dashboard() -> None:
    settings = Settings()
    services = ports_of(of().services)
    named = {port for low, high, _ in closed_ports(settings) for port in range(low, high + 1)}
    assert services == {*named, 8500} - {*of().metrics, settings.dashboard_port}
    assert {settings.serve_port, settings.serve_stats_port, settings.gcs_port} <= services


def test_no_service_is_where_engines_of_others_may_listen_or_where_all_may_come() -> None:
    found = Rules.of(Settings(), HostNetwork(ssh_port=20022), {}, [30022])
    services = ports_of(found.services)
    assert not {29500, 29501, 32768, 60999, 44217, 44227, 8000, 20022, 30022} & services
    assert {20021, 20023, 30021, 30023} <= services
    assert services <= ports_of(found.closed)


def test_the_rules_name_root_and_the_users_of_the_rack() -> None:
    text = rendered(rules.TEMPLATE, rules=of())
    assert text.count("meta skuid") == 1
    assert 'meta skuid { "root", "rayrack", "rayrack-gateway" } accept\n' in text


def test_ssh_stays_open_where_this_run_came_in_and_where_sshd_listens() -> None:
    found = Rules.of(Settings(), HostNetwork(ssh_port=40022), {}, [40023])
    assert not found.closes(40022)
    assert not found.closes(40023)
    assert found.closes(40024)


def test_a_range_of_ports_on_the_closed_side_keeps_its_ends() -> None:
    low, high = port_range(Settings().worker_ports)
    assert f"{low}-{high}" in of().closed_elements


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=130)
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


@given(st.dictionaries(NAMES, st.lists(ADDRESSES, min_size=1, max_size=3, unique=True), max_size=4))
def test_whose_address_it_is_can_be_read_back_whatever_the_host_s_name(peers: dict[str, list[str]]) -> None:
    made = Rules.of(Settings(), HostNetwork(), {name: tuple(each) for name, each in peers.items()}, [])
    read = rules.kept(peers, [rendered(rules.TEMPLATE, rules=made)])
    assert {name: set(each) for name, each in read.items()} == {name: set(each) for name, each in peers.items()}


def test_what_several_hosts_know_is_put_together() -> None:
    one = rendered(rules.TEMPLATE, rules=Rules.of(Settings(), HostNetwork(), {"a": ("10.0.0.1",)}, []))
    other = rendered(rules.TEMPLATE, rules=Rules.of(Settings(), HostNetwork(), {"a": ("10.0.0.2",), "b": ()}, []))
    assert rules.kept(["a", "b", "c"], [one, other, ""]) == {"a": ("10.0.0.1", "10.0.0.2"), "b": (), "c": ()}
