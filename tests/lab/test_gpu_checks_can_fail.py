"""The checks of tests/hosts/test_gpus.py on a lab host with GPUs: green at first, then the right one red.

The document they read is made by the real program, from a library NVML that answers from a file.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import DeployedRack
from tests.lab.gpu_worker import HOST, LAST, GpuWorker, gpu_worker
from tests.lab.lab import Lab
from tests.lab.test_checks_can_fail import outcomes

LOOKED_AT, MAY_SERVE = f"test_gpus_are_looked_at_every_minute[{HOST}]", f"test_gpus_may_serve[{HOST}]"
REMAP = {"gpu.1.remap_pending": 1}

pytestmark = [pytest.mark.destructive, pytest.mark.long]


@pytest.fixture(scope="module")
def deployed(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GpuWorker]:
    """The worker after a deploy; cron is stopped, so that a test alone says what the last document is."""
    with gpu_worker(lab, tmp_path_factory.mktemp("gpu")) as worker:
        worker.deploy()
        lab.ssh(HOST, "systemctl stop cron")
        try:
            yield worker
        finally:
            lab.ssh(HOST, "systemctl start cron")


@pytest.fixture
def worker(deployed: GpuWorker) -> GpuWorker:
    """The worker, whose GPUs are well and were looked at just now."""
    deployed.heal()
    deployed.look()
    return deployed


def red(worker: GpuWorker, report: Path, **more: object) -> set[str]:
    """The checks of the GPUs that fail; there are two, on the worker alone."""
    rack = DeployedRack(worker.lab, inventory=worker.inventory(**more))
    seen = outcomes(rack, report, "-k", "test_gpus")
    assert set(seen) == {LOOKED_AT, MAY_SERVE}
    return {name for name, green in seen.items() if not green}


def test_both_checks_are_green_on_a_worker_whose_gpus_are_well(worker: GpuWorker, tmp_path: Path) -> None:
    assert red(worker, tmp_path / "report.xml") == set()


def test_a_last_look_of_ten_minutes_ago_turns_its_check_red(worker: GpuWorker, tmp_path: Path) -> None:
    worker.lab.ssh(HOST, f"touch -d '10 minutes ago' {LAST}")
    assert red(worker, tmp_path / "report.xml") == {LOOKED_AT}


def test_gpus_that_were_never_looked_at_turn_both_checks_red(worker: GpuWorker, tmp_path: Path) -> None:
    worker.lab.ssh(HOST, f"rm {LAST}")
    assert red(worker, tmp_path / "report.xml") == {LOOKED_AT, MAY_SERVE}


def test_a_document_that_cannot_be_read_turns_its_check_red(worker: GpuWorker, tmp_path: Path) -> None:
    worker.lab.ssh(HOST, f"truncate -s 100 {LAST}")
    assert red(worker, tmp_path / "report.xml") == {MAY_SERVE}


@pytest.mark.parametrize(
    "changes",
    [REMAP, {"gpu.0.recovery_action": 1}, {"gpus": 1}, {"init": "error 18"}],
    ids=["a row waits", "the driver asks for a reset", "a GPU is missing", "library and module differ"],
)
def test_a_finding_that_blocks_turns_its_check_red(
    worker: GpuWorker, tmp_path: Path, changes: dict[str, object]
) -> None:
    worker.answers(changes)
    worker.look()
    assert red(worker, tmp_path / "report.xml") == {MAY_SERVE}


def test_a_finding_that_only_warns_leaves_the_checks_green(worker: GpuWorker, tmp_path: Path) -> None:
    worker.answers({"gpu.0.temperature": 95})
    worker.look()
    assert red(worker, tmp_path / "report.xml") == set()


def test_an_override_makes_a_finding_that_blocks_green(worker: GpuWorker, tmp_path: Path) -> None:
    worker.answers(REMAP)
    worker.look()
    override = {"reason": "row remapping waits for Friday"}
    assert red(worker, tmp_path / "report.xml", gpu_health_override=override) == set()
