"""Runs the clean-up as cron does, on a disk that counts as roomy."""

import os
import subprocess
import sys
from pathlib import Path

import clean_ray
import pytest

PROGRAM = Path(clean_ray.__file__)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root sees what every process holds open")
# How full this machine's disk is must not decide a test.
ROOMY = ("--eager-percent", "100", "--warn-percent", "100")


def clean(ray: Path, *arguments: str, minutes: int = 60, limits: str = "true") -> subprocess.CompletedProcess[str]:
    program = [sys.executable, PROGRAM, "--dir", ray, "--min-age-minutes", str(minutes), *ROOMY, *arguments]
    command = ["sh", "-c", f'{limits}; exec "$@"', "sh", *program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
