"""A directory for Ray, and real processes that use it."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest


@pytest.fixture
def ray(tmp_path: Path) -> Path:
    directory = tmp_path / "ray"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def process() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts processes that say when they are ready, and ends them."""
    with ExitStack() as stack:

        def start(
            code: str, *arguments: str, first_line: str = "", then: str = "", **options: object
        ) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-c", f"{code}\nprint('ready', flush=True)\ninput()\n{then}", *arguments]
            started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)  # type: ignore[call-overload]
            stack.callback(started.wait)
            stack.callback(started.kill)
            if first_line:  # not in the command line, where it would be named
                started.stdin.write(first_line.encode() + b"\n")
                started.stdin.flush()
            assert started.stdout.readline() == b"ready\n"
            return started  # type: ignore[no-any-return]

        yield start
