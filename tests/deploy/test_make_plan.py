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
