"""The firewall on hosts with real systemd and SSH: tried, confirmed, rolled back, put back, loaded at boot."""

import re
import time
from collections.abc import Iterator

import pytest

from tests.lab.lab import Lab, Result, wait_until

HEAD, WORKER = "h1", "h2"
FILES = ("deploy/00_preflight.py", "deploy/05_verdict.py", "deploy/10_host.py", "deploy/18_firewall.py")
CONFIRMED, CANDIDATE = "/etc/rayrack/firewall.nft", "/etc/rayrack/firewall.candidate.nft"
STATUS, LIST = "/opt/rayrack/bin/firewall status", "nft -sn list table inet rayrack"
OPEN_PORTS = 'firewall_open_ports=["50051-50052"]'
CLOSED = "The firewall lets in the hosts of the rack, and SSH"
# The timer that looks after the table, and its slack on a busy machine.
PUT_BACK_S = 45


def deploy(lab: Lab, *arguments: str, check: bool = True) -> Result:
    return lab.pyinfra(*FILES, "-y", *arguments, check=check)


@pytest.fixture
def closed(lab: Lab) -> Iterator[Lab]:
    """The two hosts, with the firewall as deployed; and so again when the test is over."""
    deploy(lab)
    yield lab
    if any(lab.ssh(host, STATUS, check=False).returncode for host in (HEAD, WORKER)):
        deploy(lab)


def said(lab: Lab, host: str, unit: str, since: str) -> str:
    return lab.read(host, f"journalctl -u {unit} --since=@{since} -o cat --no-pager")


def now(lab: Lab, host: str) -> str:
    return lab.read(host, "date +%s")


def test_the_table_is_as_rendered_and_lets_in_both_hosts(closed: Lab) -> None:
    for host in (HEAD, WORKER):
        assert closed.ssh(host, STATUS, check=False).stdout == ""
        table = closed.read(host, LIST)
        for name in (HEAD, WORKER):
            assert f'{closed.address(name)} comment "{name}"' in table
        assert closed.ssh(host, "systemctl is-enabled nftables", check=False).stdout.strip() == "disabled"


def test_a_second_deploy_changes_nothing(closed: Lab) -> None:
    result = deploy(closed)
    rows = re.findall(r"^ +Firewall \| .*$", result.stdout.split("--> Results:")[1], re.MULTILINE)
    assert len(rows) == 7
    assert all(row.split()[-4:] == ["2", "-", "-", "2"] for row in rows), rows


def test_the_plan_tells_of_a_change_that_cuts_nobody_off(closed: Lab) -> None:
    shown = deploy(closed, "--dry", "--data", OPEN_PORTS).stdout
    assert shown.count("firewall: reloads: firewall.nft, nobody is cut off") == 2
    assert "firewall:" not in deploy(closed, "--dry").stdout


@pytest.mark.parametrize("cut", ["new", pytest.param("all", marks=pytest.mark.long)])
def test_rules_that_cut_ssh_off_are_gone_by_themselves_after_a_minute(closed: Lab, cut: str) -> None:
    before, since, began = closed.read(WORKER, LIST), now(closed, WORKER), time.monotonic()
    result = closed.pyinfra(
        "tests/roles/firewall/cut_ssh_off.py", "-y", "--limit", WORKER, "--data", f"cut={cut}", check=False
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stdout
    assert "no new SSH connection beside the new firewall rules (Could not connect (timed out))" in result.stdout
    assert closed.state(WORKER) == "no-ssh"  # as a new connection finds it
    wait_until(lambda: closed.state(WORKER) == "up", "SSH answers again", 120, every_s=1)
    assert 50 < time.monotonic() - began < 110
    assert closed.read(WORKER, LIST) == before
    assert closed.ssh(WORKER, STATUS, check=False).stdout == ""
    assert "were not confirmed in time" in said(closed, WORKER, "rayrack-firewall-rollback", since)
    assert deploy(closed).returncode == 0


def test_a_first_trial_that_fails_leaves_no_table(closed: Lab) -> None:
    closed.ssh(WORKER, f"mv {CONFIRMED} /root/; nft delete table inet rayrack")
    try:
        closed.ssh(WORKER, f"/opt/rayrack/bin/firewall try {CANDIDATE}; /opt/rayrack/bin/firewall rollback")
        assert closed.ssh(WORKER, LIST, check=False).returncode != 0
    finally:
        closed.ssh(WORKER, f"mv /root/firewall.nft {CONFIRMED}; systemctl reload rayrack-firewall")
    assert closed.ssh(WORKER, STATUS, check=False).stdout == ""


def test_a_confirmation_is_for_the_rules_that_were_tried(closed: Lab) -> None:
    refused = closed.ssh(WORKER, "/opt/rayrack/bin/firewall confirm 0123456789abcdef", check=False)
    assert refused.returncode == 1
    assert refused.stdout.startswith("firewall: these rules are not being tried any more")
    name = closed.read(WORKER, f"/opt/rayrack/bin/firewall try {CANDIDATE}")
    assert closed.ssh(WORKER, STATUS, check=False).stdout.startswith("firewall: other rules are being tried")
    assert closed.ssh(WORKER, f"/opt/rayrack/bin/firewall confirm {name}").stdout == ""
    timers = closed.read(WORKER, "systemctl list-timers --all --plain --no-legend rayrack-firewall-rollback.timer")
    assert timers == ""


def test_rules_with_a_mistake_are_refused_and_nothing_is_armed(closed: Lab) -> None:
    before = closed.read(WORKER, LIST)
    closed.ssh(WORKER, "echo 'table inet rayrack { chain input { wrong } }' >/root/wrong.nft")
    refused = closed.ssh(WORKER, "/opt/rayrack/bin/firewall try /root/wrong.nft", check=False)
    assert refused.returncode == 1
    assert refused.stdout.count("\n") == 1
    assert "/root/wrong.nft:1:" in refused.stdout
    assert closed.read(WORKER, LIST) == before
    assert closed.ssh(WORKER, STATUS, check=False).stdout == ""


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ("nft flush ruleset", "the table inet rayrack is gone; it is loaded again"),
        ("systemctl restart nftables", "the table inet rayrack is gone; it is loaded again"),
        ("nft insert rule inet rayrack input accept", "the table inet rayrack was changed by somebody else"),
        ("nft add element inet rayrack peers_4 '{ 203.0.113.7 }'", "the table inet rayrack was changed by somebody"),
    ],
    ids=["flushed", "nftables restarted", "a rule added", "a host added"],
)
def test_what_others_do_to_the_table_is_undone_and_told(closed: Lab, harm: str, told: str) -> None:
    before, since = closed.read(WORKER, LIST), now(closed, WORKER)
    closed.ssh(WORKER, harm)
    assert closed.ssh(WORKER, STATUS, check=False).returncode == 1
    wait_until(lambda: closed.ssh(WORKER, STATUS, check=False).returncode == 0, "the table is back", PUT_BACK_S)
    assert closed.read(WORKER, LIST) == before
    assert told in said(closed, WORKER, "rayrack-firewall-keep", since)


def test_looking_after_the_table_writes_nothing_into_the_journal(closed: Lab) -> None:
    since = now(closed, WORKER)
    runs = "systemctl show -P ExecMainStartTimestampMonotonic rayrack-firewall-keep.service"
    first = closed.read(WORKER, runs)
    wait_until(lambda: closed.read(WORKER, runs) != first, "the timer has come round", PUT_BACK_S)
    assert "-- No entries --" in said(closed, WORKER, "rayrack-firewall-keep", since) or not said(
        closed, WORKER, "rayrack-firewall-keep", since
    )


def test_the_tables_of_others_are_left_alone(closed: Lab) -> None:
    closed.ssh(WORKER, "nft add table inet operators; nft add chain inet operators theirs")
    theirs = closed.read(WORKER, "nft list table inet operators")
    try:
        deploy(closed, "--data", OPEN_PORTS)
        assert "50053-60999" in closed.read(WORKER, LIST)
        assert closed.read(WORKER, "nft list table inet operators") == theirs
    finally:
        closed.ssh(WORKER, "nft delete table inet operators")
        deploy(closed)


def test_the_unit_cannot_be_stopped_by_hand_as_ray_would_stop_with_it(closed: Lab) -> None:
    for verb in ("stop", "restart"):
        assert closed.ssh(WORKER, f"systemctl {verb} rayrack-firewall", check=False).returncode != 0
    closed.ssh(WORKER, "systemctl stop nftables")
    assert closed.read(WORKER, "systemctl is-active rayrack-firewall") == "active"


def test_a_host_comes_up_closed(closed: Lab) -> None:
    closed.reboot(WORKER)
    assert closed.ssh(WORKER, STATUS, check=False).stdout == ""
    show = "systemctl show -P {} {}"
    loaded = int(closed.read(WORKER, show.format("ExecMainExitTimestampMonotonic", "rayrack-firewall")))
    network = int(closed.read(WORKER, show.format("ExecMainStartTimestampMonotonic", "systemd-networkd")))
    assert 0 < loaded < network


def test_a_wider_range_of_the_kernel_s_ports_is_noticed_and_closed_by_a_deploy(closed: Lab) -> None:
    former = closed.read(WORKER, "cat /proc/sys/net/ipv4/ip_local_port_range")
    closed.ssh(WORKER, "echo 25000 65000 >/proc/sys/net/ipv4/ip_local_port_range")
    try:
        told = closed.ssh(WORKER, STATUS, check=False).stdout
        assert "ip_local_port_range is 25000-65000, the rules were made for 32768-60999: deploy" in told
        deploy(closed)
        assert "25000-65000" in closed.read(WORKER, LIST)
    finally:
        closed.ssh(WORKER, f"echo {former} >/proc/sys/net/ipv4/ip_local_port_range")
        deploy(closed)


def test_a_host_that_is_left_out_of_a_run_stays_let_in(closed: Lab) -> None:
    before = closed.read(HEAD, LIST)
    deploy(closed, "--limit", HEAD, "--data", OPEN_PORTS)
    try:
        after = closed.read(HEAD, LIST)
        assert after != before
        assert f'{closed.address(WORKER)} comment "{WORKER}"' in after
    finally:
        deploy(closed)
    assert closed.read(HEAD, LIST) == before


def test_a_new_host_is_not_deployed_behind_the_back_of_its_head(closed: Lab) -> None:
    closed.ssh(HEAD, f'grep -v \'comment "{WORKER}"\' {CONFIRMED} | sed \'s/"{HEAD}",/"{HEAD}"/\' >/root/without.nft')
    closed.ssh(HEAD, "/opt/rayrack/bin/firewall confirm $(/opt/rayrack/bin/firewall try /root/without.nft)")
    assert WORKER not in closed.read(HEAD, LIST)
    refused = deploy(closed, "--limit", WORKER, check=False)
    assert refused.returncode == 1
    assert (
        "h2: the firewall of the head h1 does not let it in yet, and --limit leaves h1 out: run without --limit (on "
        "hosts that are as they should be only the firewall changes), or add --limit h1"
    ) in refused.stdout
    assert "Beginning operation run" not in refused.stdout
    deploy(closed)
    assert f'comment "{WORKER}"' in closed.read(HEAD, LIST)


def test_a_listener_that_will_be_closed_is_told_before_the_first_time(closed: Lab) -> None:
    serve = "import socket, time; server = socket.create_server((str(), 50051)); time.sleep(300)"
    closed.ssh(WORKER, f"systemd-run -q --unit=theirs python3 -c '{serve}'; mv {CONFIRMED} /root/; sleep 1")
    try:
        shown = deploy(closed, "--dry").stdout
        assert re.search(
            r"warning: h2: the firewall will close what listens on 50051 \(python3 \(pid \d+, theirs.service\)\) to "
            r"all but the hosts of the rack; where others use it, set firewall_open_ports",
            shown,
        )
    finally:
        closed.ssh(WORKER, f"systemctl stop theirs; mv /root/firewall.nft {CONFIRMED}")


def test_an_ordinary_user_with_sudo_deploys_it_as_well(closed: Lab) -> None:
    closed.ssh(WORKER, f"rm {CONFIRMED}")
    result = deploy(closed, "--ssh-user", "ops")
    assert re.search(rf"{CLOSED} +2 +1 +- +1 ", result.stdout)
    assert closed.ssh(WORKER, STATUS, check=False).stdout == ""
