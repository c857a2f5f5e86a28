#!/usr/bin/python3 -EsB
"""rayrack's own nftables table: tried before it is trusted, loaded at boot, put back when it is gone.

    firewall try FILE      load FILE for a minute, and print the name that `confirm` takes
    firewall confirm NAME  keep what is being tried, from now on and at every boot
    firewall load          load what was confirmed
    firewall keep          load it where the table is gone or was changed, and say so
    firewall status        is the table as confirmed? If not, one line says why
    firewall rollback      end the trial: back to what was confirmed, or to no table (a timer of `try` runs this)

Exit status: 0 done; 1 refused or failed, with one line that says why. Every change is one transaction of the kernel's,
and none touches another table. Runs on the host as root: standard library and nft.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TABLE = ("inet", "rayrack")
CONFIRMED = Path("/etc/rayrack/firewall.nft")
# Gone after a reboot, as are the table and a trial.
RUN = Path("/run/rayrack-firewall")
TRIAL, TRIED_RULES, LOADED, LOCK = (RUN / name for name in ("trial.json", "trial.nft", "loaded.json", "lock"))
ROLLBACK = "rayrack-firewall-rollback"
TRIAL_S = 60
# What a timer of systemd's may be late by, under load; then `keep` ends the trial.
GRACE_S = 15
LIMIT_S = 30
SBIN = ":/usr/sbin:/sbin"  # not everybody's PATH has them
PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
# The line of the rules that says which range they were made for.
MADE_FOR = re.compile(r"^# ip_local_port_range: (\d+)-(\d+)$", re.MULTILINE)


class RefusedError(Exception):
    """The host is not as it must be, or a program failed; the message is one line."""


class Trial(NamedTuple):
    """What is being tried, and until when on the clock of ``time.monotonic``, which all processes share."""

    name: str
    until: float


def try_rules(file: Path) -> str:
    """Load a candidate that takes itself back. The way back is there before the candidate is."""
    text = file.read_text()
    run("nft", "-c", "-f", str(file))
    trial = Trial(digest(text)[:16], time.monotonic() + TRIAL_S)
    with locked():
        disarm()  # of an earlier trial, whose run was interrupted: the way back is the same
        write(TRIED_RULES, text)
        write(TRIAL, json.dumps(trial._asdict()))
        try:
            arm()
            load(TRIED_RULES)
        except BaseException:
            disarm()
            TRIAL.unlink()
            raise
    return trial.name


def confirm(name: str) -> None:
    """Make the candidate what is loaded from now on."""
    with locked():
        trial = trial_in_progress()
        if trial is None or trial.name != name or time.monotonic() >= trial.until:
            raise RefusedError(
                f"these rules are not being tried any more: they were not confirmed within {TRIAL_S} s, and the "
                "earlier ones are back; deploy again"
            )
        if why := difference(TRIED_RULES):
            raise RefusedError(f"{why} while it was being tried: look who does that, and deploy again")
        write(CONFIRMED, TRIED_RULES.read_text(), mode=0o644)
        end_trial()
        disarm()


def rollback() -> None:
    """Back to what was confirmed; to no table where nothing was, or where it cannot be loaded: SSH comes first."""
    with locked():
        if trial_in_progress() is None:
            return
        end_trial()
        say("the firewall rules on trial were not confirmed in time; the earlier ones are loaded again")
        if CONFIRMED.exists():
            with contextlib.suppress(RefusedError):
                load(CONFIRMED)
                return
        run("nft", "-f", "-", text=f"table {' '.join(TABLE)}\ndelete table {' '.join(TABLE)}\n")


def load_confirmed() -> None:
    with locked():
        if not CONFIRMED.exists():
            raise RefusedError(f"no {CONFIRMED}: deploy first")
        if trial_in_progress() is None:
            load(CONFIRMED)


def keep() -> None:
    """What the timer does every few seconds: nothing, as a rule."""
    trial = trial_in_progress()
    if trial is not None:
        if time.monotonic() > trial.until + GRACE_S:
            rollback()
        return
    if not CONFIRMED.exists() or not difference(CONFIRMED):
        return
    with locked():
        why = difference(CONFIRMED)
        if why and trial_in_progress() is None:
            load(CONFIRMED)
            say(f"{why}; it is loaded again as {CONFIRMED} has it")


def status() -> None:
    """
    Raises:
        RefusedError: when the table is not the one that was confirmed, or closes too little by now.
    """
    if not CONFIRMED.exists():
        raise RefusedError(f"no {CONFIRMED}: deploy")
    if trial_in_progress() is not None:
        raise RefusedError(f"other rules are being tried; wait {TRIAL_S} s")
    if why := difference(CONFIRMED):
        raise RefusedError(f"{why}: systemctl reload rayrack-firewall")
    made_for = MADE_FOR.search(CONFIRMED.read_text())
    low, high = map(int, PORT_RANGE.read_text().split())
    if made_for and not int(made_for[1]) <= low <= high <= int(made_for[2]):
        raise RefusedError(
            f"net.ipv4.ip_local_port_range is {low}-{high}, the rules were made for {made_for[1]}-{made_for[2]}: deploy"
        )


def difference(rules: Path) -> str:
    """How the kernel's table differs from the one that these rules made; empty when it does not."""
    now = listing()
    if now is None:
        return f"the table {' '.join(TABLE)} is gone"
    try:
        loaded = json.loads(LOADED.read_text())
    except (OSError, ValueError):
        return f"the table {' '.join(TABLE)} was loaded by somebody else"
    if loaded["table"] != digest(now):
        return f"the table {' '.join(TABLE)} was changed by somebody else"
    if loaded["rules"] != digest(rules.read_text()):
        return f"the table {' '.join(TABLE)} is not that of {rules}"
    return ""


def load(rules: Path) -> None:
    """In one transaction, and note what the kernel made of it: nft writes rules in another way than we do."""
    run("nft", "-f", str(rules))
    write(LOADED, json.dumps({"rules": digest(rules.read_text()), "table": digest(listing() or "")}))


def listing() -> str | None:
    """The table as the kernel has it, without what its counters have counted, and in numbers, as names come and go with
    the packages that know them; None: there is none."""
    try:
        return run("nft", "-sn", "list", "table", *TABLE)
    except RefusedError:
        if TABLE[1] in run("nft", "list", "tables", TABLE[0]).split():
            raise
        return None


def trial_in_progress() -> Trial | None:
    try:
        return Trial(**json.loads(TRIAL.read_text()))
    except FileNotFoundError:
        return None


def end_trial() -> None:
    TRIAL.unlink()
    TRIED_RULES.unlink(missing_ok=True)


def arm() -> None:
    """Have systemd end the trial: it needs neither this process nor SSH."""
    program = Path(__file__).resolve()
    timer = (f"--on-active={TRIAL_S}", "--timer-property=AccuracySec=1s", f"--unit={ROLLBACK}")
    run("systemd-run", "--quiet", "--collect", *timer, str(program), "rollback")


def disarm() -> None:
    with contextlib.suppress(RefusedError):  # there is none, mostly
        run("systemctl", "stop", f"{ROLLBACK}.timer")


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Whole or not at all, also when the power goes."""
    part = path.with_name(f".{path.name}.part")
    with contextlib.suppress(FileNotFoundError):
        part.unlink()
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


@contextlib.contextmanager
def locked() -> Iterator[None]:
    RUN.mkdir(mode=0o700, exist_ok=True)
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(*command: str, text: str = "") -> str:
    """A program's output, with ``text`` as its input.

    Raises:
        RefusedError: with the first line that it said, when it is missing, fails or takes too long.
    """
    environment = {**os.environ, "PATH": os.environ.get("PATH", "/usr/bin:/bin") + SBIN, "LC_ALL": "C"}
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=LIMIT_S, env=environment)
    except FileNotFoundError:
        raise RefusedError(f"no program {command[0]} on this host; a deploy installs nftables") from None
    except subprocess.TimeoutExpired:
        raise RefusedError(f"{' '.join(command)}: not done after {LIMIT_S} s") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[0]
        raise RefusedError(f"{' '.join(command)}: exit status {done.returncode}: {said}")
    return done.stdout


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def say(line: str) -> None:
    """For the journal, as a warning (sd-daemon(3))."""
    print(f"<4>{line}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="rayrack's own nftables table.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("try", help="load rules for a minute").add_argument("file", type=Path)
    commands.add_parser("confirm", help="keep what is being tried").add_argument("name")
    for name, what in (
        ("load", "load what was confirmed"),
        ("keep", "load it where the table is gone or was changed"),
        ("status", "is the table as confirmed?"),
        ("rollback", "end the trial"),
    ):
        commands.add_parser(name, help=what)
    options = parser.parse_args()
    try:
        if options.command == "try":
            print(try_rules(options.file))
        elif options.command == "confirm":
            confirm(options.name)
        else:
            {"load": load_confirmed, "keep": keep, "status": status, "rollback": rollback}[options.command]()
    except (RefusedError, OSError) as error:
        print(f"firewall: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
