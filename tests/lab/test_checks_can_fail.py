"""The checks of tests/hosts on the lab: green on a healthy rack, and the right ones red for each thing that breaks."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import DeployedRack
from tests.lab.lab import ROOT, wait_until

CHECKS_LIMIT_S = 180
REPAIR_LIMIT_S = 300
# Ray gives a silent worker up after a minute; then its models start anew.
RECOVERY_LIMIT_S = 600


@dataclass(frozen=True)
class Breakage:
    """One thing that goes wrong on a host: the shell command that does it, the one that repairs it, what turns red."""

    what: str
    host: str
    broken_by: str
    repaired_by: str
    red: frozenset[str]


def breakage(what: str, host: str, broken_by: str, repaired_by: str, *red: str) -> Breakage:
    return Breakage(what, host, broken_by, repaired_by, frozenset(red))


STRAY = "/tmp/rayrack-stray.pid"
GATEWAY = "/etc/rayrack/gateway"
SLUGS = ("tiny-a", "tiny-b", "tiny-embed")
# A look that is under way would put the table back.
LEFT_ALONE = (
    "systemctl stop rayrack-firewall-keep.timer && "
    'until [ "$(systemctl is-active rayrack-firewall-keep.service)" = inactive ]; do sleep 0.1; done'
)
RELOAD = "systemctl reload rayrack-gateway; sleep 2"
SELF_SIGNED = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj /CN=other"
NEW_PAIR = f"cp -p {GATEWAY}/tls.pem* /root/ && {SELF_SIGNED} -keyout /root/new.key -out /root/new.pem 2>/dev/null"
OLD_PAIR = f"cp -p /root/tls.pem* {GATEWAY}/ && rm /root/tls.pem* /root/new.*"
KEEP_CONFIG = f"cp -p {GATEWAY}/haproxy.cfg /root/"
OLD_CIPHERS = "s/^ *ssl-default-bind-ciphers .*/ssl-default-bind-ciphers ALL:@SECLEVEL=0/"
# All that asks the gateway with the certificate that its clients trust.
ASKED_OVER_TLS = (
    "test_gateway_answers[h1]",
    "test_gateway_is_closed_to_those_without_a_key[h1-no key]",
    "test_gateway_is_closed_to_those_without_a_key[h1-wrong key]",
    "test_clients_get_in_from_the_desk[h1]",
    *(f"test_model_is_listed[h1-{slug}]" for slug in SLUGS),
    *(f"test_model_answers[h1-{slug}]" for slug in SLUGS),
)
BREAKAGES = (
    breakage(
        "a directory is open to all",
        "h1",
        "chmod 755 /etc/rayrack/secrets",
        "chmod 700 /etc/rayrack/secrets",
        "test_path_has_its_owner_and_mode[h1-/etc/rayrack/secrets]",
    ),
    breakage(
        "a secret is readable by all",
        "h2",
        "chmod 444 /etc/rayrack/secrets/ray.token",
        "chmod 400 /etc/rayrack/secrets/ray.token",
        "test_path_has_its_owner_and_mode[h2-/etc/rayrack/secrets/ray.token]",
        "test_secrets_are_readable_by_root_alone[h2]",
    ),
    breakage(
        "a file has another owner",
        "h1",
        "chown root:root /etc/rayrack/models/tiny-a.env",
        "chown root:rayrack /etc/rayrack/models/tiny-a.env",
        "test_path_has_its_owner_and_mode[h1-/etc/rayrack/models/tiny-a.env]",
    ),
    breakage(
        "the cron file is gone",
        "h2",
        "mv /etc/cron.d/rayrack-clean /root/rayrack-clean",
        "mv /root/rayrack-clean /etc/cron.d/rayrack-clean",
        "test_path_has_its_owner_and_mode[h2-/etc/cron.d/rayrack-clean]",
    ),
    breakage(
        "cron is stopped",
        "h1",
        "systemctl stop cron",
        "systemctl start cron",
        "test_cron_runs[h1]",
    ),
    breakage(
        "cron is disabled",
        "h1",
        "systemctl disable -q cron",
        "systemctl enable -q cron",
        "test_cron_comes_back_after_a_reboot[h1]",
    ),
    breakage(
        "the service user can log in",
        "h2",
        "usermod --shell /bin/bash rayrack",
        "usermod --shell /usr/sbin/nologin rayrack",
        "test_service_user_exists_and_cannot_log_in[h2]",
    ),
    breakage(
        "a unit is disabled",
        "h2",
        "systemctl disable -q rayrack-worker",
        "systemctl enable -q rayrack-worker",
        "test_unit_is_enabled[h2-rayrack-worker]",
    ),
    breakage(
        "a unit has failed",
        "h2",
        "systemd-run -q --unit=rayrack-broken false; sleep 1",
        "systemctl reset-failed rayrack-broken",
        "test_no_unit_of_rayrack_has_failed[h2]",
    ),
    breakage(
        "a unit was restarted again and again",
        "h1",
        "for i in 1 2 3 4 5; do systemctl kill -s KILL rayrack-gateway; sleep 2.5; done",
        "systemctl restart rayrack-gateway; sleep 5",
        "test_unit_does_not_restart_again_and_again[h1-rayrack-gateway]",
    ),
    breakage(
        "the distribution's HAProxy may start",
        "h1",
        "rm /etc/systemd/system/haproxy.service && systemctl daemon-reload",
        "ln -s /dev/null /etc/systemd/system/haproxy.service && systemctl daemon-reload",
        "test_haproxy_of_the_distribution_stays_off[h1]",
    ),
    breakage(
        "a host program is gone",
        "h2",
        "ln -s /opt/rayrack/lib/gone.py /opt/rayrack/bin/gone",
        "rm /opt/rayrack/bin/gone",
        "test_host_programs_are_linked[h2]",
    ),
    breakage(
        "the firewall lets in a stranger",
        "h2",
        f"{LEFT_ALONE} && nft add element inet rayrack peers_4 '{{ 203.0.113.7 comment \"x\" }}'",
        "systemctl reload rayrack-firewall && systemctl start rayrack-firewall-keep.timer",
        "test_unit_is_active[h2-rayrack-firewall-keep.timer]",
        "test_the_firewall_is_as_it_was_confirmed[h2]",
        "test_the_firewall_lets_in_the_hosts_of_the_inventory_and_nobody_else[h2]",
    ),
    breakage(
        "the firewall leaves Serve to every local user",
        "h2",
        f"{LEFT_ALONE} && nft delete element inet rayrack services '{{ 8100 }}'",
        "systemctl reload rayrack-firewall && systemctl start rayrack-firewall-keep.timer",
        "test_unit_is_active[h2-rayrack-firewall-keep.timer]",
        "test_the_firewall_is_as_it_was_confirmed[h2]",
        "test_the_firewall_closes_ray_and_serve_to_the_users_of_the_host[h2]",
    ),
    breakage(
        "root runs a Ray of its own",
        "h2",
        f"bash -c 'exec -a ray::Stray sleep 300' >/dev/null 2>&1 </dev/null & echo $! >{STRAY}; sleep 0.5",
        f"kill $(cat {STRAY}); rm {STRAY}",
        "test_processes_of_ray_run_as_the_service_user[h2]",
        "test_processes_of_ray_belong_to_a_unit[h2]",
    ),
    breakage(
        "the dashboard is open to the network",
        "h1",
        f"python3 -m http.server --bind $(hostname -I) 8265 >/dev/null 2>&1 </dev/null & echo $! >{STRAY}; sleep 1",
        f"kill $(cat {STRAY}); rm {STRAY}",
        "test_what_belongs_on_loopback_listens_there_only[h1]",
    ),
    breakage(
        "a host believes in another address than Ray",
        "h2",
        "cp -p /etc/rayrack/ray.env /root/ && sed -i '/^RAYRACK_NODE_IP=/s/[0-9.]\\+/192.0.2.1/' /etc/rayrack/ray.env",
        "cp -p /root/ray.env /etc/rayrack/ray.env && rm /root/ray.env",
        "test_host_is_a_living_node_of_ray[h2]",
        "test_ray_has_no_node_outside_the_inventory[h1]",
    ),
    breakage(
        "the runtime in use is one that no deploy made",
        "h2",
        "mkdir /srv/elsewhere && mount --bind $(readlink -e /opt/rayrack/current) /srv/elsewhere && "
        "readlink /opt/rayrack/current >/root/current && ln -sfn /srv/elsewhere /opt/rayrack/current",
        "ln -sfn $(cat /root/current) /opt/rayrack/current; umount /srv/elsewhere; rmdir /srv/elsewhere",
        "test_current_points_at_a_runtime[h2]",
    ),
    breakage(
        "the runtime lacks a pinned distribution",
        "h2",
        "mv /opt/rayrack/current/lib/python3*/site-packages/ray-*.dist-info /root/",
        "mv /root/ray-*.dist-info /opt/rayrack/current/lib/python3*/site-packages/",
        "test_versions_are_the_pinned_ones[h2]",
    ),
    breakage(
        "the gateway is stopped",
        "h1",
        "systemctl stop rayrack-gateway",
        "systemctl start rayrack-gateway; sleep 5",
        "test_unit_is_active[h1-rayrack-gateway]",
        "test_path_has_its_owner_and_mode[h1-/run/rayrack-gateway]",
        "test_gateway_speaks_tls_1_2_or_newer_only[h1]",
        *ASKED_OVER_TLS,
    ),
    breakage(
        "the TLS key is readable by all",
        "h1",
        f"chmod 644 {GATEWAY}/tls.pem.key",
        f"chmod 640 {GATEWAY}/tls.pem.key",
        "test_tls_key_is_readable_by_root_and_the_gateway_alone[h1]",
    ),
    breakage(
        "the keys' hashes are readable by all",
        "h1",
        # made.map is put right by the next key that is made, and the checks make some.
        f"chmod 644 {GATEWAY}/keys/declared.map",
        f"chmod 640 {GATEWAY}/keys/declared.map",
        f"test_path_has_its_owner_and_mode[h1-{GATEWAY}/keys/declared.map]",
    ),
    breakage(
        "a key was written into its file behind the gateway's back",
        "h1",
        f"cp -p {GATEWAY}/keys/made.map /root/ && "
        f'echo "$(printf %064d 0) by-hand|9999999999|0|*" >>{GATEWAY}/keys/made.map',
        f"cp -p /root/made.map {GATEWAY}/keys/made.map && rm /root/made.map && /opt/rayrack/bin/api_keys apply",
        "test_running_gateway_knows_the_keys_of_the_files[h1]",
    ),
    breakage(
        "the gateway speaks the TLS of old",
        "h1",
        f"{KEEP_CONFIG} && sed -i 's/ssl-min-ver TLSv1.2/ssl-min-ver TLSv1.0/; {OLD_CIPHERS}' {GATEWAY}/haproxy.cfg && "
        f"{RELOAD}",
        f"cp -p /root/haproxy.cfg {GATEWAY}/haproxy.cfg && rm /root/haproxy.cfg && {RELOAD}",
        "test_gateway_speaks_tls_1_2_or_newer_only[h1]",
    ),
    breakage(
        "the gateway takes whoever comes",
        "h1",
        f"{KEEP_CONFIG} && sed -i '/invalid_api_key/d' {GATEWAY}/haproxy.cfg && {RELOAD}",
        f"cp -p /root/haproxy.cfg {GATEWAY}/haproxy.cfg && rm /root/haproxy.cfg && {RELOAD}",
        "test_gateway_is_closed_to_those_without_a_key[h1-no key]",
        "test_gateway_is_closed_to_those_without_a_key[h1-wrong key]",
        "test_clients_get_in_from_the_desk[h1]",
    ),
    breakage(
        "the certificate ends tomorrow",
        "h1",
        f"{NEW_PAIR} -days 1 && cat /root/new.pem >{GATEWAY}/tls.pem && cat /root/new.key >{GATEWAY}/tls.pem.key && "
        f"{RELOAD}",
        f"{OLD_PAIR} && {RELOAD}",
        "test_certificate_does_not_end_soon[h1]",
    ),
    breakage(
        "the gateway shows another certificate than its file",
        "h1",
        f"{NEW_PAIR} -days 9 && cat /root/new.pem >{GATEWAY}/tls.pem",
        OLD_PAIR,
        *ASKED_OVER_TLS,
    ),
    breakage(
        "a model is stopped",
        "h1",
        "systemctl stop rayrack-model@tiny-b; sleep 5",
        "systemctl start rayrack-model@tiny-b; sleep 5",
        "test_unit_is_active[h1-rayrack-model@tiny-b]",
        "test_model_is_listed[h1-tiny-b]",
        "test_model_answers[h1-tiny-b]",
    ),
)


def outcomes(rack: DeployedRack, report: Path, *arguments: str) -> dict[str, bool]:
    """Run all checks as an operator does, and tell of each whether it was green."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests/hosts",
        "--inventory",
        rack.inventory,
        f"--junitxml={report}",
        "-q",
    ]
    run = subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        env=rack.lab.environment,
        capture_output=True,
        text=True,
        timeout=CHECKS_LIMIT_S,
        check=False,
    )
    assert run.returncode in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED), run.stdout + run.stderr
    cases = ElementTree.parse(report).getroot().iter("testcase")
    return {case.attrib["name"]: case.find("failure") is None and case.find("error") is None for case in cases}


def red(rack: DeployedRack, report: Path, *arguments: str) -> set[str]:
    """The checks that fail."""
    return {name for name, green in outcomes(rack, report, *arguments).items() if not green}


@contextmanager
def broken(rack: DeployedRack, breakage: Breakage) -> Iterator[None]:
    try:
        rack.lab.ssh(breakage.host, breakage.broken_by)
        yield
    finally:
        rack.lab.ssh(breakage.host, breakage.repaired_by, timeout_s=REPAIR_LIMIT_S)


@pytest.mark.destructive
def test_every_check_is_green_on_a_healthy_rack(rack: DeployedRack, tmp_path: Path) -> None:
    assert red(rack, tmp_path / "report.xml") == set()


@pytest.mark.destructive
@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.what)
def test_only_the_right_checks_turn_red_when(rack: DeployedRack, tmp_path: Path, breakage: Breakage) -> None:
    with broken(rack, breakage):
        assert red(rack, tmp_path / "report.xml") == breakage.red


@pytest.mark.destructive
def test_a_model_that_is_not_in_the_list_turns_its_check_red(rack: DeployedRack, tmp_path: Path) -> None:
    listed = (ROOT / "inventories/models/lab.yaml").read_text()
    shorter = tmp_path / "models.yaml"
    shorter.write_text(listed[: listed.index("  - model_id: tiny-embed")])
    assert red(rack, tmp_path / "report.xml", "--data", f"models_file={shorter}") == {
        "test_no_model_is_served_that_is_not_in_the_list[h1]"
    }


@pytest.mark.destructive
def test_every_check_is_green_again_after_the_repairs(rack: DeployedRack, tmp_path: Path) -> None:
    assert red(rack, tmp_path / "report.xml") == set()


@pytest.mark.long
@pytest.mark.destructive
def test_a_worker_that_is_cut_off_turns_its_own_checks_red_and_soon(rack: DeployedRack, tmp_path: Path) -> None:
    rack.lab.cut(rack.worker)
    try:
        seen = outcomes(rack, tmp_path / "report.xml")
    finally:
        rack.lab.heal(rack.worker)
        wait_until(lambda: not red(rack, tmp_path / "after.xml"), "every check is green again", RECOVERY_LIMIT_S)
    assert not any(green for name, green in seen.items() if "[h2" in name)
    assert seen["test_unit_is_active[h1-rayrack-head]"]
    assert seen["test_gateway_answers[h1]"]
