"""The rendered rules in a real kernel: connections from a host of the rack, a Prometheus, a stranger, local users."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from roles.firewall.addresses import HostNetwork, Peers
from roles.firewall.rules import TEMPLATE, Rules
from roles.planner.changes.hosts import rendered
from roles.settings import Settings
from tests.roles.firewall.packets import OWN_PLACES, USERS, WIRES

PROGRAM = Path(__file__).with_name("packets.py")
# What belongs to the rack alone: the first, the last and one in the middle of each range.
RAY_S = [
    6379,
    6380,
    8100,
    8265,
    8404,
    8500,
    10001,
    20000,
    20500,
    20999,
    29500,
    30000,
    30999,
    32768,
    40000,
    44217,
    60999,
]
METRICS = [6385, 9101]
# Of Ray's those that a local user reaches: the dashboard, what engines pick, and metrics that are no settings.
FOR_LOCAL_USERS = [8265, 29500, 32768, 40000, 44217, 60999]
SERVICES = sorted({*RAY_S} - {*FOR_LOCAL_USERS})
FOR_ALL = [22, 2222, 8000, 19999, 21000, 29999, 31000, 32767, 50051, 61000]
PORTS = sorted([*RAY_S, *METRICS, *FOR_ALL])

SETTINGS = Settings(metrics_from=("10.0.2.0/24", "fd02::2"), firewall_open_ports=(50051,))
PEERS: Peers = {"gpu-02": ("10.0.1.2", "fd01::2")}


def rules_for(directory: Path, settings: Settings = SETTINGS, ssh_port: int = 22) -> Path:
    file = directory / "firewall.nft"
    rules = Rules.of(settings, HostNetwork(ssh_port=ssh_port), PEERS, [2222])
    text = rendered(TEMPLATE, rules=rules)
    for name in ("rayrack", "rayrack-gateway"):
        assert text.count(f'"{name}"') == 1
        text = text.replace(f'"{name}"', f'"{USERS[name]}"')
    file.write_text(text)
    return file


def tried(rules: Path, ports: list[int]) -> dict[str, Any]:
    # With users beside root, whom an ordinary user has from /etc/subuid.
    unshare = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user", "--map-auto"])]
    command = [*unshare, sys.executable, str(PROGRAM), str(rules), *map(str, ports)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return tried(rules_for(tmp_path_factory.mktemp("rules")), PORTS)


@pytest.mark.parametrize("version", ["4", "6"])
def test_a_host_of_the_rack_reaches_everything(found: dict[str, Any], version: str) -> None:
    assert found[f"peer {version}"]["open"] == PORTS


@pytest.mark.parametrize("version", ["4", "6"])
def test_a_stranger_reaches_what_is_not_the_rack_s_and_is_refused_the_rest_at_once(
    found: dict[str, Any], version: str
) -> None:
    assert found[f"stranger {version}"] == {"open": FOR_ALL, "refused": sorted([*RAY_S, *METRICS]), "silent": []}


@pytest.mark.parametrize("version", ["4", "6"])
def test_who_may_read_metrics_reaches_them_and_nothing_else_of_the_rack_s(found: dict[str, Any], version: str) -> None:
    assert found[f"prometheus {version}"]["open"] == sorted([*FOR_ALL, *METRICS])


def test_the_host_reaches_itself_at_all_its_addresses(found: dict[str, Any]) -> None:
    assert found["the host itself"]["open"] == PORTS


@pytest.mark.parametrize("place", [place for place in OWN_PLACES if not place.startswith("stranger")])
def test_a_local_user_is_refused_the_services_of_the_rack_at_once(found: dict[str, Any], place: str) -> None:
    others = sorted({*PORTS} - {*SERVICES})
    assert found[f"nobody: {place}"] == {"open": others, "refused": SERVICES, "silent": []}


@pytest.mark.parametrize("place", [place for place in OWN_PLACES if place.startswith("stranger")])
def test_a_local_user_reaches_the_same_ports_of_hosts_that_are_not_the_rack_s(
    found: dict[str, Any], place: str
) -> None:
    assert found[f"nobody: {place}"]["open"] == PORTS


@pytest.mark.parametrize("place", OWN_PLACES)
@pytest.mark.parametrize("user", ["rayrack", "rayrack-gateway"])
def test_the_users_of_the_rack_reach_everything(found: dict[str, Any], user: str, place: str) -> None:
    assert found[f"{user}: {place}"]["open"] == PORTS


def test_what_local_users_were_refused_is_counted(found: dict[str, Any]) -> None:
    counted = re.search(r"counter packets (\d+)", found["chain output"])
    assert counted
    assert int(counted[1]) >= len([place for place in OWN_PLACES if not place.startswith("stranger")]) * len(SERVICES)


def test_a_connection_that_is_there_already_is_not_cut(found: dict[str, Any]) -> None:
    assert found["what was open"] == "x"
    assert found["what a user had open"] == "x"


def test_answers_to_the_host_s_own_connections_come_in(found: dict[str, Any]) -> None:
    assert found["answer to an outgoing connection"] == "answer"


def test_udp_is_left_alone(found: dict[str, Any]) -> None:
    assert found["datagram"] == "x"


def test_what_was_refused_is_counted(found: dict[str, Any]) -> None:
    counted = re.search(r"counter packets (\d+)", found["table"])
    assert counted
    assert int(counted[1]) >= 2 * len([*RAY_S, *METRICS])


def test_there_is_one_table_and_it_is_ours(found: dict[str, Any]) -> None:
    assert found["tables"] == ["table inet rayrack"]


@pytest.mark.parametrize("port", [6390, 22222, 40022, 60999], ids=str)
def test_ssh_is_never_closed_whatever_its_port(tmp_path: Path, port: int) -> None:
    # Ray's ports moved onto it would be refused before (preflight: a taken port); the rules do not rely on that.
    settings = Settings(gcs_port=6390, worker_ports="22000-22999")
    found = tried(rules_for(tmp_path, settings, ssh_port=port), [port, 6380])
    assert found["stranger 4"] == {"open": [port], "refused": [6380], "silent": []}


def test_the_gateway_is_open_to_all_also_among_the_kernel_s_ports(tmp_path: Path) -> None:
    found = tried(rules_for(tmp_path, Settings(gateway_port=40443)), [40443, 40444])
    assert found["stranger 4"]["open"] == [40443]


def test_metrics_for_everybody_can_be_said(tmp_path: Path) -> None:
    found = tried(rules_for(tmp_path, Settings(metrics_from=("0.0.0.0/0", "::/0"))), [6379, 6385])
    assert (found["stranger 4"]["open"], found["stranger 6"]["open"]) == ([6385], [6385])


def test_the_rules_load_again_over_themselves(tmp_path: Path) -> None:
    rules = rules_for(tmp_path)
    command = f"nft -f {rules} && nft -f {rules} && nft list tables"
    unshare = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    done = subprocess.run([*unshare, "sh", "-c", command], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, "table inet rayrack\n"), done.stderr


def test_the_wires_are_the_addresses_of_the_rules() -> None:
    assert WIRES["peer"][1] in PEERS["gpu-02"]
