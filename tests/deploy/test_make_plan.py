"""One exit status for scripts: 0 nothing to do, 2 changes, 1 impossible."""

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.inputs import make_plan
from tests.lab.lab import ROOT

OPERATIONS = [{"name": "A | B", "hosts_with_change": ["h1"]}, {"name": "C", "hosts_with_change": []}]
WOULD = json.dumps({"plan": OPERATIONS, "results": None})


def plan(outcome: str, *left_out: str | None) -> dict[str, Any]:
    return {"outcome": outcome, "hosts": [{"left_out": reason} for reason in left_out or (None,)]}


@pytest.mark.parametrize(
    ("planned", "returncode", "operations", "status"),
    [
        (plan("nothing"), 0, [], 0),
        (plan("nothing"), 0, ["op"], 2),
        (plan("changes"), 0, [], 2),
        (plan("unknown"), 0, [], 2),
        (plan("impossible"), 1, [], 1),
        (plan("changes"), 1, ["op"], 1),
        (plan("changes", None, "its GPUs may not serve"), 1, ["op"], 2),
        (plan("impossible", "its GPUs may not serve"), 1, [], 1),
    ],
)
def test_the_status(planned: dict[str, Any], returncode: int, operations: Sequence[object], status: int) -> None:
    assert make_plan.status(planned, returncode, operations) == status


def test_operations_that_would_change_something_are_found_in_what_pyinfra_prints() -> None:
    assert make_plan.changing(f"some line\n{WOULD}\n") == [("A | B", ["h1"])]
    assert make_plan.changing("") == []


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", "plan", *arguments], cwd=ROOT, text=True, capture_output=True, timeout=120
    )


def test_a_wrong_inventory_is_status_1_and_its_line_is_shown() -> None:
    result = make("INVENTORY=inventories/none.py")
    assert result.returncode == 1
    assert "inventories/none.py" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_list_that_no_host_can_run_is_status_1_and_the_plan_file_says_so(tmp_path: Path) -> None:
    from tests.deploy.test_gpu_gate import WELL, inventory

    file = tmp_path / "plan.json"
    found = inventory(tmp_path, {"gpu-01": WELL, "gpu-02": WELL}, replicas=3)
    result = make(f"INVENTORY={found}", f"ARGS=--data models_file={tmp_path}/models.yaml --data plan_file={file}")
    assert result.returncode == 1, result.stderr
    assert re.search(r"models\[0\]\.min_replicas: 3 replicas of 2 GPUs needed, room for 2 on", result.stderr)
    assert json.loads(file.read_text())["outcome"] == "impossible"


def rack_that_nobody_answers_for(directory: Path, *models: dict[str, Any]) -> tuple[Path, str]:
    """An inventory of two hosts with two H100s each, and make's arguments for a list."""
    nobody = {"ssh_hostname": "127.0.0.1", "ssh_port": 9, "gpus": 2, "gpu_model": "H100"}
    inventory = directory / "inventory.py"
    inventory.write_text(f"head = [('gpu-01', {nobody})]\nworkers = [('gpu-02', {nobody})]\n")
    (directory / "models.yaml").write_text(json.dumps({"models": models}))
    return inventory, f"--data models_file={directory}/models.yaml --data plan_file={directory}/plan.json"


def test_a_plan_needs_no_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    inventory, arguments = rack_that_nobody_answers_for(tmp_path, {"model_id": "org/a", "tensor_parallel_size": 2})
    result = make(f"INVENTORY={inventory}", f"ARGS={arguments}")
    assert result.returncode == 2, result.stderr
    assert "no host could be looked at; from the inventory alone:\n\nplan: " in result.stderr
    assert "gpu-01                       2x H100 80G    |AAAA|AAAA|" in result.stderr
    assert json.loads((tmp_path / "plan.json").read_text())["models"][0]["hosts"] == ["gpu-01"]


def test_what_does_not_fit_is_told_without_a_host_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    inventory, arguments = rack_that_nobody_answers_for(
        tmp_path,
        {"model_id": "org/a", "tensor_parallel_size": 3},
        {"model_id": "org/b", "weights_gib": 500},
    )
    result = make(f"INVENTORY={inventory}", f"ARGS={arguments}")
    assert result.returncode == 1
    assert "models[0].tensor_parallel_size: 3 GPUs needed on one host, gpu-01 has 2" in result.stderr
    assert "models[1].tensor_parallel_size: on gpu-01, gpu-02: weights of 500.0 GiB on each GPU" in result.stderr
    assert json.loads((tmp_path / "plan.json").read_text())["outcome"] == "impossible"


def test_a_plan_file_that_is_a_directory_is_one_line(tmp_path: Path) -> None:
    result = make("INVENTORY=inventories/none.py", f"ARGS=--data plan_file={tmp_path}")
    assert result.returncode == 1
    assert f"make plan: plan_file: {tmp_path}: cannot be written: Is a directory" in result.stderr
    assert "Traceback" not in result.stderr
