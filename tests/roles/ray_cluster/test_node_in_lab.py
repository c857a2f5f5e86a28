"""Ray's nodes under real systemd, on a rack with models. Whatever a test breaks is whole again at its end."""

import time
from collections.abc import Iterator

import pytest

from tests.conftest import DeployedRack
from tests.lab.lab import wait_until
from tests.roles.exposure import THRESHOLD

HEAD, WORKER = "rayrack-head.service", "rayrack-worker.service"
BACK_S = 240
OVERRIDE = "/etc/rayrack/ray.override.env"


class Nodes:
    """The two node units, over SSH."""

    def __init__(self, rack: DeployedRack) -> None:
        self.lab, self.head, self.worker = rack.lab, rack.head, rack.worker

    def show(self, host: str, unit: str, name: str) -> str:
        return self.lab.read(host, f"systemctl show -P {name} {unit}")

    def restarts(self) -> int:
        return int(self.show(self.worker, WORKER, "NRestarts"))

    def on_worker(self, command: str, *, check: bool = True) -> str:
        return self.lab.ssh(self.worker, command, timeout_s=400, check=check).stdout

    def reason(self) -> str:
        """The last line of reason that the worker gave."""
        return self.on_worker(f"journalctl -u {WORKER} -o cat --no-pager | grep '^failed: ' | tail -n 1").strip()

    def wait_until_whole(self) -> None:
        def whole() -> bool:
            return self.show(self.head, HEAD, "StatusText").startswith("head, 2 nodes alive")

        wait_until(whole, "two nodes in the cluster", BACK_S, every_s=2)

    def wait_for_a_restart_after(self, restarts: int) -> None:
        def restarted() -> bool:
            return self.restarts() > restarts and self.show(self.worker, WORKER, "ActiveState") == "active"

        wait_until(restarted, "the worker to be started again", BACK_S, every_s=1)


@pytest.fixture
def nodes(rack: DeployedRack) -> Iterator[Nodes]:
    nodes = Nodes(rack)
    nodes.wait_until_whole()
    yield nodes
    rack.lab.ssh(rack.worker, f"rm -f {OVERRIDE}")
    if nodes.show(rack.worker, WORKER, "ActiveState") != "active":
        rack.lab.ssh(rack.worker, f"systemctl restart {WORKER}", timeout_s=400)
    nodes.wait_until_whole()


def test_systemd_finds_nothing_to_say_about_the_units(nodes: Nodes) -> None:
    for host, unit in ((nodes.head, HEAD), (nodes.worker, WORKER)):
        verified = nodes.lab.ssh(host, f"systemd-analyze verify {unit} rayrack.target 2>&1", check=False)
        assert (verified.returncode, verified.stdout) == (0, "")


def test_the_dashboard_is_on_loopback_and_asks_for_the_token(nodes: Nodes) -> None:
    assert nodes.lab.read(nodes.head, "ss -ltnH 'sport = :8265' | awk '{print $4}'") == "127.0.0.1:8265"
    ask = "curl -s -o /dev/null -w '%{http_code}' 127.0.0.1:8265/api/v0/nodes"
    assert nodes.lab.read(nodes.head, ask) == "401"
    assert (
        nodes.lab.read(nodes.head, f'{ask} -H "Authorization: Bearer $(cat /etc/rayrack/secrets/ray.token)"') == "200"
    )


def test_everything_of_ray_runs_as_the_service_user(nodes: Nodes) -> None:
    for host in (nodes.head, nodes.worker):
        assert nodes.lab.read(host, "ps -C raylet,gcs_server -o user= | sort -u") == "rayrack"


def test_ray_s_directory_stays_closed_to_others(nodes: Nodes) -> None:
    for host in (nodes.head, nodes.worker):
        assert nodes.lab.read(host, "stat -c '%a %U %G' /tmp/ray") == "770 root rayrack"


def test_ray_s_directory_is_not_open_for_a_moment_while_workers_start(nodes: Nodes) -> None:
    # Each start of a worker gives the directory mode 0777, or tries to.
    watched = (
        "import os, time; end = time.time() + 40; seen = set()\n"
        "while time.time() < end: seen.add(oct(os.stat('/tmp/ray').st_mode & 0o7777)); time.sleep(0.0005)\n"
        "print(*seen)"
    )
    nodes.on_worker(f"systemctl restart --no-block {WORKER}")
    assert nodes.on_worker(f'python3 -c "{watched}"').strip() == "0o770"
    nodes.wait_until_whole()


def test_ray_s_directory_and_the_admin_socket_of_serve_s_haproxy_are_closed_to_other_users(nodes: Nodes) -> None:
    socket = nodes.lab.read(nodes.head, "find /run/rayrack/haproxy -type s -name admin.sock")
    assert socket, "Serve's HAProxy has no admin socket"
    for path in ("/tmp/ray", "/run/rayrack/haproxy", socket):
        denied = nodes.lab.ssh(nodes.head, f"su -s /bin/sh nobody -c 'ls {path}' 2>&1", check=False)
        assert (denied.returncode != 0, "Permission denied" in denied.stdout) == (True, True)


def test_systemd_measures_the_sandboxes_of_the_running_units(nodes: Nodes) -> None:
    for host, unit in ((nodes.head, HEAD), (nodes.worker, WORKER), (nodes.head, "rayrack-model@tiny-a.service")):
        measured = nodes.lab.ssh(host, f"systemd-analyze security --threshold={THRESHOLD} {unit}", check=False)
        assert measured.returncode == 0, measured.stdout


def test_an_engine_may_write_to_rayrack_s_directories_and_nowhere_else(nodes: Nodes) -> None:
    # As a process of the node's: in its mount namespace, as its user. Root would have rights of its own.
    def refused(path: str) -> bool:
        inside = (
            f"nsenter -t $(pgrep -x raylet) -m -- setpriv --reuid rayrack --regid rayrack --clear-groups touch {path}/x"
        )
        return nodes.lab.ssh(nodes.worker, f"{inside} && rm -f {path}/x", check=False).returncode != 0

    for path in ("/tmp", "/tmp/ray", "/dev/shm", "/var/lib/rayrack/models", "/var/cache/rayrack", "/run/rayrack"):
        assert not refused(path), path
    nodes.on_worker("install -d -m 0777 /opt/open-to-all")
    try:
        assert refused("/opt/open-to-all")
    finally:
        nodes.on_worker("rm -rf /opt/open-to-all")


def test_a_node_sees_the_processes_of_no_other_user(nodes: Nodes) -> None:
    inside = "nsenter -t $(pgrep -x raylet) -m -- setpriv --reuid rayrack --regid rayrack --clear-groups ls -d /proc/1"
    assert nodes.lab.ssh(nodes.worker, inside, check=False).returncode != 0


def test_a_node_runs_with_what_the_deploy_has_put_there(nodes: Nodes) -> None:
    assert nodes.lab.read(nodes.head, "/opt/rayrack/bin/ray_node outdated head") == ""
    assert nodes.lab.read(nodes.worker, "/opt/rayrack/bin/ray_node outdated worker") == ""


@pytest.mark.destructive
@pytest.mark.parametrize(
    ("signal", "reason"),
    [("KILL", "raylet was killed by SIGKILL"), ("TERM", "raylet was ended by SIGTERM")],
    ids=["killed", "terminated"],
)
def test_a_worker_without_its_raylet_says_why_and_is_back(nodes: Nodes, signal: str, reason: str) -> None:
    # After SIGTERM `ray start --block` would stay, with a dead node inside.
    restarts = nodes.restarts()
    nodes.on_worker(f"pkill -{signal} -x raylet")
    nodes.wait_for_a_restart_after(restarts)
    assert reason in nodes.reason()


@pytest.mark.destructive
def test_a_stop_is_quick_and_leaves_nothing(nodes: Nodes) -> None:
    nodes.on_worker("su -s /bin/sh rayrack -c 'echo > /dev/shm/psm_left_behind'")
    began = time.monotonic()
    nodes.on_worker(f"systemctl stop {WORKER}")
    assert time.monotonic() - began < 15
    assert nodes.show(nodes.worker, WORKER, "Result") == "success"
    assert nodes.on_worker("ps -u rayrack -o pid=", check=False) == ""
    assert nodes.on_worker("ls /dev/shm") == ""


@pytest.mark.destructive
def test_a_taken_port_is_named_and_waited_for(nodes: Nodes) -> None:
    nodes.on_worker(f"systemctl stop {WORKER}")
    squatter = "import socket, time; server = socket.create_server((str(), 6380)); time.sleep(300)"
    nodes.on_worker(f"systemd-run --quiet --unit=squatter python3 -c '{squatter}'; sleep 1")
    try:
        assert nodes.lab.ssh(nodes.worker, f"systemctl start {WORKER}", timeout_s=120, check=False).returncode != 0
        expected = (
            "failed: node_manager_port 6380 is taken by a process of user root: stop that process, or set another port"
        )
        assert nodes.reason() == expected
        assert nodes.show(nodes.worker, WORKER, "StatusText") == expected
    finally:
        nodes.on_worker("systemctl stop squatter")
    wait_until(lambda: nodes.show(nodes.worker, WORKER, "ActiveState") == "active", "the worker by itself", BACK_S)


@pytest.mark.destructive
def test_a_temp_dir_of_somebody_else_is_refused(nodes: Nodes) -> None:
    nodes.on_worker(f"systemctl stop {WORKER}; mv /tmp/ray /tmp/ray.ours; mkdir /tmp/ray")
    try:
        assert nodes.lab.ssh(nodes.worker, f"systemctl start {WORKER}", timeout_s=120, check=False).returncode != 0
        assert nodes.reason().startswith("failed: ray_temp_dir /tmp/ray belongs to root, not to rayrack: remove it")
    finally:
        nodes.on_worker("rmdir /tmp/ray; mv /tmp/ray.ours /tmp/ray")


@pytest.mark.destructive
def test_a_temp_dir_that_was_removed_is_made_again_as_a_deploy_makes_it(nodes: Nodes) -> None:
    nodes.on_worker(f"systemctl stop {WORKER}; rm -rf /tmp/ray; systemctl start {WORKER}")
    assert nodes.lab.read(nodes.worker, "stat -c '%a %U %G' /tmp/ray") == "770 root rayrack"


@pytest.mark.destructive
def test_a_temp_dir_that_ray_could_open_is_refused_with_the_command_that_mends_it(nodes: Nodes) -> None:
    nodes.on_worker(f"systemctl stop {WORKER}; chown rayrack: /tmp/ray")
    nodes.on_worker(f"systemctl start --no-block {WORKER}")
    wait_until(lambda: "which Ray could open to all on this host" in nodes.reason(), "the refusal", BACK_S)
    command = nodes.reason().rpartition(": ")[2].removesuffix(" makes it as it must be")
    assert command == "systemd-tmpfiles --create /etc/tmpfiles.d/rayrack-storage.conf"
    nodes.on_worker(command)
    wait_until(lambda: nodes.show(nodes.worker, WORKER, "ActiveState") == "active", "the worker by itself", BACK_S)


@pytest.mark.destructive
def test_a_ray_address_in_the_environment_changes_nothing(nodes: Nodes) -> None:
    nodes.on_worker(f"echo RAY_ADDRESS=203.0.113.9:6379 > {OVERRIDE}; systemctl restart {WORKER}")
    environment = nodes.on_worker("tr '\\0' '\\n' < /proc/$(pgrep -x raylet)/environ")
    assert "RAY_AUTH_MODE=token" in environment
    assert "RAY_ADDRESS" not in environment
    nodes.wait_until_whole()


@pytest.mark.destructive
@pytest.mark.long
def test_a_worker_that_was_cut_off_joins_again(nodes: Nodes) -> None:
    restarts = nodes.restarts()
    nodes.lab.cut(nodes.worker)
    try:
        wait_until(
            lambda: nodes.show(nodes.head, HEAD, "StatusText").startswith("head, 1 node alive"), "a node lost", BACK_S
        )
    finally:
        nodes.lab.heal(nodes.worker)
    nodes.wait_until_whole()
    assert nodes.restarts() > restarts


@pytest.mark.destructive
@pytest.mark.long
def test_a_worker_joins_a_head_that_was_killed_and_is_back(nodes: Nodes) -> None:
    restarts = nodes.restarts()
    nodes.lab.ssh(nodes.head, "pkill -KILL -x gcs_server")
    nodes.wait_for_a_restart_after(restarts)
    nodes.wait_until_whole()
    assert "gcs_server was killed by SIGKILL" in nodes.lab.read(nodes.head, f"journalctl -u {HEAD} -o cat --no-pager")


@pytest.mark.destructive
@pytest.mark.long
def test_a_changed_setting_restarts_the_host_it_is_for_and_no_other(nodes: Nodes) -> None:
    head, worker = nodes.show(nodes.head, HEAD, "InvocationID"), nodes.show(nodes.worker, WORKER, "InvocationID")
    only_worker = ("deploy/20_ray.py", "-y", "--limit", nodes.worker)
    try:
        nodes.lab.pyinfra(*only_worker, "--data", "num_cpus=7")
        nodes.wait_until_whole()
        assert nodes.show(nodes.worker, WORKER, "InvocationID") != worker
        assert "RAYRACK_NUM_CPUS='7'" in nodes.on_worker("cat /etc/rayrack/ray.env")
    finally:
        nodes.lab.pyinfra(*only_worker)
    assert nodes.show(nodes.head, HEAD, "InvocationID") == head
