#!/usr/bin/python3 -EsB
"""Runs one Ray node under systemd: ``ray_node run`` is the main process of rayrack-head and rayrack-worker.

It starts ``ray start --block``, says READY=1 when the node is well, keeps STATUS= true and feeds the watchdog while it
stays so. A stop that systemd asked for ends with exit 0, anything else with one line of reason and exit 1.

``ray_node outdated head|worker`` prints which inputs of the node have changed since it was started (run it as root).

Runs on the host: standard library only.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from types import FrameType
from typing import NoReturn

import node_checks
import node_config
import systemd

START_LIMIT_S = 300  # from the first attempt to READY=1, waiting for the head included
UNWELL_LIMIT_S = 60  # a busy host answers late; a dead raylet or GCS is noticed at once, by its process
STOP_LIMIT_S = 10
WHY_LIMIT_S = 10  # `ray start` notices within a second that a process has ended, on a busy host within some
FAILED_STOP_LIMIT_S = 3  # with one of its processes gone, Ray's own way of stopping mostly waits in vain
CHECK_EVERY_S = 5
CLUSTER_EVERY_S = 10
SLOW_AGENT = "Timed out waiting for file"  # the raylet gives its agent 15 s, whatever the settings say (ray#65983)
PROCESSES = {"head": ("raylet", "gcs_server", "dashboard"), "worker": ("raylet",)}


class NodeDown(Exception):
    """The node is not, or no longer, running as it should; the message is the reason in one line."""


class Stop(BaseException):
    """systemd asked for a stop. Like KeyboardInterrupt no Exception, so that no handler of errors swallows it."""


class RayStart:
    """``ray start --block`` with everything it has started."""

    def __init__(self, node: node_config.Node, runtime: Path) -> None:
        self.process = subprocess.Popen(
            node_config.ray_start_command(node, runtime),
            env=node_config.ray_environment(os.environ, runtime),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.unit = node.unit
        self.watched = PROCESSES[node.role]
        self.started: dict[str, int] = {}  # the watched children: name -> pid
        self.exits = select.poll()
        self.names = {self._watch_exit(self.process.pid): "ray start"}
        self.raylet_logs: list[Path] = []
        self.output: deque[str] = deque(maxlen=500)  # the exit codes stand before 200 lines of a log
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def wait(self, seconds: float) -> None:
        """Sleep, but raise NodeDown as soon as one of the processes that make the node is gone."""
        self._look_for_children()
        for descriptor, _ in self.exits.poll(seconds * 1000):
            raise NodeDown(self._why(self.names[descriptor]))

    def end(self, limit_s: float) -> None:
        """Stop it all: Ray's own way first, in which a raylet takes leave of the GCS; then by force."""
        self.process.terminate()
        try:
            self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        node_checks.reap_leftovers(self.unit)

    def where_to_look(self) -> str:
        return f"; Ray's logs: {self.raylet_logs[0].parent}" if self.raylet_logs else ""

    def _look_for_children(self) -> None:
        if self.process.poll() is not None or len(self.started) == len(self.watched):
            return
        children = node_checks.children(self.process.pid)
        for name in self.watched:
            if name in children and name not in self.started:
                self.started[name] = children[name]
                self.names[self._watch_exit(children[name])] = name
        if not self.raylet_logs and "raylet" in self.started:
            self.raylet_logs = node_checks.log_files(self.started["raylet"])

    def _watch_exit(self, pid: int) -> int:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            raise NodeDown(f"a process of Ray (pid {pid}) has ended as soon as it was started") from None
        self.exits.register(descriptor, select.POLLIN)
        return descriptor

    def _why(self, name: str) -> str:
        """The reason of the end of one process. Of SIGKILL the kernel tells. `ray start --block` looks at its children
        once a second, tells how they have ended and ends itself; not so after SIGTERM: it would stay, silent, with a
        dead node inside."""
        pid = self.started.get(name, self.process.pid)
        killed = node_checks.is_killed(pid)
        deadline = time.monotonic() + WHY_LIMIT_S
        while not killed:
            # In this order: what was told after the question is still read.
            ended = self.process.poll() is not None and not self.reader.is_alive()
            output = "\n".join(self.output)
            log = "".join(map(node_checks.end_of, self.raylet_logs))
            told_all = ended or node_checks.END_OF_REPORT in output or node_checks.RAYLET_GOT_SIGTERM in log
            if told_all or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        words = f"{name} was killed by SIGKILL" if killed else node_checks.last_words(output, log)
        return (words or f"{name} (pid {pid}) has exited") + self.where_to_look()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line.rstrip())
            if "\tWARNING " in line:
                print(f"Ray warns: {line.partition(' -- ')[2].strip()}", flush=True)


def main(arguments: list[str]) -> int:
    if arguments == ["run"]:
        return run()
    if len(arguments) == 2 and arguments[0] == "outdated" and arguments[1] in ("head", "worker"):
        print("\n".join(outdated(arguments[1])))
        return 0
    print("usage: ray_node run | ray_node outdated head|worker", file=sys.stderr)
    return 2


def run() -> int:
    signal.signal(signal.SIGTERM, _stop)
    ray: list[RayStart] = []  # filled by the attempts, so that whatever happens the last one can be ended
    try:
        node = node_config.from_environment(os.environ)
        token = node_config.token_path(os.environ)
        start(node, token, ray)
        watch(node, token.read_text().strip(), ray[-1])
    except Stop:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        systemd.stopping("stopping Ray")
        _end(ray, STOP_LIMIT_S)
        return 0
    except (NodeDown, node_checks.Refused, node_config.ConfigError, OSError) as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        systemd.notify(f"STATUS=failed: {error}")
        _end(ray, FAILED_STOP_LIMIT_S)
        print(f"failed: {error}", flush=True)
        return 1


def start(node: node_config.Node, token: Path, ray: list[RayStart]) -> None:
    """Bring the node up and tell systemd; NodeDown when that takes longer than START_LIMIT_S."""
    deadline = time.monotonic() + START_LIMIT_S
    runtime = node_config.CURRENT_RUNTIME.resolve()
    if not (runtime / "bin" / "ray").exists():
        raise node_checks.Refused(f"no Ray in {node_config.CURRENT_RUNTIME}: a deploy installs the runtime")
    node_checks.check_temp_dir(Path(node.ray_temp_dir))
    if node.role == "worker":
        wait_for_head(node, deadline)
    while True:
        node_checks.reap_leftovers(node.unit)
        node_checks.check_ports(node)
        _record(node, token)
        ray.append(RayStart(node, runtime))
        try:
            wait_until_well(node, token.read_text().strip(), ray[-1], deadline)
        except NodeDown as error:
            if SLOW_AGENT not in str(error) or time.monotonic() > deadline:
                raise
            print(f"trying again, as the host is slow: {error}", flush=True)
            _end(ray, FAILED_STOP_LIMIT_S)
        else:
            break
    systemd.ready(f"{node.role}, started")


def wait_for_head(node: node_config.Node, deadline: float) -> None:
    where = node_config.host_port(node.head_ip, node.gcs_port)
    while why_not := node_checks.can_connect(node.head_ip, node.gcs_port):
        if time.monotonic() > deadline:
            raise NodeDown(f"waited {START_LIMIT_S} s for the head at {where}: {why_not}")
        systemd.status(f"waiting for the head at {where}: {why_not}")
        time.sleep(1)


def wait_until_well(node: node_config.Node, token: str, ray: RayStart, deadline: float) -> None:
    began = time.monotonic()
    while problem := node_checks.start_problem(node, token):
        if time.monotonic() > deadline:
            raise NodeDown(f"waited {START_LIMIT_S} s for {problem}{ray.where_to_look()}")
        systemd.status(f"starting for {time.monotonic() - began:.0f} s, waiting for {problem}")
        ray.wait(0.5)


def watch(node: node_config.Node, token: str, ray: RayStart) -> NoReturn:
    """Report the node's health for ever; NodeDown when it is unwell for UNWELL_LIMIT_S or a process is gone."""
    began = last_well = time.monotonic()
    cluster_at, cluster_text = 0.0, ""
    while True:
        problem = node_checks.problem(node)
        now = time.monotonic()
        if problem:
            if node_checks.NEW_CLUSTER in problem:
                raise NodeDown(f"the head at {node.head_ip} has started a new cluster; joining that")
            if now - last_well > UNWELL_LIMIT_S:
                raise NodeDown(f"unwell for {now - last_well:.0f} s: {problem}")
            # Without WATCHDOG=1: should this program hang as well, systemd ends it.
            systemd.notify(f"STATUS=unwell for {now - last_well:.0f} s: {problem}")
        else:
            last_well = now
            if now >= cluster_at:
                cluster_at, cluster_text = now + CLUSTER_EVERY_S, cluster_status(node, token)
            systemd.status(f"{cluster_text}, up {duration(now - began)}")
        ray.wait(CHECK_EVERY_S)


def cluster_status(node: node_config.Node, token: str) -> str:
    """``head, 2 nodes alive, 8/16 CPUs in use``; for a worker which head it belongs to, and whether it hears it."""
    if node.role == "worker":
        why_not = node_checks.can_connect(node.head_ip, node.gcs_port)
        return f"worker of {node.head_ip}" + (f" (not reached: {why_not})" if why_not else "")
    try:
        cluster = node_checks.cluster(node, token)
    except (ValueError, KeyError, TypeError):  # the dashboard is busy; its health is checked elsewhere
        return "head"
    used = [
        f"{cluster['usage'][name][0]:g}/{cluster['usage'][name][1]:g} {name}s in use"
        for name in ("CPU", "GPU")
        if name in cluster["usage"]
    ]
    return ", ".join(["head", f"{cluster['nodes']} node{'s' * (cluster['nodes'] != 1)} alive", *used])


def duration(seconds: float) -> str:
    """In the largest unit that gives a number above one: ``45 s``, ``3 min``, ``5 h``, ``12 days``."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"


def outdated(role: str) -> list[str]:
    """What has changed since the node was started, one input per line."""
    try:
        applied = json.loads(node_config.applied_file(role).read_text())
    except (FileNotFoundError, ValueError):
        applied = None
    return node_config.differences(applied, node_config.fingerprint(role, Path("/etc/rayrack/secrets/ray.token")))


def _record(node: node_config.Node, token: Path) -> None:
    """Write down what this start runs with. Before Ray starts: what is replaced later is then rightly outdated."""
    file = node_config.applied_file(node.role)
    file.with_suffix(".new").write_text(json.dumps(node_config.fingerprint(node.role, token), indent=1))
    file.with_suffix(".new").replace(file)


def _end(ray: list[RayStart], limit_s: float) -> None:
    try:
        if ray:
            ray[-1].end(limit_s)
    except node_checks.Refused as error:
        print(error, flush=True)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise Stop


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
