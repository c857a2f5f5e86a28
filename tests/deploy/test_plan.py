"""The plan in a run, over hosts that pyinfra only pretends to reach."""

import json
import re
from pathlib import Path

import pytest

from tests.deploy.test_gpu_gate import ILL, WELL, run
from tests.roles.planner.memory import fixtures
from tests.roles.planner.memory.test_hub import FakeHub, fake  # noqa: F401 - a fixture

QWEN = fixtures.published("qwen3-8b")
CONFIG, INDEX = "/a/resolve/main/config.json", "/a/resolve/main/model.safetensors.index.json"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.usefixtures("offline")
def test_the_plan_comes_once_and_before_anything_is_prepared(tmp_path: Path) -> None:
    shown = run(tmp_path, {"gpu-01": WELL, "gpu-02": WELL}, "--dry").stdout
    assert shown.count("\nplan: ") == 1
    assert shown.index("\nplan: ") < shown.index("Loading: deploy/16_gpu_health.py")
    assert "@fake/gpu-01                 2x H100 80G    |AAAA|AAAA|" in shown


@pytest.mark.usefixtures("offline")
def test_a_host_that_is_left_out_is_so_in_the_plan_and_the_models_stand_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    run(tmp_path, {"gpu-01": WELL, "gpu-02": ILL}, "--dry", "--data", f"plan_file={file}")
    document = json.loads(file.read_text())
    assert [bool(each["left_out"]) for each in document["hosts"]] == [False, True]
    assert document["models"][0]["hosts"] == ["@fake/gpu-01"]


@pytest.mark.usefixtures("offline")
def test_a_plan_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    result = run(tmp_path, {"gpu-01": WELL}, "--dry", "--data", f"plan_file={tmp_path}/none/plan.json")
    assert result.returncode == 1
    assert f"plan_file: {tmp_path}/none/plan.json: cannot be written: No such file or directory" in result.stdout


def hub_with(monkeypatch: pytest.MonkeyPatch, hub: FakeHub, weights_bytes: int) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    index = {"metadata": {"total_size": weights_bytes}, "weight_map": {}}
    hub.answers = {CONFIG: json.dumps(QWEN.config).encode(), INDEX: json.dumps(index).encode()}


def test_what_the_hub_says_is_in_the_plan(
    tmp_path: Path,
    fake: FakeHub,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub_with(monkeypatch, fake, QWEN.weights_bytes)
    file = tmp_path / "plan.json"
    run(tmp_path, {"gpu-01": WELL, "gpu-02": WELL}, "--dry", "--data", f"plan_file={file}")
    memory = json.loads(file.read_text())["models"][0]["memory"]
    assert memory["weights_gib"] == pytest.approx(QWEN.weights_bytes / 2 / 2**30, rel=0.05), "half on each of two GPUs"
    assert memory["max_model_len"] == QWEN.config["max_position_embeddings"]
    assert len(fake.asked) == 2, "once for both hosts and the plan"


def test_weights_that_no_disk_and_no_gpu_holds_stop_the_run_with_the_size_that_the_hub_told(
    tmp_path: Path,
    fake: FakeHub,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub_with(monkeypatch, fake, 3000 * 2**30)
    result = run(tmp_path, {"gpu-01": WELL}, "--dry")
    assert result.returncode == 1
    assert "weights_gib: a 3000" in result.stdout
    each = re.search(
        r"models\[0\]\.tensor_parallel_size: on @fake/gpu-01: weights of ([\d.]+) GiB on each", result.stdout
    )
    assert each is not None, result.stdout
    assert float(each[1]) == pytest.approx(1500, rel=0.05), "half on each of two GPUs"
