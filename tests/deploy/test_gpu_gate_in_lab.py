"""The health gate of a run on real hosts: the real program over SSH, with pynvml.py and a library NVML of files.

What the gate decides is in test_gpu_gate.py; here is what only a host can show: what is on it afterwards.
"""

import json
from collections.abc import Iterator

import pytest

from tests.lab.gpu_worker import CRON, HEAD, HOST, LAST, METRICS_DIR, OVERRIDE, PROGRAM, GpuWorker, gpu_worker
from tests.lab.lab import Lab, wait_until
from tests.lab.test_deploy_again import changes

SECRETS = "/etc/rayrack/secrets"
REASON = "row remapping waits for Friday, ticket 4711"
XID_79 = "NVRM: Xid (PCI:0000:1b:00): 79, pid=1234, GPU has fallen off the bus."
REMAP = {"gpu.1.remap_pending": 1}
# Cron begins a look at each full minute; on a busy machine it takes its time.
MINUTE_S = 150

pytestmark = [pytest.mark.destructive, pytest.mark.long]


@pytest.fixture(scope="module")
def simulated(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GpuWorker]:
    with gpu_worker(lab, tmp_path_factory.mktemp("gpu")) as worker:
        yield worker


@pytest.fixture
def worker(simulated: GpuWorker) -> Iterator[GpuWorker]:
    """The worker, well and without anything of the gate's."""
    yield simulated
    simulated.heal()
    simulated.uninstall()


def mode(worker: GpuWorker, host: str) -> str:
    return worker.lab.read(host, f"stat -c %a {SECRETS}")


def test_a_worker_with_healthy_gpus_passes_both_gates_and_a_second_run_changes_nothing(worker: GpuWorker) -> None:
    worker.deploy()
    there = f"stat -c '%a %U' $(readlink -f {PROGRAM}) {CRON}; ls {OVERRIDE} 2>/dev/null || true"
    assert worker.lab.read(HOST, there).splitlines() == ["755 root", "644 root"]
    assert worker.lab.read(HEAD, f"ls {PROGRAM} {CRON} 2>/dev/null || true") == ""
    assert changes(worker.deploy()) == set()


@pytest.mark.parametrize("finding", ["gpu_count", "xid_critical", "remap_pending"])
def test_a_worker_that_is_blocked_is_left_out_before_it_is_changed(worker: GpuWorker, finding: str) -> None:
    if finding == "gpu_count":
        worker.answers(gpus=1)
    elif finding == "xid_critical":
        worker.kernel_says(XID_79)
    else:
        worker.answers(REMAP)
    for host in (HEAD, HOST):
        worker.lab.ssh(host, f"chmod 755 {SECRETS}")
    try:
        result = worker.deploy(check=False)
        assert (mode(worker, HEAD), mode(worker, HOST)) == ("700", "755")
    finally:
        worker.lab.ssh(HOST, f"chmod 700 {SECRETS}")
    assert result.returncode == 1
    _, _, after = result.stdout.partition(f"{HOST}: blocked by the health gate\n")
    assert after.splitlines()[0].startswith(f"        block {finding}: ")
    assert f"{HOST} is left out of this run; nothing on it is changed" in after
    assert "Traceback" not in result.stdout
    # Neither what was sent along with the question, nor anything that a deploy installs.
    assert worker.lab.read(HOST, f"ls -d /tmp/tmp.* {PROGRAM} {CRON} 2>/dev/null || true") == ""


def test_an_override_lets_the_worker_in_and_is_told_on_the_host_until_it_is_taken_back(worker: GpuWorker) -> None:
    worker.answers(REMAP)
    override = {"reason": REASON}
    result = worker.deploy(gpu_health_override=override)
    assert f"gpu_health_override lets it in: {REASON}" in result.stdout
    assert "block remap_pending: GPU 1 (0000:2b:00.0): a row waits" in result.stdout
    assert json.loads(worker.lab.read(HOST, f"cat {OVERRIDE}")) == override
    told = "journalctl -b -q -o cat -t rayrack-gpu-health -p warning -g 'lets this host in' | tail -n 1"
    assert worker.lab.read(HOST, told).endswith(REASON)
    assert changes(worker.deploy(gpu_health_override=override)) == set()
    worker.heal()
    worker.deploy()
    assert worker.lab.read(HOST, f"ls {OVERRIDE} 2>/dev/null || true") == ""


def test_cron_writes_the_last_document_and_the_metrics_every_minute(worker: GpuWorker) -> None:
    worker.deploy()
    lab, metrics = worker.lab, f"{METRICS_DIR}/rayrack_gpu_health.prom"

    def written() -> str:
        """When both were last written; empty as long as one is not there."""
        return lab.ssh(HOST, f"stat -c %Y {LAST} {metrics}", check=False).stdout if there() else ""

    def there() -> bool:
        return lab.ssh(HOST, f"[ -e {LAST} ] && [ -e {metrics} ]", check=False).returncode == 0

    wait_until(there, "cron has looked at the GPUs", MINUTE_S)
    first = written()
    assert len(json.loads(lab.read(HOST, f"cat {LAST}"))["gpus"]) == 2
    assert "rayrack_gpu" in lab.read(HOST, f"cat {metrics}")
    worker.answers({"gpu.1.temperature": 71})
    wait_until(lambda: written() != first, "cron has looked again", MINUTE_S)
    assert "71" in lab.read(HOST, f"grep temperature {metrics}")
    assert lab.read(HOST, f"stat -c '%a %U' {LAST} {metrics}").splitlines() == ["644 root"] * 2
