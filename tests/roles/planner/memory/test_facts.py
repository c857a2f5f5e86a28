"""The fact's command, run by a real shell."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from roles.planner.memory.facts import ModelFiles
from roles.storage import facts as storage
from tests.lab import tiny_models

# The kernel's limit of one argument (MAX_ARG_STRLEN): `sh -c COMMAND` is one.
LONGEST_ARGUMENT_BYTES = 131_072


@pytest.fixture(autouse=True)
def _this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's distribution may have no Python of its own."""
    monkeypatch.setattr(storage, "PYTHON", sys.executable)


def output(command: str) -> list[str]:
    result = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=20, check=True)
    return result.stdout.splitlines()


def test_the_models_of_a_host_are_described_in_one_go(tmp_path: Path) -> None:
    tiny_models.write(tiny_models.MODELS[0], tmp_path)
    found = ModelFiles().process(output(ModelFiles().command([str(tmp_path), "Qwen/Qwen3-8B"], str(tmp_path))))
    tiny = found[str(tmp_path)]
    assert tiny.shape is not None
    assert tiny.weights is not None
    assert tiny.weights.total == tiny.shape.parameters.total * 2
    assert tiny.weights.by_dtype == {"BF16": tiny.weights.total}
    assert found["Qwen/Qwen3-8B"].reasons == ("Qwen/Qwen3-8B: is not on this host",)


def test_a_config_that_is_none_of_a_language_model_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    found = ModelFiles().process(output(ModelFiles().command([str(tmp_path)], "/nowhere")))[str(tmp_path)]
    assert (found.shape, found.weights) == (None, None)
    assert found.reasons == (
        f"{tmp_path}: has no weights (*.safetensors, pytorch_model*.bin, *.gguf)",
        f"{tmp_path}/config.json: num_hidden_layers: missing: this is not the config.json of a language model",
    )


def test_a_host_without_python_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PYTHON", "/nonexistent/python3")
    assert ModelFiles().process(output(ModelFiles().command(["/m"], "/"))) == {}
    assert ModelFiles.default() == {}


def test_the_command_fits_into_an_argument_with_room_to_spare() -> None:
    sources = [f"/srv/models/{'x' * 200}-{index}" for index in range(100)]
    assert len(ModelFiles().command(sources, "/var/lib/rayrack/models")) < LONGEST_ARGUMENT_BYTES / 2
