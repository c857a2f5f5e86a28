import errno
import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import node_checks
import pytest
from node_checks import Refused

from tests.roles.ray_cluster.host.test_node_config import node

FATAL = (
    "[2026-11-21 18:41:03,816 C 1096 1096] (raylet) node_manager.cc:3588:  An unexpected system state has occurred. "
    "Check failed: status.has_value() Timed out waiting for file /tmp/ray/session_x/dashboard_agent_listen_port_ee\n"
    "*** StackTrace Information ***\n"
)
UNAVAILABLE = (
    "[2026-11-21 19:19:50,475 I 1437 1437] (raylet) ray_syncer.h:243: Failed to read a message from node: 00\n"
    "[2026-11-21 19:19:51,439 W 1437 1437] (raylet) retryable_grpc_client.cc:85: GCS has been unavailable for more "
    "than 60 seconds\n"
)
NEW_CLUSTER = (
    "[2026-11-21 19:17:10,683 C 1003 1003] (raylet) node_manager.cc:524: GCS returned an authentication error. "
    "Local cluster ID: 6e33\n"
)
EXITED = """\
2026-11-21 19:01:14,713	ERR scripts.py:1307 -- Some Ray subprocesses exited unexpectedly:
2026-11-21 19:01:14,713	ERR scripts.py:87 -- raylet [exit code=-9]
2026-11-21 19:01:14,714	ERR scripts.py:115 -- ----- BEGIN raylet.out tail (exit code(s)=-9 (signal 9)) -----
[2026-11-21 19:00:11,384 I 344 388] (raylet) agent_manager.cc:83: Agent process exited, exit code 0.
"""
TRACEBACK = """\
Traceback (most recent call last):
  File "node.py", line 440, in __init__
    raise Exception(
Exception: The current node timed out during startup.
"""
# man 5 proc: sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0B00540A:18EB 0C00540A:C350 01 00000000:00000000 00:00000000 00000000   998        0 4711 1 0000 20 4 30 10 -1
   1: 00000000:18EB 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 4712 1 0000 100 0 0 10 0
"""


@contextmanager
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# --- before a start


def check_temp_dir(path: Path) -> None:
    """As on a host, where a deploy gives the directory to root; who runs the tests stands for root here."""
    node_checks.check_temp_dir(path, owner=path.lstat().st_uid)


@pytest.fixture
def temp_dir(tmp_path: Path) -> Path:
    """A directory as a deploy makes it."""
    path = tmp_path / "tmp_ray"
    path.mkdir()
    os.chown(path, -1, os.getgid())
    path.chmod(0o770)
    return path


def test_a_missing_temp_dir_is_one_line(tmp_path: Path) -> None:
    expected = (
        f"^ray_temp_dir {tmp_path}/ray: No such file or directory: systemd-tmpfiles --create .* makes it as it must"
    )
    with pytest.raises(Refused, match=expected):
        node_checks.check_temp_dir(tmp_path / "ray")


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o700], ids=oct)
def test_a_temp_dir_that_others_may_enter_or_the_group_may_not_is_refused(temp_dir: Path, mode: int) -> None:
    temp_dir.chmod(mode)
    with pytest.raises(Refused, match=f"with mode {mode:04o}, which Ray could open to all on this host, or has: "):
        check_temp_dir(temp_dir)


def test_a_temp_dir_that_belongs_to_the_service_itself_is_refused_as_ray_would_open_it(
    temp_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Refused, match="which Ray could open to all on this host, or has: systemd-tmpfiles"):
        node_checks.check_temp_dir(temp_dir, owner=os.getuid() + 1)


def test_a_temp_dir_of_root_s_that_no_deploy_has_made_is_refused(
    temp_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getgid", lambda: 65534)
    with pytest.raises(Refused, match=r"belongs to .*, not to .*: remove it, or set ray_temp_dir"):
        check_temp_dir(temp_dir)


def test_a_link_is_no_temp_dir(tmp_path: Path) -> None:
    (tmp_path / "ray").symlink_to("/usr")
    with pytest.raises(Refused, match="is not a directory: remove it, or set ray_temp_dir"):
        node_checks.check_temp_dir(tmp_path / "ray")


def test_somebody_else_s_temp_dir_is_refused_with_both_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 65534)
    owner = node_checks._user(tmp_path.stat().st_uid)
    with pytest.raises(Refused, match=f"belongs to {owner}, not to nobody"):
        node_checks.check_temp_dir(tmp_path, owner=tmp_path.stat().st_uid + 1)


def test_a_temp_dir_on_a_disk_that_is_full_is_refused(temp_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_temp_dir(temp_dir)
    monkeypatch.setattr(node_checks, "START_MIB", 2**50)
    with pytest.raises(Refused, match=rf"^ray_temp_dir {temp_dir}: \d+ MiB and \d+ inodes free, Ray needs {2**50} MiB"):
        check_temp_dir(temp_dir)


def test_a_temp_dir_below_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Refused, match="file/ray: Not a directory: systemd-tmpfiles --create "):
        node_checks.check_temp_dir(tmp_path / "file" / "ray")


def test_a_taken_port_is_named_with_its_setting_and_its_process() -> None:
    with listening() as port, pytest.raises(Refused) as refused:
        node_checks.check_ports(node(role="worker", metrics_port=port))
    command = Path("/proc/self/comm").read_text().strip()
    assert f"metrics_port {port} is taken by {command} (pid {os.getpid()})" in str(refused.value)


def test_a_closed_connection_does_not_hold_its_port() -> None:
    with listening() as port:
        client = socket.create_connection(("127.0.0.1", port))
    client.close()
    assert node_checks.in_the_way(port) is None


def test_a_port_that_is_root_s_is_not_said_to_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    class OfAnOrdinaryUser(socket.socket):
        def bind(self, _address: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", OfAnOrdinaryUser)
    assert node_checks.in_the_way(80) == "cannot be listened on (Permission denied)"


def test_a_port_s_holder_is_the_one_that_listens_not_one_that_is_connected() -> None:
    assert node_checks.listener(TCP, 6379) == (1001, 4712)
    assert node_checks.listener(TCP, 6380) is None


@pytest.mark.parametrize(
    ("cgroups", "group"),
    [
        ("0::/system.slice/rayrack-head.service\n", "/system.slice/rayrack-head.service"),
        ("4:memory:/lab\n1:name=systemd:/system.slice/a.service\n0::/lab\n", "/system.slice/a.service"),
        ("4:memory:/system.slice/a.service\n0::/user.slice\n", "/user.slice"),
        ("", ""),
    ],
)
def test_a_process_belongs_to_the_control_group_systemd_has_put_it_in(cgroups: str, group: str) -> None:
    assert node_checks.control_group(cgroups) == group


def test_a_program_that_systemd_has_not_started_reaps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []
    monkeypatch.setattr(node_checks, "signal_process", lambda pid, _number: killed.append(pid))
    node_checks.reap_leftovers("rayrack-head.service")
    assert killed == []


# --- while it runs


class Answers(http.server.BaseHTTPRequestHandler):
    """One answer to everything."""

    status, body = 200, "success"

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def endpoint(status: int = 200, body: str = "success") -> Iterator[int]:
    handler = type("Set", (Answers,), {"status": status, "body": body})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_a_node_whose_endpoints_answer_is_well() -> None:
    with endpoint() as port:
        assert node_checks.problem(node(dashboard_agent_port=port, dashboard_port=port)) is None


def test_a_worker_is_not_asked_for_a_gcs() -> None:
    with endpoint() as port:
        worker = node(role="worker", dashboard_agent_port=port, dashboard_port=1)
        assert node_checks.problem(worker) is None


def test_an_endpoint_nobody_serves_is_a_problem_with_its_address() -> None:
    problem = node_checks.problem(node(dashboard_agent_port=1))
    assert problem == "the raylet (port 1, /api/local_raylet_healthz): [Errno 111] Connection refused"


def test_an_unwell_answer_is_shown() -> None:
    with endpoint() as well, endpoint(503, "Timed out while waiting for GCS") as unwell:
        problem = node_checks.problem(node(dashboard_agent_port=well, dashboard_port=unwell))
    assert problem == f"the GCS (port {unwell}, /api/gcs_healthz): 503 Timed out while waiting for GCS"


def test_a_proxy_in_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with endpoint() as port:
        assert node_checks.problem(node(role="worker", dashboard_agent_port=port)) is None


def test_a_head_has_started_only_when_it_takes_serve_applications() -> None:
    with endpoint() as port:
        well = node(dashboard_agent_port=port, dashboard_port=port)
        assert node_checks.start_problem(well, "token") is None
    with endpoint() as port, endpoint(500, "no") as serve:
        head = node(dashboard_agent_port=port, dashboard_port=serve)
        assert node_checks.start_problem(head, "token") is not None


# --- Ray's last words


def test_a_fatal_line_of_the_raylet_is_the_reason() -> None:
    assert node_checks.last_words(TRACEBACK, FATAL) == (
        "raylet: status.has_value() Timed out waiting for file /tmp/ray/session_x/dashboard_agent_listen_port_ee"
    )


def test_a_fatal_line_without_a_check_is_given_whole() -> None:
    assert node_checks.last_words("", NEW_CLUSTER) == (
        "raylet: GCS returned an authentication error. Local cluster ID: 6e33"
    )


def test_a_killed_process_is_named_with_its_signal() -> None:
    assert node_checks.last_words(EXITED, UNAVAILABLE) == "raylet was killed by SIGKILL"


def test_a_raylet_that_gave_up_by_itself_is_explained_by_its_last_warning() -> None:
    gave_up = EXITED.replace("[exit code=-9]", "[exit code=1]")
    assert node_checks.last_words(gave_up, UNAVAILABLE) == (
        "raylet exited with 1 (GCS has been unavailable for more than 60 seconds)"
    )


def test_a_raylet_that_was_asked_to_end_is_not_reported_by_ray_start() -> None:
    asked = (
        "[2026-11-21 18:41:03,816 I 1096 1096] (raylet) main.cc:1187: received SIGTERM. Existing local drain request"
    )
    assert node_checks.last_words("", asked) == "raylet was ended by SIGTERM"
    assert node_checks.last_words(EXITED, asked) == "raylet was killed by SIGKILL"


def test_an_exception_of_ray_start_is_the_reason_when_nothing_else_is() -> None:
    assert node_checks.last_words(TRACEBACK, "") == "Exception: The current node timed out during startup."


def test_no_last_words_are_no_reason() -> None:
    assert node_checks.last_words("", "") == ""


def test_a_process_s_children_are_known_by_name() -> None:
    with subprocess.Popen([sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '60'])"]) as parent:
        while not (found := node_checks.children(parent.pid)):
            pass
        while "sleep" not in found:
            found = node_checks.children(parent.pid)
        node_checks.signal_process(found["sleep"], node_checks.signal.SIGKILL)


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_checks, "LOG_TAIL_BYTES", 4)
    (tmp_path / "raylet.out").write_text("begin end")
    assert node_checks.end_of(tmp_path / "raylet.out") == " end"
    assert node_checks.end_of(tmp_path / "absent") == ""


@pytest.mark.parametrize(("command", "killed"), [("kill -9 $$", True), ("kill -6 $$", False), ("exit 9", False)])
def test_what_was_killed_is_known_from_the_kernel_until_somebody_asks_how_it_ended(command: str, killed: bool) -> None:
    process = subprocess.Popen(["/bin/sh", "-c", command])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert node_checks.is_killed(process.pid) is killed
    process.wait()
    assert not node_checks.is_killed(process.pid)


def test_a_process_that_lives_was_not_killed() -> None:
    assert not node_checks.is_killed(os.getpid())
