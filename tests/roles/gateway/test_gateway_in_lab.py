"""The gateway's unit, user and programs on a real host: a blank one, with the deploy files that need no runtime."""

from collections.abc import Iterator

import pytest

from tests.conftest import TEST_LAB
from tests.lab.lab import Lab, Result, Tell
from tests.lab.test_deploy_again import changes

pytestmark = [pytest.mark.lab, pytest.mark.long]

FILES = ("deploy/00_preflight.py", "deploy/05_verdict.py", "deploy/10_host.py", "deploy/40_gateway.py")
GATEWAY = "/etc/rayrack/gateway"
MAIN_PID = "systemctl show -P MainPID rayrack-gateway"


def deploy(lab: Lab, *data: str, host: str = "h1") -> Result:
    arguments = [argument for each in data for argument in ("--data", each)]
    return lab.pyinfra(*FILES, "-y", "--limit", host, *arguments)


def make_key(lab: Lab, name: str) -> str:
    return lab.read("h1", f"/opt/rayrack/bin/api_keys make {name}")


def status(lab: Lab, key: str, *, host: str = "h1", port: int = 8000) -> str:
    """What a client on the host gets, which trusts the certificate of the host alone."""
    ask = f"curl -s --cacert {GATEWAY}/tls.pem -o /dev/null -w '%{{http_code}}'"
    ask += f" -H 'Authorization: Bearer {key}' https://{host}:{port}/v1/models"
    return lab.ssh(host, ask, check=False).stdout.strip()  # 000 where nobody answers, or not with that certificate


@pytest.fixture(scope="module")
def deployed(tell: Tell) -> Iterator[Lab]:
    TEST_LAB.down(keep_cache=True)
    try:
        TEST_LAB.up(2, tell)
        deploy(TEST_LAB)
        yield TEST_LAB
    finally:
        TEST_LAB.down(keep_cache=True)


def test_a_second_run_changes_nothing_also_with_keys_that_were_made_on_the_host(deployed: Lab) -> None:
    make_key(deployed, "kept")
    assert changes(deploy(deployed)) == set()
    assert "kept" in deployed.read("h1", "/opt/rayrack/bin/api_keys list")


def test_systemd_finds_the_unit_closed(deployed: Lab) -> None:
    deployed.ssh("h1", "systemd-analyze security --threshold=30 rayrack-gateway.service")
    verified = deployed.ssh("h1", "systemd-analyze verify --man=no rayrack-gateway.service 2>&1", check=False)
    assert (verified.returncode, verified.stdout) == (0, "")


def test_the_user_of_models_reads_no_key_and_reaches_no_socket(deployed: Lab) -> None:
    assert deployed.read("h1", "ps -o user:32= -C haproxy | sort -u") == "rayrack-gateway"
    for path in (f"{GATEWAY}/tls.pem.key", f"{GATEWAY}/keys/made.map", "/run/rayrack-gateway/master.sock"):
        refused = deployed.ssh("h1", f"runuser -u rayrack -- stat {path}", check=False)
        assert (refused.returncode, "Permission denied" in refused.stdout) == (1, True), path


def test_keys_come_and_go_and_a_reload_keeps_them(deployed: Lab) -> None:
    before = deployed.read("h1", MAIN_PID)
    key = make_key(deployed, "ci")
    assert status(deployed, key) == "200"
    deployed.ssh("h1", "systemctl reload rayrack-gateway")
    assert status(deployed, key) == "200"
    deployed.ssh("h1", "/opt/rayrack/bin/api_keys revoke ci")
    assert status(deployed, key) == "401"
    assert deployed.read("h1", MAIN_PID) == before


def test_a_certificate_that_is_not_loaded_yet_is_loaded_by_a_deploy_without_a_restart(deployed: Lab) -> None:
    before = deployed.read("h1", MAIN_PID)
    deployed.ssh(
        "h1", f"rm {GATEWAY}/tls.pem*; /opt/rayrack/bin/gateway_certificate ensure h1 {deployed.address('h1')}"
    )
    key = make_key(deployed, "tls")
    assert status(deployed, key) == "000", "the gateway shows its old one"
    assert changes(deploy(deployed)) == {"Gateway | The gateway runs this configuration"}
    assert (status(deployed, key), deployed.read("h1", MAIN_PID)) == ("200", before)
    assert changes(deploy(deployed)) == set()


def test_keys_that_only_a_file_has_are_told_to_the_gateway(deployed: Lab) -> None:
    deployed.ssh("h1", f"echo {'a' * 64} 'team-a|9999999999|0|*' >> {GATEWAY}/keys/made.map")
    assert changes(deploy(deployed)) == {"Gateway | The gateway runs this configuration"}
    assert changes(deploy(deployed)) == set()


def test_a_worker_runs_one_when_told_to_on_a_low_port_and_none_when_told_no_more(deployed: Lab) -> None:
    deploy(deployed, "gateway=true", "gateway_port=443", host="h2")
    assert f"server serve {deployed.address('h1')}:8100" in deployed.read("h2", f"cat {GATEWAY}/haproxy.cfg")
    assert status(deployed, "none", host="h2", port=443) == "401"
    assert changes(deploy(deployed, host="h2")) == {"Gateway | No gateway on this host"}
    assert deployed.read("h2", "systemctl show -P ActiveState rayrack-gateway") == "inactive"
    assert changes(deploy(deployed, host="h2")) == set()
