"""Fills a directory with every wheel of a lock, so that hosts need no package index.

    python -m roles.serving_runtime.wheelhouse --runtime cuda --python 3.11 --dir /srv/wheelhouse

One directory serves one lock: wheels that are not in it are removed. A second run checks and downloads nothing.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path

from roles.errors import InputError
from roles.serving_runtime.lock import MACHINE, PYTHON_VERSIONS, RUNTIMES, Runtime, lock_for
from roles.serving_runtime.pip_download import CPU_TORCH_SOURCES, download

# Host modules are imported by plain name, here as on a host.
sys.path.insert(0, str(Path(__file__).parent / "host"))
from lock_wheels import Pin, Wheels, find_wheels, read_lock

# What one pip brings before its wheels are kept: an interrupted run loses no more than that, per pip at work.
BATCH = 10
AT_ONCE = 4
PROGRESS_EVERY_S = 10


def fill(runtime: Runtime, python_minor: str, directory: Path) -> None:
    """Bring ``directory`` to exactly the wheels of the lock."""
    lock = lock_for(runtime, MACHINE, python_minor)
    pins = read_lock(lock.path.read_text())
    directory.mkdir(parents=True, exist_ok=True)
    print(f"{directory}: checking for the {len(pins)} wheels of {lock.path.name}", flush=True)
    found = find_wheels(pins, directory, python_minor)
    if found.problems:
        _download_missing([pin for pin in pins if pin.name not in found.files], directory, python_minor)
        found = find_wheels(pins, directory, python_minor)
    if found.problems:
        raise InputError(found.problems)
    _remove_others(found, directory)
    print(f"{directory}: complete, {len(found.files)} wheels, {_megabytes(found.files.values())} MB", flush=True)


def _download_missing(pins: list[Pin], directory: Path, python_minor: str) -> None:
    cpu_torch = [pin for pin in pins if pin.name == "torch" and pin.version.endswith("+cpu")]
    others = [pin for pin in pins if pin not in cpu_torch]
    batches = [others[start : start + BATCH] for start in range(0, len(others), BATCH)]
    with (
        tempfile.TemporaryDirectory(dir=directory, prefix=".download-") as temporary,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):

        def start(name: str, batch: list[Pin], sources: Sequence[Sequence[str]]) -> "Future[None]":
            requirements = Path(temporary) / name
            requirements.write_text("\n".join(pin.requirement() for pin in batch) + "\n")
            return pool.submit(download, requirements, directory, python_minor, sources)

        pending = {start(f"{number}.txt", batch, ((),)) for number, batch in enumerate(batches)}
        if cpu_torch:
            pending.add(start("torch.txt", cpu_torch, CPU_TORCH_SOURCES))
        _wait(pending, directory)


def _wait(pending: "set[Future[None]]", directory: Path) -> None:
    """Until all are done or one failed; a line every 10 s."""
    started = time.monotonic()
    while pending:
        done, pending = wait(pending, timeout=PROGRESS_EVERY_S, return_when=FIRST_EXCEPTION)
        wheels = list(directory.glob("*.whl"))
        print(f"{len(wheels)} wheels, {_megabytes(wheels)} MB, {time.monotonic() - started:.0f} s", flush=True)
        if any(future.exception() for future in done):
            for future in pending:
                future.cancel()
        for future in done:
            future.result()


def _remove_others(found: Wheels, directory: Path) -> None:
    wanted = set(found.files.values())
    for path in sorted(directory.glob("*.whl")):
        if path not in wanted:
            print(f"removing {path.name}: not in the lock", flush=True)
            path.unlink()


def _megabytes(paths: Iterable[Path]) -> int:
    return round(sum(path.stat().st_size for path in paths) / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description="Fill a directory with every wheel of a runtime's lock.")
    parser.add_argument("--runtime", choices=RUNTIMES, required=True)
    parser.add_argument("--python", choices=PYTHON_VERSIONS, default="3.11", help="of the hosts (default: %(default)s)")
    parser.add_argument("--dir", type=Path, required=True, help="where the wheels go")
    arguments = parser.parse_args()
    try:
        fill(arguments.runtime, arguments.python, arguments.dir)
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
