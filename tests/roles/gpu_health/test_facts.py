"""The fact's command, run by a real shell."""

import importlib.machinery
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from roles.errors import InputError
from roles.gpu_health import facts
from roles.gpu_health.document import Health

# The kernel's limit of one argument (MAX_ARG_STRLEN): `sh -c COMMAND` is one.
LONGEST_ARGUMENT_BYTES = 131_072


def test_the_program_travels_with_the_question_and_leaves_nothing_behind(
    tmp_path: Path, nvml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "PYTHON", sys.executable)
    (tmp_path / "root/run").mkdir(parents=True)
    (tmp_path / "tmp").mkdir()
    command = facts.GpuHealth().command(limit_s=60).replace(" --limit", f" --root {tmp_path / 'root'} --limit")
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path / "tmp"), "LD_LIBRARY_PATH": str(nvml)}
    environment["FAKE_NVML"] = str(tmp_path / "answers")
    (tmp_path / "answers").write_text("driver 580.95.05\ngpus 0\n")
    result = subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, text=True, timeout=100, check=True, env=environment
    )
    health = facts.GpuHealth().process(result.stdout.splitlines())
    assert isinstance(health, Health), health
    assert health.nvml.driver_version == "580.95.05"
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_command_fits_into_an_argument_with_room_to_spare() -> None:
    assert len(facts.GpuHealth().command(limit_s=60)) < LONGEST_ARGUMENT_BYTES * 0.75


def test_a_fact_that_failed_is_a_reason_and_not_a_host_without_gpus() -> None:
    assert "could not be run" in str(facts.GpuHealth.default())


def test_what_else_a_login_prints_is_no_document() -> None:
    assert "cannot be read" in str(facts.GpuHealth().process(["Welcome to gpu-03!"]))


def test_nvidias_module_is_found_in_this_environment() -> None:
    assert "Redistribution and use in source and binary forms" in facts.pynvml().read_text()


def test_without_nvidias_module_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"nvidia-ml-py is not installed here.*pip install -e \."):
        facts.pynvml()


def test_another_package_of_that_name_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "pynvml.py"
    other.write_text("# somebody else's\n")
    spec = importlib.machinery.ModuleSpec("pynvml", None, origin=str(other))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    with pytest.raises(InputError, match="is not NVIDIA's"):
        facts.pynvml()
