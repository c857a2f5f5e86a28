"""The host program with NVIDIA's own pynvml.py, against a fake NVML: what it reads, and what it never does."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from roles.gpu_health import rules
from roles.gpu_health.expected import Expected
from tests.lab import fake_nvml
from tests.roles.gpu_health.simulated import SimulatedHost, hgx

HGX = Expected(gpus=8, gpu_model="H100")


def findings(host: SimulatedHost, phase: rules.Phase = rules.AFTER, limit_s: float = 30) -> dict[str, str]:
    """Severity, place and value of all that is not well, by check."""
    found = rules.findings(host.health(limit_s), HGX, phase)
    return {each.check: f"{each.severity}: {each.where}: {each.value}" for each in found if each.severity != "ok"}


def test_a_healthy_host_is_read_in_full_and_has_no_findings(host: SimulatedHost) -> None:
    health = hgx(host).health()
    assert findings(host) == {}
    assert health.nvml.model_dump() == {
        "failure": None,
        "code": None,
        "hung": None,
        "library_version": "580.95.05",
        "driver_version": "580.95.05",
        "cuda_version": "13.0",
    }
    assert (health.gpus_on_bus, health.has_nvswitch, len(health.gpus)) == (8, True, 8)
    gpu = health.gpus[3]
    assert gpu.model_dump(exclude={"reasons"}) == {
        "index": 3,
        "name": "NVIDIA H100 80GB HBM3",
        "uuid": "GPU-00000000-0000-0000-0000-000000000003",
        "pci_address": "0000:4b:00.0",
        "memory_total_bytes": 85_520_809_984,
        "memory_used_bytes": 0,
        "ecc": True,
        "ecc_pending": True,
        "ecc_uncorrectable": 0,
        "ecc_uncorrectable_lifetime": 0,
        "pages_pending": None,
        "rows_remapped": 0,
        "remap_pending": False,
        "remap_failed": False,
        "nvlinks": [True] * 18,
        "clock_sm_mhz": 1980,
        "clock_sm_max_mhz": 1980,
        "clock_memory_mhz": 2619,
        "clock_memory_max_mhz": 2619,
        "slowdowns": [],
        "power_w": 72.0,
        "power_limit_w": 700.0,
        "power_default_w": 700.0,
        "temperature_c": 34,
        "processes": [],
        "mig": False,
        "mig_pending": False,
        "persistence": True,
        "fabric_state": "completed",
        "fabric_status": 0,
        "recovery_action": "none",
    }
    # An H100 remaps rows and retires no pages: null, and why.
    assert gpu.reasons == {"pages_pending": "Not Supported"}


def test_a_fresh_host_without_driver_is_to_be_installed_and_its_gpus_are_counted_on_the_bus(
    make_host: Callable[[Path | None], SimulatedHost],
) -> None:
    host = make_host(None)
    for index in range(8):
        host.pci(fake_nvml.pci_address(index))
    assert findings(host, rules.BEFORE) == {
        "driver": "install: host: no NVIDIA driver is loaded (NVML Shared Library Not Found)"
    }
    assert findings(host)["driver"].startswith("block: ")


def test_fewer_gpus_on_the_bus_than_declared_block_also_a_fresh_host(
    make_host: Callable[[Path | None], SimulatedHost],
) -> None:
    host = make_host(None)
    for index in range(7):
        host.pci(fake_nvml.pci_address(index))
    assert findings(host, rules.BEFORE)["pci_count"] == "block: host: 7 GPUs on the PCI bus, 8 declared"


def test_other_devices_on_the_bus_are_no_gpus(host: SimulatedHost) -> None:
    host.pci("0000:00:01.0", vendor="0x8086")
    host.pci("0000:00:02.0", pci_class="0x040300")  # a GPU's sound device
    assert host.document()["pci"] == []


def test_a_gpu_that_fell_off_the_bus_reads_as_all_ones(host: SimulatedHost) -> None:
    hgx(host)
    host.pci(fake_nvml.pci_address(5), config=b"\xff" * 64)
    assert findings(host)["pci_silent"].startswith("block: host: GPU 0000:6b:00.0 has fallen off the bus")


def test_a_lost_gpu_is_named_and_the_others_are_read(host: SimulatedHost) -> None:
    lost = {f"gpu.5.{name}": "error 15" for name in ("handle",)}
    health = hgx(host, lost).health()
    assert findings(host) == {"gpu_lost": "block: GPU 5: does not tell its name: GPU is lost"}
    assert health.gpus[5].temperature_c is None
    assert health.gpus[5].reasons["temperature_c"] == "GPU is lost"
    assert [gpu.temperature_c for gpu in health.gpus if gpu.index != 5] == [34] * 7


def test_a_gpu_that_nvml_does_not_know_is_missed(host: SimulatedHost) -> None:
    hgx(host, {"gpus": 7})
    assert findings(host)["gpu_count"] == "block: host: NVML knows 7 GPUs, 8 are on the PCI bus, 8 declared"


@pytest.mark.parametrize(
    ("changes", "check", "finding"),
    [
        ({"gpu.3.ecc_uncorrectable": 2}, "ecc_uncorrectable", "block: GPU 3 (0000:4b:00.0): 2 errors, 0 allowed"),
        ({"gpu.3.ecc_uncorrectable_lifetime": 9}, "ecc_lifetime", "warn: GPU 3 (0000:4b:00.0): 9 errors in its life"),
        ({"gpu.*.ecc": "0 1"}, "ecc_off", "warn: GPU 7 (0000:8b:00.0): ECC is off"),
        ({"gpu.3.remap_pending": 1}, "remap_pending", "block: GPU 3 (0000:4b:00.0): a row waits"),
        ({"gpu.3.remap_failed": 1}, "remap_failed", "block: GPU 3 (0000:4b:00.0): a remapping has failed"),
        ({"gpu.3.pages_pending": 1}, "pages_pending", "block: GPU 3 (0000:4b:00.0): a page waits"),
        ({"gpu.3.nvlinks": "1" * 17 + "0"}, "nvlink_down", "block: GPU 3 (0000:4b:00.0): 17 of 18 NVLinks are up"),
        (
            {"gpu.3.slowdowns": 0x48, "gpu.3.clock_sm": 345},
            "slowdown",
            "block: GPU 3 (0000:4b:00.0): hardware slowdown and hardware slowdown for heat, 345 of 1980 MHz",
        ),
        ({"gpu.3.slowdowns": 0x80}, "slowdown", "block: GPU 3 (0000:4b:00.0): power brake, 1980 of 1980 MHz"),
        (
            {"gpu.3.slowdowns": 0x20, "gpu.3.temperature": 88},
            "slowdown_sw",
            "warn: GPU 3 (0000:4b:00.0): the driver slows it down for heat, 88 °C",
        ),
        ({"gpu.3.temperature": 93}, "temperature", "warn: GPU 3 (0000:4b:00.0): 93 °C, 90 °C allowed"),
        ({"gpu.3.power_limit": 400_000}, "power_limit", "warn: GPU 3 (0000:4b:00.0): 400 W, its default is 700 W"),
        ({"gpu.3.mig": "1 1"}, "mig", "block: GPU 3 (0000:4b:00.0): MIG is on, expected off"),
        ({"gpu.3.mig": "0 1"}, "mig", "block: GPU 3 (0000:4b:00.0): MIG will be on after the next reset"),
        ({"gpu.3.persistence": 0}, "persistence", "warn: GPU 3 (0000:4b:00.0): persistence mode is off"),
        (
            {"gpu.3.name": "NVIDIA A100-SXM4-80GB"},
            "gpu_model",
            "block: GPU 3 (0000:4b:00.0): is a A100, declared is H100",
        ),
        (
            {"gpu.3.fabric": "2 0"},
            "fabric_state",
            "block: GPU 3 (0000:4b:00.0): registration with the fabric: in progress",
        ),
        (
            {"gpu.3.recovery_action": 1},
            "recovery_action",
            "block: GPU 3 (0000:4b:00.0): the driver asks for gpu reset",
        ),
    ],
)
def test_what_nvml_tells_of_one_gpu_becomes_one_finding(
    host: SimulatedHost, changes: dict[str, object], check: str, finding: str
) -> None:
    hgx(host, changes)
    assert findings(host) == {check: finding}


def test_a_stranger_that_holds_memory_is_named_with_its_unit_and_an_engine_of_ours_is_not(host: SimulatedHost) -> None:
    held = {"gpu.0.process": f"4711 {20 * 2**30}", "gpu.1.process": f"4712 {20 * 2**30}"}
    hgx(host, {**held, "gpu.2.graphics_process": f"4713 {4 * 2**20}"})
    for pid, name, unit in ((4711, "python3", "training.service"), (4712, "VLLM::EngineCor", "rayrack-worker.service")):
        host.file(f"proc/{pid}/comm", f"{name}\n")
        host.file(f"proc/{pid}/cgroup", f"0::/system.slice/{unit}\n")
    assert findings(host) == {
        "memory_held": "block: GPU 0 (0000:1b:00.0): python3 (pid 4711, training.service) holds 20480 MiB, "
        "256 MiB allowed"
    }
    (small,) = host.health().gpus[2].processes or ()
    assert small.model_dump() == {"pid": 4713, "memory_bytes": 4 * 2**20, "name": None, "unit": None}


def test_an_old_driver_that_lacks_functions_is_read_as_far_as_it_goes(
    make_host: Callable[[Path | None], SimulatedHost], old_nvml: Path
) -> None:
    host = hgx(make_host(old_nvml), {"gpu.0.process": "4711 1000000000", "gpu.3.slowdowns": 0x80})
    gpus = host.health().gpus
    assert gpus[0].reasons["fabric_state"] == "Function Not Found"
    assert gpus[3].slowdowns == ["hw_power_brake_slowdown"]
    assert [process.pid for process in gpus[0].processes or ()] == [4711]
    assert set(findings(host)) == {"slowdown", "memory_held"}


def test_a_library_that_does_not_fit_the_loaded_module_waits_for_a_reboot(host: SimulatedHost) -> None:
    hgx(host, {"init": "error 18", "nvml": "13.580.105.08"})
    assert findings(host, rules.BEFORE)["driver_mismatch"] == (
        "install: host: kernel module 580.95.05, library 580.105.08"
    )
    assert "nvml" not in findings(host, rules.BEFORE)
    assert findings(host)["driver_mismatch"].startswith("block: ")


def test_nouveau_and_a_pending_reboot_are_for_the_driver_step(host: SimulatedHost) -> None:
    hgx(host)
    host.file("sys/module/nouveau/refcnt", "0\n")
    host.file("run/reboot-required", "*** System restart required ***\n")
    before = findings(host, rules.BEFORE)
    assert [finding.split(":")[0] for finding in before.values()] == ["install", "install"]
    assert set(before) == {"nouveau", "reboot_pending"}


@pytest.mark.parametrize(
    ("package", "service", "value"),
    [
        ("", "active", "this host has NVSwitches and no fabric manager"),
        ("un  nvidia-fabricmanager-580 <none>", "inactive", "this host has NVSwitches and no fabric manager"),
        ("ii  nvidia-fabricmanager-580 580.105.08-1", "active", "fabric manager 580.105.08, driver 580.95.05"),
        ("hi  nvidia-fabricmanager-580 1:580.95.05-1", "failed", "nvidia-fabricmanager.service is failed"),
    ],
)
def test_the_fabric_manager_has_the_drivers_version_and_runs(
    host: SimulatedHost, package: str, service: str, value: str
) -> None:
    hgx(host)
    host.program("dpkg-query", package)
    host.program("systemctl", service)
    assert findings(host) == {"fabric_manager": f"block: host: {value}"}
    assert findings(host, rules.BEFORE) == {"fabric_manager": f"install: host: {value}"}


def test_a_host_without_nvswitches_needs_no_fabric_manager(host: SimulatedHost) -> None:
    for index in range(8):
        host.pci(fake_nvml.pci_address(index))
    host.file("sys/module/nvidia/version", "580.95.05\n")
    host.answers(fake_nvml.answers(8, {"gpu.*.fabric": None, "gpu.*.nvlinks": None}))
    assert host.document()["fabric_manager"] is None
    assert findings(host) == {}


def test_xids_of_this_boot_are_found_in_the_kernels_log(host: SimulatedHost) -> None:
    hgx(host)
    host.log(
        "4,812,90000000,-;NVRM: Xid (PCI:0000:4b:00): 79, pid='<unknown>', GPU has fallen off the bus.\n"
        " SUBSYSTEM=pci\n"
        "4,813,91000000,-;NVRM: Xid (PCI:0000:1b:00): 31, pid=4711, name=python3, Ch 00000008, intr 00000000.\n"
        "4,814,92000000,-;NVRM: Xid (PCI:0000:1b:00): 31, pid=4711, name=python3, Ch 00000009, intr 00000000.\n"
    )
    found = findings(host)
    assert set(found) == {"xid_critical", "xid"}
    assert found["xid_critical"].startswith("block: GPU 3 (0000:4b:00.0): Xid 79 (GPU has fallen off the bus; ")
    assert "warn: GPU 0 (0000:1b:00.0): Xid 31, 2 times, last 20" in found["xid"]
    assert found["xid"].endswith("pid=4711, name=python3, Ch 00000009, intr 00000000.")


def test_a_log_that_has_lost_its_beginning_says_so(host: SimulatedHost) -> None:
    hgx(host)
    host.file("dev/kmsg", "6,5000,90000000,-;something\n")
    assert findings(host) == {
        "kernel_log": "warn: host: Xid errors since boot are not all known: "
        "the oldest messages of this boot are no longer in /dev/kmsg"
    }


# What must never happen: a crash, a hang, a document that cannot be read.


def test_a_hang_is_ended_in_time_and_its_gpu_and_question_are_named(host: SimulatedHost) -> None:
    hgx(host, {"gpu.5.temperature": "hang"})
    start = time.monotonic()
    health = host.health(limit_s=6)
    assert time.monotonic() - start < 30
    assert health.nvml.failure == "NVML did not answer within 6 s (asked for GPU 5: temperature_c)"
    assert len(health.gpus) == 5, "what was told before is kept"
    found = {each.check: each.severity for each in rules.findings(health, HGX, rules.AFTER) if each.severity != "ok"}
    assert found == {"nvml": "block"}, "one line, and none that follows from it"


def test_a_hang_at_the_start_of_a_host_whose_module_is_not_known_is_no_absent_driver(host: SimulatedHost) -> None:
    host.answers(fake_nvml.answers(8, {"init": "hang"}))
    found = findings(host, rules.BEFORE, limit_s=1)
    assert found["nvml"].startswith("block: ")
    assert "driver" not in found


def test_a_crash_in_nvml_is_told_with_its_signal(host: SimulatedHost) -> None:
    hgx(host, {"gpu.2.power": "crash"})
    assert findings(host)["nvml"] == "block: host: NVML crashed with SIGSEGV (asked for GPU 2: power_w)"


def test_a_process_that_still_hangs_in_nvml_keeps_further_ones_from_being_started(host: SimulatedHost) -> None:
    hgx(host)
    lock = host.root / "run/rayrack-gpu-health.lock"
    with subprocess.Popen(["flock", lock, "cat"], stdin=subprocess.PIPE) as holder:
        while subprocess.run(["flock", "-n", lock, "true"], check=False).returncode == 0:
            time.sleep(0.05)
        found = findings(host, limit_s=1)
        holder.terminate()
    assert found["nvml"] == "block: host: an earlier question to NVML has not ended within 1 s"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"gpu.3.temperature": 0xFFFFFFFF}, "temperature_c"),
        ({"gpu.3.memory_total": 0}, "memory_total_bytes"),
        ({"gpu.3.memory_used": 2**60}, "memory_total_bytes"),
        ({"gpu.3.name": "\x1b[31mH100"}, "name"),
        ({"gpu.3.name": "\udcff\udcfe"}, "name"),
        ({"gpu.3.uuid": " "}, "uuid"),
        ({"gpu.3.ecc": "7 0"}, "ecc"),
        ({"gpu.3.ecc_uncorrectable": 2**64 - 1}, "ecc_uncorrectable"),
        ({"gpu.3.nvlinks": "1x1"}, "nvlinks"),
        ({"gpu.3.fabric": "77 0"}, "fabric_state"),
        ({"gpu.3.recovery_action": 99}, "recovery_action"),
        ({"gpu.3.power_limit": 0xFFFFFFFF}, "power_limit_w"),
        ({"gpu.3.process": "3000000000 5"}, "processes"),
    ],
)
def test_nonsense_becomes_null_with_a_reason_and_a_finding(
    host: SimulatedHost, changes: dict[str, object], field: str
) -> None:
    text = fake_nvml.answers(8, changes)
    hgx(host)
    (host.directory / "nvml").write_text(text, errors="surrogateescape")
    gpu = host.document()["gpus"][3]
    assert gpu[field] is None
    assert gpu["reasons"][field]
    assert set(findings(host)) & {"nonsense", "gpu_lost"}


@pytest.mark.parametrize("count", [10**6, 0xFFFFFFFF])
def test_a_number_of_gpus_that_cannot_be_true_blocks(host: SimulatedHost, count: int) -> None:
    hgx(host, {"gpus": count})
    assert findings(host)["nvml"] == f"block: host: NVML said {count}, which cannot be true"


def test_a_program_without_its_pynvml_says_what_to_do(host: SimulatedHost) -> None:
    hgx(host)
    (host.directory / "lib/pynvml.py").unlink()
    assert "No module named 'pynvml': it travels beside this program; deploy again" in findings(host)["nvml"]


# Every minute on the host.


def test_the_last_document_and_its_metrics_are_kept_for_others_to_read(host: SimulatedHost, tmp_path: Path) -> None:
    hgx(host, {"gpu.3.slowdowns": 0x80, "gpu.3.temperature": 91})
    host.log("4,9,1,-;NVRM: Xid (PCI:0000:4b:00): 63, Row Remapper\n")
    document, metrics = tmp_path / "last.json", tmp_path / "gpu.prom"
    document.symlink_to(tmp_path / "elsewhere")
    result = host.run("--json", str(document), "--textfile", str(metrics))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert json.loads(document.read_text())["gpus"][3]["temperature_c"] == 91
    assert not (tmp_path / "elsewhere").exists(), "a link in the file's place is replaced and not followed"
    assert oct(document.stat().st_mode & 0o777) == "0o644"
    lines = metrics.read_text().splitlines()
    uuid = "GPU-00000000-0000-0000-0000-000000000003"
    assert "rayrack_gpu_nvml_up 1" in lines
    assert "rayrack_gpus 8" in lines
    assert f'rayrack_gpu_temperature_celsius{{gpu="3",uuid="{uuid}"}} 91' in lines
    assert f'rayrack_gpu_slowdown{{gpu="3",uuid="{uuid}",reason="hw_power_brake_slowdown"}} 1' in lines
    assert 'rayrack_gpu_xids{pci_address="0000:4b:00",xid="63"} 1' in lines
    assert not any("pages_pending" in line for line in lines), "what is null has no sample"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gpu.prom", "host", "last.json"]


def test_metrics_also_tell_that_nvml_does_not_answer(host: SimulatedHost, tmp_path: Path) -> None:
    host.answers(fake_nvml.answers(8, {"init": "error 9"}))
    host.run("--textfile", str(tmp_path / "gpu.prom"))
    assert "rayrack_gpu_nvml_up 0" in (tmp_path / "gpu.prom").read_text().splitlines()


def test_a_directory_that_is_not_there_is_one_line(host: SimulatedHost) -> None:
    result = host.run("--json", "/nonexistent/last.json")
    assert result.returncode == 1
    assert result.stderr.startswith("gpu_health: cannot write /nonexistent/")
    assert result.stderr.count("\n") == 1
