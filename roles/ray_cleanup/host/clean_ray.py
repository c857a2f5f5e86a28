#!/usr/bin/python3 -EsB
"""Keeps Ray's temporary directory from filling the disk. Standard library only; run by cron as root.

Ray never deletes a session, and neither a session's age nor the link session_latest tells whether it is in use; with a
persistent GCS a name comes back after years. In use is what a running process names or holds open
(clean_ray_uses.py); what goes is decided in clean_ray_plan.py and done in clean_ray_files.py.

Exit status: 0 done, also when there was nothing to do; 1 something could not be removed or written; 2 refused;
75 another one is at work (EX_TEMPFAIL of sysexits.h).
"""

import argparse
import fcntl
import math
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import clean_ray_files as files
import clean_ray_metrics as metrics
import clean_ray_uses as processes
from clean_ray_plan import MIB, Action, FileSystem, Limits, Session, ago, plan
from clean_ray_uses import RefusedError, Uses

# What is in use is looked up again before a removal once the last look is older than this.
LOOK_VALID_S = 1.0
# Ray refuses objects that do not fit into memory from here on (local_fs_capacity_threshold in ray_config_def.h).
RAY_REFUSES_PERCENT = 95
DONE, FAILED, REFUSED, BUSY = 0, 1, 2, 75


@dataclass
class Outcome:
    """What became of the plan."""

    done: Counter[str] = field(default_factory=Counter)
    """How many, by kind of action."""
    freed_bytes: int = 0
    in_use: int = 0
    young: int = 0
    failed: int = 0


class Look:
    """What is in use, never older than a second when it is asked."""

    def __init__(self, look: Callable[[], Uses]) -> None:
        self._look, self._at, self._uses = look, time.monotonic(), look()

    @property
    def uses(self) -> Uses:
        if time.monotonic() - self._at > LOOK_VALID_S:
            self._at, self._uses = time.monotonic(), self._look()
        return self._uses


def in_use_by_now(action: Action, uses: Uses) -> bool:
    """Whether somebody has taken hold of something since it was planned to go."""
    if action.kind == "session":
        return uses.of_session(action.session) is not None
    if action.kind == "spill":
        spill = files.SPILL.fullmatch(action.path)
        return spill is None or files.user_of_spill(action.session, spill, uses) is not None
    return action.kind == "log" and uses.of_file(action.full_path) is not None


def carry_out(directory: int, actions: list[Action], look: Look) -> Outcome:
    """Do what was planned, and go on after what cannot be done."""
    outcome = Outcome()
    for action in actions:
        try:
            if in_use_by_now(action, look.uses):
                outcome.in_use += action.kind == "session"
                continue
            if action.kind == "log":
                files.remove_log(directory, action.full_path)
            elif action.kind == "cut":
                files.cut_log(directory, action.full_path)
            else:
                files.remove_tree(directory, action.full_path)
        except files.ChangedError:
            continue
        except OSError as error:
            outcome.failed += 1
            print(f"could not {action.verb} {action.full_path}: {error}", file=sys.stderr)
        else:
            outcome.done[action.kind] += 1
            outcome.freed_bytes += action.bytes
    return outcome


def clean(directory: int, limits: Limits, look_at_processes: Callable[[], Uses] = processes.look) -> Outcome:
    """Look, plan, and carry it out."""
    look = Look(look_at_processes)
    found = files.sessions(directory, look.uses, time.time())
    actions = plan(found, files.file_system(directory), limits)
    outcome = carry_out(directory, actions, look)
    outcome.in_use += sum(session.used_by is not None for session in found)
    outcome.young = kept_dead(found, actions)
    return outcome


def kept_dead(found: list[Session], actions: list[Action]) -> int:
    """Dead sessions that nobody wants to remove yet."""
    return sum(session.used_by is None for session in found) - sum(action.kind == "session" for action in actions)


# --- what is said -----------------------------------------------------------------------------------------------


def summary(outcome: Outcome, disk: FileSystem, limits: Limits) -> str:
    done = outcome.done
    return (
        f"removed {done['session']} sessions, {done['spill']} spill directories and {done['log']} logs, "
        f"cut {done['cut']} logs ({outcome.freed_bytes / MIB:.1f} MiB); "
        f"kept {outcome.in_use} sessions in use, {outcome.young} younger than {limits.min_age_s / 60:g} min; "
        + (f"{outcome.failed} could not be removed; " if outcome.failed else "")
        + f"file system {disk.used_percent:.0f} % full"
    )


def warning(path: str, directory: int, disk: FileSystem, limits: Limits) -> str | None:
    """One line when the file system is too full although all that is dead has gone."""
    if not disk.is_above(limits.warn_percent):
        return None
    of_ray = sum(state.st_blocks * 512 for _, state in files.walk(directory, ".", "."))
    if disk.used_percent > limits.warn_percent:
        full = f"{disk.used_percent:.0f} % full, {disk.available_bytes / 2**30:.1f} GiB available"
    else:
        full = f"{disk.inodes_used_percent:.0f} % of its inodes are used"
    return (
        f"{path}: its file system is above {limits.warn_percent:g} % after the clean-up ({full}; "
        f"{of_ray / 2**30:.1f} GiB in {path}), and Ray refuses objects from {RAY_REFUSES_PERCENT} % on: "
        "free space there, make it larger, or give Ray a file system of its own"
    )


def write_metrics(textfile_dir: str, path: str, outcome: Outcome, disk: FileSystem, limits: Limits) -> None:
    """For the node exporter; why that failed is said in one line.

    Raises:
        OSError: the file cannot be written.
    """
    values = {
        "rayrack_ray_disk_used_ratio": disk.used_percent / 100,
        "rayrack_ray_disk_inodes_used_ratio": disk.inodes_used_percent / 100,
        "rayrack_ray_disk_warning": int(disk.is_above(limits.warn_percent)),
        "rayrack_clean_ray_last_run_timestamp_seconds": time.time(),
        "rayrack_clean_ray_freed_bytes": outcome.freed_bytes,
        "rayrack_clean_ray_failures": outcome.failed,
    }
    sessions = {"in_use": outcome.in_use, "young": outcome.young}
    metrics.write(Path(textfile_dir), metrics.text(path, values, sessions))


def report(path: str, directory: int, limits: Limits) -> None:
    """Say what would be removed and why, and why the other sessions stay."""
    found = files.sessions(directory, processes.look(), time.time())
    disk = files.file_system(directory)
    actions = plan(found, disk, limits)
    for action in actions:
        print(f"would {action}")
    going = {action.session for action in actions if action.kind == "session"}
    for session in found:
        if session.name not in going:
            who = f"used by {session.used_by}" if session.used_by else f"last written to {ago(session.age_s)}"
            print(f"would keep {session.name}: {who}")
    freed = sum(action.bytes for action in actions) / MIB
    print(f"{path}: would free {freed:.1f} MiB; file system {disk.used_percent:.0f} % full")


# --- the program ------------------------------------------------------------------------------------------------


def run(path: str, limits: Limits, textfile_dir: str | None, *, only_report: bool) -> int:
    """Clean one directory, print one line, and return the exit status."""
    try:
        directory = files.open_directory(path)
        if directory is None:
            print(f"{path}: not there, nothing to do")
            return DONE
        if only_report:
            report(path, directory, limits)
            return DONE
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{path}: another clean-up is at work", file=sys.stderr)
            return BUSY
        return tell(path, directory, clean(directory, limits), limits, textfile_dir)
    except RefusedError as error:
        print(f"{path}: {error}", file=sys.stderr)
        return REFUSED


def tell(path: str, directory: int, outcome: Outcome, limits: Limits, textfile_dir: str | None) -> int:
    """The line of the run, the warning and the metrics of the file system as it is now; the exit status."""
    disk = files.file_system(directory)
    print(f"{path}: {summary(outcome, disk, limits)}")
    if too_full := warning(path, directory, disk, limits):
        print(too_full, file=sys.stderr)
    if textfile_dir:
        try:
            write_metrics(textfile_dir, path, outcome, disk, limits)
        except OSError as error:
            print(f"{textfile_dir}: no metrics written ({error.strerror}); make it, or set another", file=sys.stderr)
            return FAILED
    return FAILED if outcome.failed else DONE


def number(low: float, high: float) -> Callable[[str], float]:
    """A number of the command line within limits, both included."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be a number from {low:g} to {high:g}, not {text!r}")
        return value

    return parse


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Keep Ray's directory from filling the disk.", usage=argparse.SUPPRESS)
    parser.add_argument("--dir", required=True, help="Ray's temporary directory")
    parser.add_argument("--report", action="store_true", help="say what would be removed and why; remove nothing")
    for name, default, low, high, meaning in (
        ("--min-age-minutes", 60, 0, 10**9, "leave a dead session alone that was written to since then"),
        ("--log-max-age-hours", 168, 0, 10**9, "remove logs that nobody has open after this time"),
        ("--log-budget-mib", 10240, 0, 10**9, "remove the oldest of them above this size of all logs together"),
        ("--runaway-log-mib", 1024, 2, 10**9, "cut a log in use above this size"),
        ("--eager-percent", 80, 1, 100, "remove more while the file system is fuller than this"),
        ("--warn-percent", 90, 1, 100, "warn when it still is fuller than this"),
    ):
        parser.add_argument(name, type=number(low, high), default=default, metavar="N", help=f"{meaning} ({default})")
    parser.add_argument("--textfile-dir", help="directory of the node exporter's textfile collector; none: no metrics")
    return parser


def main() -> int:
    options = arguments().parse_args()
    limits = Limits(
        min_age_s=options.min_age_minutes * 60,
        log_max_age_s=options.log_max_age_hours * 3600,
        log_budget_bytes=int(options.log_budget_mib * MIB),
        runaway_log_bytes=int(options.runaway_log_mib * MIB),
        eager_percent=options.eager_percent,
        warn_percent=options.warn_percent,
    )
    return run(options.dir, limits, options.textfile_dir, only_report=options.report)


if __name__ == "__main__":
    sys.exit(main())
