from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.deploy import deploy
from pyinfra.api.exceptions import PyinfraError

from roles.gpu_health import facts, steps
from roles.gpu_health.expected import Expected
from tests.roles.fake_host import Change, changes
from tests.roles.gpu_health.test_rules import gpu, health

REASON = {"reason": "GPU 3 is replaced on Friday"}
WELL = health().model_dump_json()
ILL = health([gpu(0, remap_failed=True), gpu(1)]).model_dump_json()


def installed(override: dict[str, str] | None = None, responses: dict[str, Any] | None = None) -> dict[str, Change]:
    return changes(
        steps.install, responses or {}, pynvml=facts.pynvml(), metrics_dir="/var/lib/metrics", override=override
    )


@deploy("Gate")
def gate(**arguments: Any) -> None:
    steps.gate(name="gate", expected=Expected(gpus=2, gpu_model="H100"), timeout_s=60, **arguments)


def gated(document: str, *, override: dict[str, str] | None = None, is_head: bool = False) -> dict[str, Change]:
    return changes(gate, {"gpu_health.pyz": document}, override=override, is_head=is_head)


def test_the_program_is_put_beside_all_it_imports() -> None:
    change = installed()["Program of the health gate"]
    assert [Path(path).name for path in change.files] == [
        "gpu_nvml.py",
        "gpu_kernel_log.py",
        "gpu_metrics.py",
        "host_info.py",
        "pynvml.py",
        "gpu_health.py",
    ]
    assert change.commands[-1] == "ln -s /opt/rayrack/lib/gpu_health.py /opt/rayrack/bin/gpu_health"


def test_cron_runs_it_every_minute_and_keeps_document_and_metrics() -> None:
    (entry,) = installed()["Cron entry of the GPUs' health"].files.values()
    assert entry.splitlines()[1:] == [
        "* * * * * root systemd-cat -t rayrack-gpu-health timeout --verbose -k 5 55 "
        "/opt/rayrack/bin/gpu_health --limit 45 --json /var/lib/rayrack/gpu_health.json "
        "--textfile /var/lib/metrics/rayrack_gpu_health.prom"
    ]
    assert entry.endswith("\n"), "cron ignores an entry without a newline at its end"


def test_an_override_is_written_to_the_host_and_its_journal_with_its_reason() -> None:
    changed = installed(REASON)
    assert changed["Override of the health gate"].files == {
        "/etc/rayrack/gpu_health_override.json": '{"reason": "GPU 3 is replaced on Friday"}\n'
    }
    (line,) = changed["Override of the health gate, in the journal"].commands
    assert line.startswith("logger -t rayrack-gpu-health -p user.warning -- ")
    assert "GPU 3 is replaced on Friday" in line


def test_a_reason_is_no_shell_command() -> None:
    (line,) = installed({"reason": "it's $(reboot) `time`"})["Override of the health gate, in the journal"].commands
    assert line.endswith("""'"'"'s $(reboot) `time`'""")


def test_without_an_override_none_is_left_on_the_host() -> None:
    assert "Override of the health gate" not in installed()


def test_a_host_that_is_well_passes_and_is_not_changed() -> None:
    assert gated(WELL) == {}


def test_a_blocked_host_fails_with_one_block_of_lines(caplog: pytest.LogCaptureFixture) -> None:
    # The only host of this run: pyinfra ends it when none is left.
    with pytest.raises(PyinfraError, match="No hosts remaining"):
        gated(ILL)
    (record,) = [record for record in caplog.records if "health gate" in record.getMessage()]
    assert "gpu-01: blocked by the health gate\n        block remap_failed: GPU 0" in record.getMessage()


def test_a_blocked_head_stops_the_whole_run(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(PyinfraError, match="No hosts remaining"):
        gated(ILL, is_head=True)
    assert "the run stops here:\n    @fake/gpu-01: blocked by the health gate" in caplog.text


def test_an_override_lets_a_blocked_host_pass() -> None:
    assert gated(ILL, override=REASON, is_head=True) == {}


def test_a_document_that_cannot_be_read_blocks(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(PyinfraError, match="No hosts remaining"):
        gated("no document")
    assert "cannot be read" in caplog.text


@deploy("Rack")
def rack(problems: list[str]) -> None:
    steps.rack_still_holds(name="rack", problems=lambda: problems)


def test_the_run_stops_when_the_models_lose_their_hosts(caplog: pytest.LogCaptureFixture) -> None:
    assert changes(rack, {}, problems=[]) == {}
    with pytest.raises(PyinfraError, match="No hosts remaining"):
        changes(rack, {}, problems=["without gpu-02: models[0]: no room"])
    assert "the run stops here:\n    without gpu-02: models[0]: no room" in caplog.text
