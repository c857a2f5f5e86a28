"""Downloads wheels for a host with the pip of the running interpreter, for a Python and machine of the host's kind."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from roles.errors import InputError
from roles.serving_runtime.lock import MACHINE
from roles.settings import Settings

# The glibc of Debian 12 is 2.36, and no distribution a host may have is older (manylinux tags name a glibc: PEP 600).
GLIBC_MINOR = 36
TIME_LIMIT_S = 3600

PYTORCH_INDEX: str = Settings.model_fields["runtime_cpu_torch_index_url"].default
# torch's CPU build: from where pip is told to look, else from PyTorch's own index. That index is asked for torch
# alone, since it carries old copies of other packages as well.
CPU_TORCH_SOURCES = (("--no-index",), ("--index-url", PYTORCH_INDEX))


def download(requirements: Path, directory: Path, python_minor: str, sources: Sequence[Sequence[str]] = ((),)) -> None:
    """Download the wheels of a requirements file into ``directory``, from the first of ``sources`` that has them all.

    ``sources`` are options of pip. Raises InputError with pip's own last error.
    """
    if importlib.util.find_spec("pip") is None:
        raise InputError(f"{sys.executable} has no pip: run `{sys.executable} -m ensurepip`, then try again")
    directory.mkdir(parents=True, exist_ok=True)
    reason = ""
    for source in sources:
        command: list[str | Path] = [sys.executable, "-m", "pip", "download", "--quiet", "--no-cache-dir", "--no-deps"]
        command += [*_host_platform(python_minor), *source, "--dest", directory, "--requirement", requirements]
        # pip collects in $TMPDIR and moves to --dest at the end: on the same file system, and not in a small /tmp
        result = subprocess.run(
            command,
            env={**os.environ, "TMPDIR": str(requirements.parent)},
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_S,
            check=False,
        )
        if result.returncode == 0:
            return
        reason = _reason(result.stderr)
    raise InputError(f"pip download: {reason}")


def _reason(output: str) -> str:
    """pip's last error; of wheels with another hash it names the first in the line after that."""
    if mismatch := re.search(r"DO NOT MATCH THE HASHES.*\n\s+(\S+)", output):
        return f"hash mismatch: the file found for {mismatch[1]} is not the one that the lock pins"
    errors = [line.removeprefix("ERROR: ") for line in output.splitlines() if line.startswith("ERROR: ")]
    return errors[-1] if errors else "no reason given"


def _host_platform(python_minor: str) -> list[str]:
    """Options that make pip choose wheels for a host instead of this machine. pip takes each glibc tag literally."""
    tags = [f"manylinux_2_{minor}_{MACHINE}" for minor in range(GLIBC_MINOR, 4, -1)]
    tags += [f"manylinux{name}_{MACHINE}" for name in ("2014", "2010", "1")] + [f"linux_{MACHINE}"]
    platforms = [option for tag in tags for option in ("--platform", tag)]
    return ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python_minor, *platforms]
