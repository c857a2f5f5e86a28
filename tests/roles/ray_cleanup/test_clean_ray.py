"""The clean-up against real directories and real processes."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import clean_ray
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PROGRAM = Path(clean_ray.__file__)
HOUR_S = 3600
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root sees what every process holds open")
# Names of this run's own: real sessions on this machine must not decide a test.
_numbers = count(os.getpid() * 1000)


def make_session(ray: Path, *, hours_old: float = 5) -> Path:
    session = ray / f"session_2026-11-21_18-30-00_123456_{next(_numbers)}"
    (session / "logs/old").mkdir(parents=True)
    (session / "sockets").mkdir()
    (session / "logs/raylet.out").write_text("x" * 5000)
    (session / "logs/old/deeper.log").write_text("x")
    set_age(session, hours_old)
    return session


def set_age(path: Path, hours: float) -> None:
    then = time.time() - hours * HOUR_S
    for entry in [*path.rglob("*"), path]:
        os.utime(entry, (then, then), follow_symlinks=False)


def clean(ray: Path, *arguments: str, minutes: int = 60, limits: str = "true") -> subprocess.CompletedProcess[str]:
    program = [sys.executable, PROGRAM, "--temp-dir", ray, "--min-age-minutes", str(minutes), *arguments]
    command = ["sh", "-c", f'{limits}; exec "$@"', "sh", *program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def ray(tmp_path: Path) -> Path:
    directory = tmp_path / "ray"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def process() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts processes that say when they are ready, and ends them."""
    with ExitStack() as stack:

        def start(code: str, *arguments: str, **options: object) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-c", f"{code}\nprint('ready', flush=True)\ninput()", *arguments]
            started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)  # type: ignore[call-overload]
            stack.callback(started.wait)
            stack.callback(started.kill)
            assert started.stdout.readline() == b"ready\n"
            return started  # type: ignore[no-any-return]

        yield start


@needs_root
def test_an_old_session_that_nobody_uses_is_removed_and_said_so(ray: Path) -> None:
    session = make_session(ray)
    result = clean(ray)
    assert not session.exists()
    assert re.fullmatch(
        rf"{ray}: removed 1 sessions \(\d\.\d MiB\); kept 0 in use, 0 younger than 60 min\n", result.stdout
    )
    assert (result.returncode, result.stderr) == (0, "")


# What a process may do with a session without having its name in the command line. SESSION is in the environment.
USES = {
    "an open file": "import os; held = open(os.environ['SESSION'] + '/logs/raylet.out')",
    "an open directory": "import os; held = os.open(os.environ['SESSION'], os.O_RDONLY)",
    "a file deleted since": (
        "import os; path = os.environ['SESSION'] + '/logs/raylet.out'; held = open(path); os.unlink(path)"
    ),
    # Python's own mmap keeps a descriptor; a library is mapped and its file closed.
    "a mapped library": (
        "import ctypes, os, shutil\n"
        "libc = next(line.split()[-1] for line in open('/proc/self/maps') if line.rstrip().endswith('/libc.so.6'))\n"
        "copy = shutil.copy(os.path.dirname(libc) + '/libm.so.6', os.environ['SESSION'] + '/logs/lib.so')\n"
        "held = ctypes.CDLL(copy)"
    ),
    "its working directory": "import os; os.chdir(os.environ['SESSION'] + '/logs')",
    "a socket": (
        "import os, socket; os.chdir(os.environ['SESSION'] + '/..'); held = socket.socket(socket.AF_UNIX)\n"
        "held.bind(os.path.basename(os.environ['SESSION']) + '/sockets/raylet'); os.chdir('/')"
    ),
}


@needs_root
@pytest.mark.parametrize("code", USES.values(), ids=USES)
def test_a_session_in_use_is_kept_however_old(ray: Path, process: Callable[..., object], code: str) -> None:
    used, unused = make_session(ray, hours_old=1000), make_session(ray)
    process(code, env={**os.environ, "SESSION": str(used)})
    set_age(used, 1000)
    result = clean(ray)
    assert used.is_dir()
    assert not unused.exists()
    assert "kept 1 in use" in result.stdout


@needs_root
def test_a_session_named_in_a_command_line_is_kept(ray: Path, process: Callable[..., object]) -> None:
    session = make_session(ray)
    process("", f"--session-dir={session}/")
    clean(ray)
    assert session.is_dir()


@needs_root
def test_a_session_whose_name_only_begins_like_a_live_one_is_removed(ray: Path, process: Callable[..., object]) -> None:
    session = make_session(ray)
    process("", f"{session}1")
    clean(ray)
    assert not session.exists()


@needs_root
def test_a_session_is_removed_once_its_process_has_ended_and_left_a_zombie(
    ray: Path, process: Callable[..., subprocess.Popen[bytes]]
) -> None:
    session = make_session(ray)
    user = process("", str(session))
    clean(ray)
    assert session.is_dir()
    user.kill()
    os.waitid(os.P_PID, user.pid, os.WEXITED | os.WNOWAIT)  # it has ended and nobody has collected it
    clean(ray)
    assert not session.exists()


def test_a_session_written_to_lately_is_kept_though_its_directory_is_old(ray: Path) -> None:
    session = make_session(ray, hours_old=100)
    log = session / "logs/raylet.out"
    os.utime(log, (time.time() - HOUR_S / 2,) * 2)
    assert "1 younger than 60 min" in clean(ray).stdout
    assert session.is_dir()


@needs_root
def test_a_dead_session_goes_also_when_session_latest_points_to_it(ray: Path) -> None:
    session = make_session(ray)
    (ray / "session_latest").symlink_to(session.name)
    clean(ray)
    assert not session.exists()


@needs_root
def test_what_is_not_a_session_stays(ray: Path) -> None:
    (ray / "session_by_hand").mkdir()
    (ray / "prom_metrics_service_discovery.json").write_text("[]")
    (ray / "session_2026-11-21_18-30-00_123456_1.txt").mkdir()
    (ray / "session_2026-11-21_18-30-00_123456_1").write_text("a file")
    before = sorted(ray.iterdir())
    set_age(ray, 100)
    assert clean(ray, minutes=0).returncode == 0
    assert sorted(ray.iterdir()) == before


@needs_root
def test_a_link_out_of_a_session_is_removed_and_not_followed(ray: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("precious")
    session = make_session(ray)
    (session / "logs/elsewhere").symlink_to(precious)
    (session / "file").symlink_to(precious / "file")
    set_age(session, 5)
    clean(ray)
    assert not session.exists()
    assert (precious / "file").read_text() == "precious"


@needs_root
def test_a_dry_run_says_what_would_go_and_removes_nothing(ray: Path) -> None:
    session = make_session(ray)
    assert "would remove 1 sessions" in clean(ray, "--dry-run").stdout
    assert session.is_dir()


def test_two_never_clean_at_the_same_time(ray: Path) -> None:
    session = make_session(ray)
    other = os.open(ray, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        result = clean(ray)
    finally:
        os.close(other)
    assert (result.returncode, result.stderr) == (75, f"{ray}: another clean-up is at work\n")
    assert session.is_dir()


@needs_root
def test_a_directory_of_somebody_else_is_refused(ray: Path) -> None:
    session = make_session(ray)
    os.chown(ray, 65534, 65534)
    result = clean(ray)
    assert result.returncode == 2
    assert "belongs to uid 65534, neither to rayrack nor to root" in result.stderr
    assert session.is_dir()


def test_a_link_in_place_of_the_directory_is_refused(ray: Path, tmp_path: Path) -> None:
    session = make_session(ray)
    link = tmp_path / "link"
    link.symlink_to(ray)
    result = clean(link)
    assert result.returncode == 2
    assert "not a directory that can be opened" in result.stderr
    assert session.is_dir()


def test_no_directory_is_nothing_to_do(tmp_path: Path) -> None:
    result = clean(tmp_path / "none")
    assert (result.returncode, result.stdout) == (0, f"{tmp_path}/none: not there, nothing to do\n")


@needs_root
def test_what_cannot_be_removed_is_named_and_the_others_still_go(ray: Path) -> None:
    stuck, other = make_session(ray), make_session(ray)
    # Removing by descriptors holds one for each level: more levels than a process may have open files cannot go.
    deep = stuck
    for _ in range(200):
        deep /= "d"
    deep.mkdir(parents=True)
    set_age(stuck, 5)
    result = clean(ray, limits="ulimit -n 100")
    assert f"could not remove {stuck.name}: [Errno 24] Too many open files" in result.stderr
    assert "1 could not be removed" in result.stdout
    assert result.returncode == 1
    assert not other.exists()


@needs_root
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kinds=st.lists(st.tuples(st.booleans(), st.booleans()), max_size=5))
def test_exactly_the_old_and_unused_sessions_are_removed(tmp_path: Path, kinds: list[tuple[bool, bool]]) -> None:
    ray = tmp_path / "ray"
    shutil.rmtree(ray, ignore_errors=True)
    ray.mkdir()
    sessions = {make_session(ray, hours_old=5 if old else 0.5): (old, used) for old, used in kinds}
    directory = os.open(ray, os.O_RDONLY)
    with ExitStack() as held:
        held.callback(os.close, directory)
        for session, (_, used) in sessions.items():
            if used:
                held.enter_context((session / "logs/old/deeper.log").open())
        outcome = clean_ray.clean(directory, HOUR_S, dry_run=False)
    assert {session for session in sessions if session.exists()} == {
        session for session, (old, used) in sessions.items() if used or not old
    }
    assert outcome.removed + outcome.in_use + outcome.young == len(sessions)
