"""An engine's environment gets its secrets when Python starts, and no value of them passes through Serve."""

import json
import os
import subprocess
import sys
from pathlib import Path

ENGINE_ENVIRONMENT = Path(__file__).parents[4] / "roles/model_serving/host/engine_environment"


def python(credentials: Path, secrets: dict[str, str]) -> subprocess.CompletedProcess[str]:
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ENGINE_ENVIRONMENT),
        "CREDENTIALS_DIRECTORY": str(credentials),
        "RAYRACK_SECRETS": json.dumps(secrets),
    }
    code = "import os, subprocess, sys; print(os.environ.get('HF_TOKEN')); print('started')"
    return subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)


def test_a_secret_is_read_from_the_nodes_credentials(tmp_path: Path) -> None:
    (tmp_path / "secrets_hub.token").write_text("hf_value\n")
    assert python(tmp_path, {"HF_TOKEN": "hub.token"}).stdout.splitlines() == ["hf_value", "started"]


def test_a_missing_secret_is_told_and_the_process_starts(tmp_path: Path) -> None:
    result = python(tmp_path, {"HF_TOKEN": "hub.token"})
    assert result.stdout.splitlines() == ["None", "started"]
    assert "HF_TOKEN is not set: no secret hub.token for this node's unit" in result.stderr


def test_a_process_without_secrets_is_left_alone(tmp_path: Path) -> None:
    result = python(tmp_path, {})
    assert result.stderr == ""
