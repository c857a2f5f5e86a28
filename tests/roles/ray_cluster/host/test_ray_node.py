import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import node_checks
import node_config
import pytest
import ray_node

from tests.roles.ray_cluster.host.test_node_config import environment, node

PROGRAM = Path(ray_node.__file__)


def ray_node_run(**environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, "run"], env=environ, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (86400 * 3 + 5, "3 days")],
)
def test_durations_are_in_the_largest_unit_that_gives_more_than_one(seconds: float, text: str) -> None:
    assert ray_node.duration(seconds) == text


def test_an_incomplete_environment_is_one_line_and_exit_1() -> None:
    result = ray_node_run()
    assert result.returncode == 1
    assert result.stdout == "failed: RAYRACK_ROLE is not set: it belongs in /etc/rayrack/ray.env\n"
    assert result.stderr == ""


def test_a_host_without_a_token_is_one_line_and_exit_1() -> None:
    result = ray_node_run(**environment())
    assert result.returncode == 1
    assert re.fullmatch(r"failed: RAY_AUTH_TOKEN_PATH names no file: .*\n", result.stdout)


def test_a_host_without_a_runtime_is_one_line_and_exit_1(tmp_path: Path) -> None:
    token = tmp_path / "ray.token"
    token.write_text("t")
    result = ray_node_run(**environment(), RAY_AUTH_TOKEN_PATH=str(token))
    assert result.stdout == "failed: no Ray in /opt/rayrack/current: a deploy installs the runtime\n"


def test_a_wrong_command_line_is_exit_2_with_the_usage() -> None:
    result = subprocess.run([PROGRAM, "stop"], capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("usage: ray_node run")


def test_a_head_that_never_comes_is_named_with_the_time_waited() -> None:
    worker = node(role="worker", head_ip="127.0.0.1", gcs_port=1)
    with pytest.raises(ray_node.NodeDown, match=r"^waited 300 s for the head at 127.0.0.1:1: Connection refused$"):
        ray_node.wait_for_head(worker, deadline=time.monotonic() - 1)


# A `ray start` that starts a raylet and, as on a busy host, tells late how it has ended.
LATE = """#!/bin/sh
ln -sf /bin/sleep {0}/raylet; {0}/raylet 60 & wait $!
sleep 2.5
echo 'raylet [exit code=-9]'; echo 'Remaining processes will be killed.'; exec sleep 60
"""


# One that is too busy to notice.
SILENT = """#!/bin/sh
ln -sf /bin/sleep {0}/raylet; {0}/raylet 60 & exec sleep 60
"""


@pytest.mark.parametrize("program", [LATE, SILENT], ids=["late", "never"])
def test_a_raylet_that_was_killed_is_told_as_that_however_busy_ray_start_is(program: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ray").write_text(program.format(tmp_path))
    (tmp_path / "bin/ray").chmod(0o755)
    worker = node(role="worker", ray_temp_dir=str(tmp_path))
    ray = ray_node.RayStart(worker, tmp_path)
    try:
        while "raylet" not in ray.started:
            ray.wait(0.05)
        os.kill(ray.started["raylet"], signal.SIGKILL)
        with pytest.raises(ray_node.NodeDown, match=r"^raylet was killed by SIGKILL"):
            ray.wait(5)
    finally:
        ray.end(limit_s=5)


def test_a_worker_s_status_says_when_its_head_is_not_reached() -> None:
    worker = node(role="worker", head_ip="127.0.0.1", gcs_port=1)
    assert ray_node.cluster_status(worker, "token") == "worker of 127.0.0.1 (not reached: Connection refused)"


def test_a_head_whose_dashboard_is_silent_is_still_a_head() -> None:
    assert ray_node.cluster_status(node(dashboard_port=1), "token") == "head"


def test_the_head_s_status_counts_nodes_and_what_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = {"CPU": [2.5, 16.0], "GPU": [8.0, 8.0], "memory": [0.0, 1e9]}
    monkeypatch.setattr(node_checks, "cluster", lambda _node, _token: {"nodes": 2, "usage": usage})
    assert ray_node.cluster_status(node(), "t") == "head, 2 nodes alive, 2.5/16 CPUs in use, 8/8 GPUs in use"


def test_what_has_changed_since_the_start_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_config, "APPLIED", tmp_path)
    assert ray_node.outdated("head") == ["no record of a start"]
    token = Path("/etc/rayrack/secrets/ray.token")
    now = node_config.fingerprint("head", token)
    (tmp_path / "rayrack-head.applied.json").write_text(json.dumps(now))
    assert ray_node.outdated("head") == []
    (tmp_path / "rayrack-head.applied.json").write_text(json.dumps({**now, "/etc/rayrack/ray.env": "other"}))
    assert ray_node.outdated("head") == ["/etc/rayrack/ray.env"]


def test_a_record_that_was_cut_off_counts_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_config, "APPLIED", tmp_path)
    (tmp_path / "rayrack-worker.applied.json").write_text("{")
    assert ray_node.outdated("worker") == ["no record of a start"]


def test_the_program_may_be_run_as_it_stands() -> None:
    assert os.access(PROGRAM, os.X_OK)
    assert PROGRAM.read_text().splitlines()[0] == "#!/usr/bin/python3 -EsB"
