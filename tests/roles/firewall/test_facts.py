"""What the facts' commands print, read back; and the program that a host is sent, run here."""

import json
import os
import subprocess
import sys

from roles.firewall.activation import KEEP_TIMER, KEEP_UNIT, UNIT
from roles.firewall.addresses import HostNetwork
from roles.firewall.facts import HOST, FirewallState, HostNetworkFact

SHOWN = """Id=rayrack-firewall.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled
NeedDaemonReload=no

Id=rayrack-firewall-keep.service
LoadState=loaded
ActiveState=inactive
UnitFileState=static
NeedDaemonReload=yes

Id=rayrack-firewall-keep.timer
LoadState=not-found
ActiveState=inactive
UnitFileState=
NeedDaemonReload=no
"""


def test_units_and_what_the_program_says_are_read() -> None:
    state = FirewallState().process([*SHOWN.splitlines(), "", "Confirmed=yes", "Loaded=yes"])
    assert (state.confirmed, state.loaded) == (True, True)
    assert (state.units[UNIT].active, state.units[UNIT].enabled) == (True, True)
    assert state.units[KEEP_UNIT].file_changed
    assert not state.units[KEEP_TIMER].exists


def test_a_host_without_the_program_has_confirmed_and_loaded_nothing() -> None:
    state = FirewallState().process(SHOWN.splitlines())
    assert (state.confirmed, state.loaded) == (False, False)


def looked_at(*targets: str, network: bool = False) -> HostNetwork:
    """The program as a host runs it, in a network namespace of its own."""
    setup = (
        "ip link set lo up; ip link add wire type veth peer name far; ip link set far up; "
        "ip address add 10.7.0.1/24 dev wire; ip address add 10.8.0.1/24 dev wire; ip link set wire up; "
        "ip -6 address add fd07::1/64 dev wire nodad; ip route add default via 10.7.0.254; "
        "echo 30000 40000 >/proc/sys/net/ipv4/ip_local_port_range; "
    )
    command = f"{setup if network else ''}{HostNetworkFact().command(targets)}".replace(
        "/usr/bin/python3", sys.executable
    )
    unshare = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    environment = {**os.environ, "SSH_CONNECTION": "10.7.0.9 50000 10.7.0.1 2222"}
    done = subprocess.run([*unshare, "sh", "-c", command], capture_output=True, text=True, timeout=30, env=environment)
    assert done.returncode == 0, done.stderr
    return HostNetworkFact().process(done.stdout.splitlines())


def test_a_host_tells_its_addresses_its_routes_its_ports_and_where_ssh_came_in() -> None:
    found = looked_at("10.8.0.7", "fd07::9", network=True)
    assert set(found.addresses) == {"10.7.0.1/24", "10.8.0.1/24", "fd07::1/64"}
    assert set(found.sources) == {"10.7.0.1", "10.8.0.1", "fd07::1"}
    assert found.ephemeral == (30000, 40000)
    assert found.ssh_port == 2222
    assert found.nf_tables_problem is None
    assert found.rules == ""


def test_a_host_without_a_network_is_looked_at_as_well() -> None:
    found = looked_at("10.8.0.7")
    assert (found.addresses, found.sources) == ((), ())


def test_who_may_not_ask_the_kernel_for_its_rules_is_told_so() -> None:
    # As in a container without CAP_NET_ADMIN.
    command = ["setpriv", "--reuid=65534", "--clear-groups", "--bounding-set=-net_admin", sys.executable, "-ISc"]
    done = subprocess.run(
        [*command, (HOST / "network_info.py").read_text()], capture_output=True, text=True, timeout=30, cwd="/"
    )
    assert json.loads(done.stdout)["nf_tables_problem"] == "EPERM: Operation not permitted"


def test_the_program_fits_into_a_command_line() -> None:
    assert len(HostNetworkFact().command(["10.0.0.1"] * 500)) < 131_072  # MAX_ARG_STRLEN
