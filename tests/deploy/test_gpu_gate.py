"""The health gate of a run, over hosts that pyinfra only pretends to reach: who is left out, and when all stops."""

import json
import os
import pprint
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.lab.lab import ROOT, program
from tests.roles.gpu_health.test_rules import gpu, health
from tests.roles.nvidia_driver.hosts import V, at_work
from tests.roles.preflight.test_rules import GOOD

WELL = health().model_dump_json()
ILL = health([gpu(0), gpu(1, remap_failed=True)]).model_dump_json()
WARM = health([gpu(0), gpu(1, temperature_c=95)]).model_dump_json()
FRESH = health(
    [],
    pci=health().model_dump()["pci"],
    module_version=None,
    nvml={**health().nvml.model_dump(), "failure": "NVML Shared Library Not Found"},
).model_dump_json()
STOPPED = "the run stops here and no host was changed:"


def facts(document: str) -> dict[str, Any]:
    """What a good host's commands print, with this document of its GPUs."""
    info = {key: value for key, value in asdict(GOOD).items() if key not in ("disks", "failure")}
    disks = [asdict(disk) for disk in GOOD.disks]
    return {
        "id -u": "0",
        "gpu_health.pyz": document,
        "MemTotal": [json.dumps(disks), json.dumps(info)],
    }


def inventory(
    directory: Path, documents: Mapping[str, str], *, replicas: int = 1, data: Mapping[str, Any] | None = None
) -> Path:
    """Hosts with two H100s each; the first of ``documents`` is the head's. models.yaml beside it has one model."""
    hosts = [
        (
            f"@fake/{name}",
            {
                "gpus": 2,
                "gpu_model": "H100",
                "node_ip": f"10.0.0.{number}",
                "fake_responses": facts(text),
                **((data or {}).get(name, {})),
            },
        )
        for number, (name, text) in enumerate(documents.items(), start=1)
    ]
    common = {"fake_delay": 0, "fake_delay_jitter": 0}
    file = directory / "inventory.py"
    file.write_text(
        f"head = {pprint.pformat(hosts[:1])}\nworkers = {pprint.pformat(hosts[1:])}\n"
        f"rack = ({[name for name, _ in hosts]}, {common})\n"
    )
    (directory / "models.yaml").write_text(
        f"models: [{{model_id: a, tensor_parallel_size: 2, min_replicas: {replicas}, max_replicas: {replicas}}}]"
    )
    return file


def run(
    directory: Path,
    documents: Mapping[str, str],
    *arguments: str,
    replicas: int = 1,
    data: Mapping[str, Any] | None = None,
    confirmed: bool = True,
) -> subprocess.CompletedProcess[str]:
    """The gate's part of a deploy."""
    file = inventory(directory, documents, replicas=replicas, data=data)
    deploys = [f"deploy/{name}.py" for name in ("00_preflight", "05_verdict", "16_gpu_health")]
    command = [program("pyinfra"), str(file), *deploys, "--data", f"models_file={directory / 'models.yaml'}"]
    command += ["-y"] if confirmed else []
    clean = {name: value for name, value in os.environ.items() if name not in ("MODELS_CONFIG", "MODEL_ID")}
    result = subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        env=clean,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=100,
        check=False,
    )
    assert "Traceback" not in result.stdout, result.stdout
    return result


def test_a_blocked_worker_is_left_out_before_it_is_changed_and_the_others_go_on(tmp_path: Path) -> None:
    result = run(tmp_path, {"gpu-01": WELL, "gpu-02": WELL, "gpu-03": ILL})
    assert result.returncode == 1, result.stdout
    _, _, after = result.stdout.partition("@fake/gpu-03: blocked by the health gate\n")
    block = after.splitlines()[:2]
    assert block[0].startswith("        block remap_failed: GPU 1 (0000:02:00.0): a remapping has failed; allowed: ")
    assert block[1] == "        @fake/gpu-03 is left out of this run; nothing on it is changed"
    assert result.stdout.count("blocked by the health gate") == 1
    _, _, changed = result.stdout.partition("Beginning operation run")
    assert "gpu-02" in changed
    assert "gpu-03] Success" not in changed


def test_nobody_is_asked_about_a_blocked_worker_and_a_dry_run_goes_on_without_it(tmp_path: Path) -> None:
    result = run(tmp_path, {"gpu-01": WELL, "gpu-02": ILL}, "--dry", confirmed=False)
    assert result.returncode == 1
    assert "@fake/gpu-02 is left out of this run; nothing on it is changed" in result.stdout
    assert "continue?" not in result.stdout
    _, _, detected = result.stdout.partition("Detected changes")
    assert "Program of the health gate" in detected


def test_a_run_that_has_no_host_left_says_so(tmp_path: Path) -> None:
    result = run(tmp_path, {"gpu-01": WELL, "gpu-02": ILL}, "--limit", "@fake/gpu-02", "--dry", confirmed=False)
    assert result.returncode == 1
    assert "no host is left to deploy to" in result.stdout


def test_changes_that_nobody_can_confirm_are_not_made(tmp_path: Path) -> None:
    result = run(tmp_path, {"gpu-01": WELL}, confirmed=False)
    assert result.returncode == 1
    assert "nobody is there to confirm it: add -y, or --dry to look only" in result.stdout
    assert "Beginning operation run" not in result.stdout


def test_a_blocked_head_stops_the_whole_run(tmp_path: Path) -> None:
    result = run(tmp_path, {"gpu-01": ILL, "gpu-02": WELL})
    assert result.returncode == 1
    _, _, after = result.stdout.partition(STOPPED)
    assert "@fake/gpu-01: blocked by the health gate" in after.splitlines()[1]
    assert "Beginning operation run" not in result.stdout


def test_the_run_stops_when_the_models_do_not_fit_without_the_blocked_host(tmp_path: Path) -> None:
    result = run(tmp_path, {"gpu-01": WELL, "gpu-02": ILL}, replicas=2)
    assert result.returncode == 1
    _, _, after = result.stdout.partition(STOPPED)
    assert "@fake/gpu-02: blocked by the health gate" in after
    assert "models[0].min_replicas: 2 replicas of 2 GPUs needed, room for 1 on @fake/gpu-01" in after
    assert "Beginning operation run" not in result.stdout


def test_an_override_lets_the_host_in_and_says_so(tmp_path: Path) -> None:
    override = {"gpu-01": {"gpu_health_override": {"reason": "is replaced on Friday"}}}
    result = run(tmp_path, {"gpu-01": ILL}, data=override)
    assert result.returncode == 0, result.stdout
    assert "gpu_health_override lets it in: is replaced on Friday" in result.stdout


def test_a_dry_run_shows_findings_and_a_warning_stops_nobody(tmp_path: Path) -> None:
    result = run(tmp_path, {"gpu-01": WARM}, "--dry")
    assert result.returncode == 0, result.stdout
    assert "warn temperature: GPU 1 (0000:02:00.0): 95 °C, 90 °C allowed" in result.stdout
    assert "Beginning operation run" not in result.stdout


def test_a_fresh_host_is_let_in_and_blocked_when_no_driver_came(tmp_path: Path) -> None:
    """Here nothing installs a driver between the two gates."""
    result = run(tmp_path, {"gpu-01": WELL, "gpu-02": FRESH})
    assert result.returncode == 1
    before, _, run_of_operations = result.stdout.partition("Beginning operation run")
    assert "install driver: no NVIDIA driver is loaded (NVML Shared Library Not Found)" in before
    assert "block driver: no NVIDIA driver is loaded" in run_of_operations


def test_the_models_must_still_fit_after_the_second_gate(tmp_path: Path) -> None:
    result = run(tmp_path, {"gpu-01": WELL, "gpu-02": FRESH}, replicas=2)
    assert result.returncode == 1
    _, _, after = result.stdout.partition("the run stops here:")
    assert "without @fake/gpu-02: " in after
    assert "2 replicas of 2 GPUs needed, room for 1" in after


def with_driver(version: str) -> dict[str, Any]:
    """The data of a host whose own driver is of this version; the settings leave it alone."""
    answers = {**facts(WELL), "NOT_OF_THE_DRIVER": json.dumps(asdict(at_work(version)))}
    return {"fake_responses": answers, "nvidia_driver_version": None}


def test_a_driver_that_is_left_alone_and_too_old_for_the_runtime_stops_the_run(tmp_path: Path) -> None:
    result = run(tmp_path, {"gpu-01": WELL, "gpu-02": WELL}, "--dry", data={"gpu-02": with_driver("535.183.01")})
    assert result.returncode == 1
    _, _, after = result.stdout.partition(STOPPED)
    assert "@fake/gpu-02: driver 535.183.01 is loaded and too old for the runtime's CUDA 13." in after


@pytest.mark.parametrize("data", [with_driver(V), {**with_driver("535.183.01"), "lab_skip_cuda_check": True}])
def test_a_driver_that_is_new_enough_or_not_checked_goes_on(tmp_path: Path, data: dict[str, Any]) -> None:
    result = run(tmp_path, {"gpu-01": WELL}, "--dry", data={"gpu-01": data})
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    "override",
    [{}, {"reason": ""}, {"reason": "short"}, {"reason": "long enough", "until": "x"}, {"reason": "a\nb" * 9}],
)
def test_an_override_without_a_reason_is_refused(tmp_path: Path, override: dict[str, str]) -> None:
    result = run(tmp_path, {"gpu-01": ILL}, data={"gpu-01": {"gpu_health_override": override}})
    assert result.returncode == 1
    assert "gpu_health_override: must be {reason: ...} with one line of 10 to 300 characters" in result.stdout
