"""The clean-up against real directories and real processes."""

import fcntl
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import clean_ray
import pytest
from clean_ray_uses import Uses

from roles.settings import Settings
from tests.roles.ray_cleanup.running import clean, needs_root
from tests.roles.ray_cleanup.trees import HOUR_S, MIB, limits, make_file, make_session, set_age


@needs_root
def test_an_old_session_that_nobody_uses_is_removed_and_said_so(ray: Path) -> None:
    session = make_session(ray)
    result = clean(ray)
    assert not session.exists()
    assert re.fullmatch(
        rf"{ray}: removed 1 sessions, 0 spill directories and 0 logs, cut 0 logs \(\d\.\d MiB\); "
        r"kept 0 sessions in use, 0 younger than 60 min; file system \d+ % full\n",
        result.stdout,
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
    assert "kept 1 sessions in use" in result.stdout


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
def test_a_report_says_what_would_go_and_why_and_removes_nothing(ray: Path, process: Callable[..., object]) -> None:
    dead, young, used = make_session(ray), make_session(ray, hours_old=0.5), make_session(ray)
    old = make_file(used / "logs/old.log", size=MIB, hours_old=200)
    process("", str(used))
    before = sorted(ray.rglob("*"))
    result = clean(ray, "--report", "--textfile-dir", str(ray))
    lines = result.stdout.splitlines()
    assert f"would remove {dead.name} (0.0 MiB): no process uses it, last written to 5 h ago" in lines
    assert f"would keep {young.name}: last written to 30 min ago" in lines
    assert any(re.fullmatch(rf"would keep {used.name}: used by python.* \(pid \d+\)", line) for line in lines)
    assert f"would remove {used.name}/logs/{old.name} (1.0 MiB): nobody has it open, last written to 200 h ago" in lines
    assert re.fullmatch(rf"{ray}: would free 1.0 MiB; file system \d+ % full", lines[-1])
    assert (len(lines), result.returncode, sorted(ray.rglob("*"))) == (5, 0, before)


@needs_root
def test_a_report_needs_no_lock(ray: Path) -> None:
    other = os.open(ray, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert clean(ray, "--report").returncode == 0
    finally:
        os.close(other)


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
def test_a_session_goes_however_deep_it_is(ray: Path) -> None:
    deep = make_session(ray)
    levels = deep
    for _ in range(200):
        levels /= "d"
    levels.mkdir(parents=True)
    make_file(levels / "file")
    set_age(deep, 5)
    assert (clean(ray, limits="ulimit -n 100").returncode, deep.exists()) == (0, False)


def test_what_somebody_takes_hold_of_after_the_first_look_stays(ray: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean_ray, "LOOK_VALID_S", -1)
    taken, living = make_session(ray, hours_old=1000), make_session(ray, hours_old=1000)
    make_file(living / "ray_spilled_objects_ab/object")
    set_age(living, 1000)
    at_first = Uses({living.name: "raylet (pid 1)"}, {}, {}, {})
    paths = [f"{living.name}/logs/raylet.out", f"{living.name}/logs/old/deeper.log"]
    later = Uses(
        {taken.name: "bash (pid 2)", **at_first.sessions}, {paths[0]: "x"}, {paths[1]: "x"}, {"ab": "raylet (pid 1)"}
    )
    looks = iter([at_first, at_first])
    directory = os.open(ray, os.O_RDONLY)
    try:
        outcome = clean_ray.clean(directory, limits(), lambda: next(looks, later))
    finally:
        os.close(directory)
    assert (outcome.done.total(), outcome.in_use, outcome.young) == (0, 2, 0)
    assert [path for path in (taken, *(ray / path for path in paths)) if not path.exists()] == []


# --- a disk that fills ------------------------------------------------------------------------------------------


@needs_root
def test_a_full_disk_is_warned_of_on_stderr_and_in_the_metrics(ray: Path, tmp_path: Path) -> None:
    result = clean(ray, "--eager-percent", "1", "--warn-percent", "1", "--textfile-dir", str(tmp_path))
    assert re.fullmatch(
        rf"{ray}: its file system is above 1 % after the clean-up \(\d+ % full, [\d.]+ GiB available; 0.0 GiB in "
        rf"{ray}\), and Ray refuses objects from 95 % on: free space there, make it larger, "
        r"or give Ray a file system of its own\n",
        result.stderr,
    )
    assert result.returncode == 0
    metrics = tmp_path / "rayrack_clean_ray.prom"
    assert f'rayrack_ray_disk_warning{{directory="{ray}"}} 1\n' in metrics.read_text()
    assert clean(ray, "--textfile-dir", str(tmp_path)).stderr == ""
    assert f'rayrack_ray_disk_warning{{directory="{ray}"}} 0\n' in metrics.read_text()


@needs_root
def test_above_the_threshold_a_session_that_has_just_died_goes_too(ray: Path, process: Callable[..., object]) -> None:
    young, starting, used = (make_session(ray, hours_old=hours) for hours in (0.2, 0, 5))
    process("", str(used))
    rotated = make_file(used / "logs/raylet.1.out", size=MIB, hours_old=1)
    clean(ray, "--eager-percent", "1")
    assert [path.exists() for path in (young, starting, used, rotated)] == [False, True, True, False]


@needs_root
def test_metrics_without_a_place_are_one_line_and_the_clean_up_is_done(ray: Path, tmp_path: Path) -> None:
    session = make_session(ray)
    result = clean(ray, "--textfile-dir", str(tmp_path / "none"))
    assert (
        result.stderr == f"{tmp_path}/none: no metrics written (No such file or directory); make it, or set another\n"
    )
    assert (result.returncode, session.exists()) == (1, False)


# --- the command line -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--min-age-minutes", "-1"),
        ("--log-max-age-hours", "soon"),
        ("--warn-percent", "nan"),
        ("--eager-percent", "101"),
    ],
)
def test_an_impossible_value_is_one_line(ray: Path, option: str, value: str) -> None:
    result = clean(ray, option, value)
    assert re.fullmatch(
        rf".*: error: argument {option}: must be a number from .* to .*, not '{value}'\n", result.stderr
    )
    assert result.returncode == 2


def test_without_options_the_program_does_what_the_settings_default_to() -> None:
    defaults = vars(clean_ray.arguments().parse_args(["--dir", "/tmp/ray"]))
    settings = Settings()
    assert {name: value for name, value in defaults.items() if name not in ("dir", "report", "textfile_dir")} == {
        "min_age_minutes": settings.clean_ray_min_age_minutes,
        "log_max_age_hours": settings.clean_ray_log_max_age_hours,
        "log_budget_mib": settings.clean_ray_log_budget_mib,
        "runaway_log_mib": settings.clean_ray_runaway_log_mib,
        "eager_percent": settings.clean_ray_eager_percent,
        "warn_percent": settings.clean_ray_warn_percent,
    }
