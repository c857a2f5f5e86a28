"""What ray_node asks of its host and of Ray: may a node start here, is it well, why did it die.

Runs on the host: standard library only.
"""

import contextlib
import errno
import http.client
import json
import os
import pwd
import re
import signal
import socket
import stat
import time
from pathlib import Path
from typing import Any

from node_config import Node, own_ports

PROBE_TIMEOUT_S = 5
LEFTOVER_LIMIT_S = 30
# What a start writes, and some. On a full disk the GCS just ends, and ray start tells nothing of the disk.
START_MIB = 64
TEMP_DIR_MODE = 0o770
TMPFILES = "/etc/tmpfiles.d/rayrack-storage.conf"
LOG_TAIL_BYTES = 256 * 1024
DASHBOARD = "/ray/dashboard/dashboard.py\0"  # the dashboard's process is called python, like others
NEW_CLUSTER = "WrongClusterID"  # the GCS was restarted, and this node's raylet has not noticed yet
END_OF_REPORT = "Remaining processes will be killed"  # `ray start --block` has told how its processes have ended
RAYLET_GOT_SIGTERM = "received SIGTERM"
LISTEN = "0A"  # the state column of /proc/net/tcp (include/net/tcp_states.h)


class Refused(Exception):
    """A node may not start on this host as it is; the message says why in one line."""


# --- before a start ---------------------------------------------------------------------------------------------


def check_temp_dir(path: Path, owner: int = 0) -> None:
    """Ray's directory must be the one that a deploy has made: /tmp is everybody's, and a guest could have been first.

    It belongs to root, and to us by its group. Ray gives its directory mode 0777 whenever a node or a worker starts
    (``Node._init_temp``), and goes on where that is denied: only to the owner it is not.
    """
    made = f"systemd-tmpfiles --create {TMPFILES} makes it as it must be"
    try:
        state = path.lstat()
    except OSError as error:
        raise Refused(f"ray_temp_dir {path}: {error.strerror}: {made}") from None
    if not stat.S_ISDIR(state.st_mode):
        raise Refused(f"ray_temp_dir {path} is not a directory: remove it, or set ray_temp_dir to another path")
    if state.st_uid not in (owner, os.getuid()) or (state.st_uid == owner and state.st_gid != os.getgid()):
        raise Refused(
            f"ray_temp_dir {path} belongs to {_user(state.st_uid)}, not to {_user(os.getuid())}: "
            "remove it, or set ray_temp_dir to another path"
        )
    mode = stat.S_IMODE(state.st_mode)
    if state.st_uid != owner or mode != TEMP_DIR_MODE:
        raise Refused(
            f"ray_temp_dir {path} is {_user(state.st_uid)}'s with mode {mode:04o}, which Ray could open to all on "
            f"this host, or has: {made}"
        )
    file_system = os.statvfs(path)
    free_mib = file_system.f_bavail * file_system.f_frsize // 2**20
    if free_mib < START_MIB or (file_system.f_files and not file_system.f_favail):
        raise Refused(
            f"ray_temp_dir {path}: {free_mib} MiB and {file_system.f_favail} inodes free, Ray needs {START_MIB} MiB to "
            "start: make room on its file system; the node then starts by itself"
        )


def check_ports(node: Node) -> None:
    """Every port of the node must be free. Ray itself would silently take the next one, or come up half deaf."""
    found = [f"{name} {port} {why}" for port, name in own_ports(node).items() if (why := in_the_way(port))]
    if found:
        raise Refused("; ".join(found) + ": stop that process, or set another port")


def in_the_way(port: int) -> str | None:
    """Why nothing of ours can listen on a port, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections of the last run that are still in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            return f"is taken by {holder(port)}" if taken else f"cannot be listened on ({error.strerror})"
    return None


def holder(port: int) -> str:
    """Who listens on a port, as well as an ordinary user may know it: the process, else its user."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        uid_and_inode = listener(Path(table).read_text(), port)
        if uid_and_inode:
            uid, inode = uid_and_inode
            return _process_with_socket(inode) or f"a process of user {_user(uid)}"
    return "a connection of another process"


def listener(table: str, port: int) -> tuple[int, int] | None:
    """The user id and inode of the listening socket on ``port`` in the text of /proc/net/tcp or tcp6."""
    for line in table.splitlines()[1:]:
        columns = line.split()
        if columns[3] == LISTEN and int(columns[1].rpartition(":")[2], 16) == port:
            return int(columns[7]), int(columns[9])
    return None


def reap_leftovers(unit: str) -> None:
    """Kill what an earlier run left in this unit's control group: an engine killed hard can leave its EngineCore
    behind, holding the GPU's memory. Only there: whatever Ray somebody else runs on this host is not ours."""
    own = control_group(_read(os.getpid(), "cgroup"))
    if not own.endswith(f"/{unit}"):
        return  # not run by systemd
    deadline = time.monotonic() + LEFTOVER_LIMIT_S
    while leftovers := [
        pid for pid in _processes() if pid != os.getpid() and control_group(_read(pid, "cgroup")) == own
    ]:
        for pid in leftovers:
            signal_process(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            names = ", ".join(f"{_read(pid, 'comm').strip()} (pid {pid})" for pid in leftovers)
            raise Refused(f"left by an earlier run and not dying within {LEFTOVER_LIMIT_S} s: {names}; reboot the host")
        time.sleep(0.2)


def control_group(cgroups: str) -> str:
    """The path of systemd's own hierarchy in the text of /proc/PID/cgroup: its v1 hierarchy, else v2 (``0::``).

    Only the whole path tells whose a process is: the same unit can run in a container on this host.
    """
    hierarchies = dict(line.split(":", 2)[1:] for line in cgroups.splitlines())
    return hierarchies.get("name=systemd", hierarchies.get("", ""))


# --- while it runs ----------------------------------------------------------------------------------------------


def problem(node: Node) -> str | None:
    """What is wrong with the running node, or None. These endpoints need no token, and on loopback no network."""
    probes = {"the raylet": (node.dashboard_agent_port, "/api/local_raylet_healthz")}
    if node.role == "head":
        probes["the GCS"] = (node.dashboard_port, "/api/gcs_healthz")
    for what, (port, path) in probes.items():
        answer = _get(port, path, token=None)
        if not answer.startswith("200 "):
            return f"{what} (port {port}, {path}): {answer[:160]}"
    return None


def start_problem(node: Node, token: str) -> str | None:
    """What a starting node still lacks. A head must also take Serve applications over REST: models come right after
    it. The first such question takes seconds, as the dashboard connects to its own cluster then."""
    unwell = problem(node)
    if unwell or node.role == "worker":
        return unwell
    path = "/api/serve/applications/"
    answer = _get(node.dashboard_port, path, token)
    return None if answer.startswith("200 ") else f"Serve's REST API ({path}): {answer[:160]}"


def cluster(node: Node, token: str) -> dict[str, Any]:
    """What the dashboard knows of the cluster: ``nodes`` alive, and ``usage`` as resource -> [used, total]."""
    nodes = _get_json(node, "/api/v0/nodes", token)["data"]["result"]["result"]
    report = _get_json(node, "/api/cluster_status", token)["data"]["clusterStatus"]["loadMetricsReport"]
    return {"nodes": sum(1 for each in nodes if each["state"] == "ALIVE"), "usage": report["usage"]}


def can_connect(host: str, port: int) -> str | None:
    """None when something accepts connections there, else why not."""
    try:
        socket.create_connection((host, port), timeout=PROBE_TIMEOUT_S).close()
    except OSError as error:
        return str(error.strerror or error)
    return None


def _get(port: int, path: str, token: str | None) -> str:
    """``STATUS BODY``, or why there was no answer. http.client knows no proxies, whatever the environment says."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        response = connection.getresponse()
        return f"{response.status} {response.read().decode(errors='replace').strip()}"
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()


def _get_json(node: Node, path: str, token: str) -> Any:
    return json.loads(_get(node.dashboard_port, path, token).removeprefix("200 "))


# --- Ray's processes and their last words -----------------------------------------------------------------------


def children(parent: int) -> dict[str, int]:
    """The processes ``ray start`` has started, by name: ``gcs_server``, ``raylet``, ``dashboard`` and more."""
    pids = [int(pid) for pid in _read(parent, f"task/{parent}/children").split()]
    return {"dashboard" if DASHBOARD in _read(pid, "cmdline") else _read(pid, "comm").strip(): pid for pid in pids}


def log_files(raylet: int) -> list[Path]:
    """The files a raylet logs to, from its command line. A worker that starts anew in one session counts them up."""
    arguments = dict(each.partition("=")[::2] for each in _read(raylet, "cmdline").split("\0"))
    return [Path(arguments[name]) for name in ("--stdout_filepath", "--stderr_filepath") if name in arguments]


def end_of(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - LOG_TAIL_BYTES))
            return stream.read().decode(errors="replace")
    except OSError:
        return ""


def last_words(output: str, raylet_log: str) -> str:
    """Why Ray went down, in one line, from the end of ``ray start``'s output and of the raylet's log; empty: unknown.

    A line of Ray's C++ looks like ``[2026-11-21 18:41:03,816 C 1096 1096] (raylet) file.cc:3588: text``, C for fatal,
    an exit seen by ``ray start --block`` like ``raylet [exit code=-9]``, and a Python traceback ends in its exception.
    """
    logged: list[tuple[str, str]] = re.findall(
        r"^\[[^]]* ([CEW]) \d+ \d+\] (?:\(\w+\) )?\S+:\d+: (.*)$", raylet_log, re.MULTILINE
    )
    fatal = [text for severity, text in logged if severity == "C"]
    if fatal:
        return "raylet: " + fatal[-1].rpartition("Check failed: ")[2].strip()[:400]
    exits: list[tuple[str, str]] = re.findall(r"(\w+) \[exit code=(-?\d+)\]", output)
    if exits:
        by_itself = logged and any(name == "raylet" and int(code) > 0 for name, code in exits)
        seen = ", ".join(f"{name} {_exit(int(code))}" for name, code in exits)
        return f"{seen} ({logged[-1][1].strip()[:300]})" if by_itself else seen
    if RAYLET_GOT_SIGTERM in raylet_log:
        return "raylet was ended by SIGTERM"
    exceptions: list[str] = re.findall(r"^(?:[\w.]*(?:Error|Exception)|Usage|Error): .*$", output, re.MULTILINE)
    return exceptions[-1][:400] if exceptions else ""


def is_killed(pid: int) -> bool:
    """Whether a process has ended by SIGKILL and its parent has not asked yet (exit_code in proc_pid_stat(5))."""
    state, *rest = _read(pid, "stat").rpartition(")")[2].split() or [""]
    return state == "Z" and int(rest[-1]) & 0x7F == signal.SIGKILL


def signal_process(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it may be quicker
        os.kill(pid, number)


def _exit(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208  (a name, not a path)


def _read(pid: int, name: str) -> str:
    """A file of /proc/PID, empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""


def _process_with_socket(inode: int) -> str | None:
    for pid in _processes():
        try:
            descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
            if any(os.readlink(each) == f"socket:[{inode}]" for each in descriptors):  # noqa: PTH115
                return f"{_read(pid, 'comm').strip()} (pid {pid})"
        except OSError:
            continue  # not ours to read, or gone
    return None


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
