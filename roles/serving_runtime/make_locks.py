"""Makes the locks again (`make lock`), or a new one, with uv.

python -m roles.serving_runtime.make_locks [--runtime cpu] [--python 3.12] [--upgrade]
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from roles.errors import InputError
from roles.serving_runtime.lock import (
    LOCKS,
    MACHINE,
    PYTHON_VERSIONS,
    RUNTIMES,
    Runtime,
    digest_of,
    path_of,
    pins,
    requirements_of,
)
from roles.serving_runtime.pip_download import CPU_TORCH_SOURCES, GLIBC_MINOR, download

CPU_OVERRIDES = "cpu-overrides.txt"


def make(runtime: Runtime, python_minor: str, upgrade: bool) -> None:
    """Write one lock. Without ``upgrade`` the versions already in it stay as far as the requirements allow."""
    path = path_of(runtime, python_minor)
    platform = f"{MACHINE}-manylinux_2_{GLIBC_MINOR}"
    command: list[str | Path] = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-config"]
    command += ["--python-version", python_minor, "--python-platform", platform, "--only-binary", ":all:"]
    command += ["--generate-hashes", "--no-emit-index-url", "--no-emit-find-links"]
    command += ["--custom-compile-command", "make lock", *(["--upgrade"] if upgrade else [])]
    with tempfile.TemporaryDirectory() as directory:
        # uv notes in the lock where a requirement comes from: run there, so that it notes no path of this machine
        shutil.copy(requirements_of(runtime), directory)
        if runtime == "cpu":
            shutil.copy(LOCKS / CPU_OVERRIDES, directory)
            command += ["--override", CPU_OVERRIDES, "--find-links", _cpu_torch(Path(directory), python_minor)]
        command += ["--output-file", path, requirements_of(runtime).name]
        result = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=900)
    if result.returncode != 0:
        lines = (line.strip() for line in result.stderr.splitlines())
        raise InputError(f"{path.name}: " + "; ".join(line for line in lines if line))
    print(f"{path.name}: {path.read_text().count('==')} packages, digest {digest_of(path)}", flush=True)


def _cpu_torch(directory: Path, python_minor: str) -> Path:
    """A directory with the wheel of torch's CPU build, whose metadata and hash the lock needs."""
    wanted = directory / "torch.in"
    wanted.write_text(f"torch=={pins('cpu')['torch']}\n")
    download(wanted, directory / "torch", python_minor, sources=CPU_TORCH_SOURCES)
    return directory / "torch"


def wanted_locks(runtime: str | None, python_minor: str | None) -> Iterator[tuple[Runtime, str]]:
    """The locks a command is about; without a choice, those the repository has."""
    for name in RUNTIMES:
        for minor in PYTHON_VERSIONS:
            chosen = runtime in (None, name) and python_minor in (None, minor)
            named = runtime is not None and python_minor is not None
            if chosen and (named or path_of(name, minor).is_file()):
                yield name, minor


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the locks of the serving runtimes again, or a new one.")
    parser.add_argument("--runtime", choices=RUNTIMES)
    parser.add_argument("--python", choices=PYTHON_VERSIONS)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions the requirements allow")
    arguments = parser.parse_args()
    try:
        for runtime, minor in wanted_locks(arguments.runtime, arguments.python):
            make(runtime, minor, arguments.upgrade)
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
