#!/usr/bin/python3 -EsB
"""All model units of the head at once, for the deploy: model_units overview | describe | apply SLUG... | wait SLUG...

``overview`` prints one JSON object that tells the deploy whether there is anything to do; ``describe`` another, from
which a plan tells what a run would do to each model, and for how long. ``apply`` makes the units match the env files of
the named models, and removes every other one; it waits for removals only. ``wait`` returns when every named model is
ready or has failed, shows a line per model that is not yet every ten seconds, and exits 1 with one line per failure.
"""

import hashlib
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import app_state
import serve_app
from model_host import RUN_DIR, STATE_DIR, ModelHost, read_load, read_record, remove_load, remove_record

ENV_DIR = Path("/etc/rayrack/models")
RAY_ENV_FILES = (Path("/etc/rayrack/ray.env"), Path("/etc/rayrack/ray.override.env"))
RAY_TOKEN = "/etc/rayrack/secrets/ray.token"  # noqa: S105 - where it stands, not what it is
POLL_S = 2.0
REPORT_S = 10.0
# How long a model may be active with other settings than its files say: as long as a queued reload takes.
RELOAD_LIMIT_S = 60.0
# How long a unit may be neither running nor queued: a head that died is started again, and its models with it.
IDLE_LIMIT_S = 30.0
# TimeoutStopSec= of the unit, and as much again for a queue of them.
STOP_LIMIT_S = 480.0
RUN_LIMIT_S = 30.0
# A plan does without what Serve knows when the dashboard is as slow as this.
SERVE_LIMIT_S = 5.0
Step = Literal["none", "start", "reload", "restart"]
_UNIT = re.compile(r"rayrack-model@(.+)\.service")


@dataclass(frozen=True)
class Unit:
    """What systemd says of a model's unit; the names are those of ``systemctl show``."""

    active: str
    sub: str
    result: str
    status: str
    enabled: bool
    queued: bool


def unit_name(slug: str) -> str:
    return f"rayrack-model@{slug}.service"


def units(slugs: Sequence[str]) -> dict[str, Unit]:
    """The state of each model's unit; systemd describes even those it has never seen, as inactive."""
    if not slugs:
        return {}
    names = [unit_name(slug) for slug in slugs]
    properties = "Id,ActiveState,SubState,Result,StatusText,UnitFileState,Job"
    shown = _run("systemctl", "show", f"--property={properties}", *names)
    found = {}
    for block in shown.strip().split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if match := _UNIT.fullmatch(values.get("Id", "")):
            found[match[1]] = Unit(
                active=values["ActiveState"],
                sub=values["SubState"],
                result=values["Result"],
                status=values.get("StatusText", ""),
                enabled=values["UnitFileState"] == "enabled",
                queued=values.get("Job", "0") not in ("", "0"),
            )
    return found


def known_slugs(env_dir: Path = ENV_DIR) -> set[str]:
    """Every model that has an env file, an enabled unit or a loaded one."""
    files = {file.stem for file in env_dir.glob("*.env") if not file.stem.endswith(".override")}
    enabled = _run("systemctl", "list-unit-files", "--no-legend", "--plain", "rayrack-model@*.service")
    loaded = _run("systemctl", "list-units", "--all", "--no-legend", "--plain", "rayrack-model@*.service")
    names = [line.split()[0] for line in (enabled + loaded).splitlines() if line.split()]
    return files | {match[1] for name in names if (match := _UNIT.fullmatch(name))}


def settings(env_dir: Path, slug: str) -> dict[str, str]:
    """The variables of a model's env file, with its override file over them, read as systemd.exec(5) reads them."""
    return {**variables(env_dir / f"{slug}.env"), **variables(env_dir / f"{slug}.override.env")}


def variables(file: Path) -> dict[str, str]:
    """``NAME=value`` lines of an environment file; quotes as in a shell, comments begin with # or ;."""
    found = {}
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    for line in lines:
        name, equals, value = line.strip().partition("=")
        if not equals or name.startswith(("#", ";")):
            continue
        try:
            found[name.strip()] = "".join(shlex.split(value)[:1])
        except ValueError:
            found[name.strip()] = value
    return found


def overview(env_dir: Path = ENV_DIR, run_dir: Path = RUN_DIR) -> dict[str, Any]:
    """For each model known on this host: its env file's digest, whether it is ready, and what its unit needs."""
    slugs = sorted(known_slugs(env_dir))
    states = units(slugs)
    return {slug: _one(slug, states[slug], env_dir, run_dir) for slug in slugs}


def _one(slug: str, unit: Unit, env_dir: Path, run_dir: Path) -> dict[str, Any]:
    file = env_dir / f"{slug}.env"
    return {
        "env_sha256": hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None,
        "enabled": unit.enabled,
        "step": needed_step(slug, unit, env_dir, run_dir),
        "ready": verdict(slug, unit, 0, env_dir, run_dir) == "",
    }


def needed_step(slug: str, unit: Unit, env_dir: Path, run_dir: Path) -> Step:
    """What makes the unit run with its files' settings. A run that was interrupted is finished by this, too."""
    record = read_record(run_dir, slug)
    try:
        wanted = serve_app.fields_from(settings(env_dir, slug))
    except serve_app.SettingsError:
        wanted = None
    kind = serve_app.needed(unit.active, record.fields if record else None, wanted).kind
    return "none" if kind == "unchanged" else kind


def describe(env_dir: Path = ENV_DIR, run_dir: Path = RUN_DIR, state_dir: Path = STATE_DIR) -> dict[str, Any]:
    """For each model known on this host: what its files set, what it was started with, how long it last took to load,
    and on which node each of its replicas is. ``null`` stands for what is not known."""
    slugs = sorted(known_slugs(env_dir))
    states = units(slugs)
    applications = serve_applications()
    found = {}
    for slug in slugs:
        file, record = env_dir / f"{slug}.env", read_record(run_dir, slug)
        app = applications.get(serve_app.application_name(slug), {}) if applications is not None else None
        live = [] if app is None else app_state.replicas(app, slug)
        found[slug] = {
            "active": states[slug].active,
            "enabled": states[slug].enabled,
            "env_sha256": hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None,
            "env": variables(file),
            "overrides": variables(env_dir / f"{slug}.override.env"),
            "applied": record.fields if record else None,
            "load": read_load(state_dir, slug),
            "replicas": None if app is None else [each.get("node_ip") for each in live if each["state"] != "STOPPING"],
        }
    return found


def serve_applications(ray_env: Sequence[Path] = RAY_ENV_FILES, token: str = RAY_TOKEN) -> dict[str, Any] | None:
    """What Serve runs; None when it cannot be asked."""
    import serve_api  # most of the time that `overview` would take, and only this needs it

    environ = {name: value for file in ray_env for name, value in variables(file).items()}
    try:
        host = ModelHost.from_environ({**environ, "RAY_AUTH_TOKEN_PATH": token})
        url, headers = f"{host.dashboard_url}/api/serve/applications/", {"Authorization": f"Bearer {host.token}"}
        found: dict[str, Any] = json.loads(serve_api.request(url, headers=headers, timeout_s=SERVE_LIMIT_S))[
            "applications"
        ]
    except (serve_app.SettingsError, serve_api.ServeError, ValueError, LookupError, TypeError):
        return None
    return found


def apply(slugs: Sequence[str], env_dir: Path = ENV_DIR, run_dir: Path = RUN_DIR) -> int:
    """Remove what is not named, enable, start, reload or restart the rest as each needs it. Touches no other unit."""
    if gone := sorted(known_slugs(env_dir) - set(slugs)):
        _remove(gone, env_dir, run_dir)
    states = units(slugs)
    if disabled := [slug for slug in slugs if not states[slug].enabled]:
        _systemctl("enable", disabled)
    if failed := [slug for slug in slugs if states[slug].active == "failed"]:
        _systemctl("reset-failed", failed)
    steps = {slug: needed_step(slug, states[slug], env_dir, run_dir) for slug in slugs}
    for step in ("start", "reload", "restart"):
        if chosen := [slug for slug in slugs if steps[slug] == step]:
            _systemctl(step, chosen, "--no-block")
            print(f"{step}: {', '.join(chosen)}", flush=True)
    return 0


def _remove(slugs: Sequence[str], env_dir: Path, run_dir: Path) -> None:
    """Stopping a unit removes its application and waits for its requests."""
    _systemctl("disable", slugs, "--now")
    for slug in slugs:
        for suffix in ("env", "override.env"):
            (env_dir / f"{slug}.{suffix}").unlink(missing_ok=True)
        remove_record(run_dir, slug)
        remove_load(STATE_DIR, slug)
        _run("systemctl", "reset-failed", unit_name(slug))  # which says no where there is nothing to forget
    print(f"removed: {', '.join(slugs)}", flush=True)


def wait(slugs: Sequence[str]) -> int:
    """Until each model is ready or has failed. Every start has a time limit of its own, so this needs no other."""
    failures: dict[str, str] = {}
    pending = list(slugs)
    began = reported = time.monotonic()
    while True:
        states = units(pending)
        for slug in list(pending):
            outcome = verdict(slug, states[slug], time.monotonic() - began)
            if outcome is None:
                continue
            pending.remove(slug)
            if outcome:
                failures[slug] = outcome
            print(f"{slug}: {outcome or 'ready'}", flush=True)
        if not pending:
            break
        if time.monotonic() - reported >= REPORT_S:
            reported = time.monotonic()
            for slug in pending:
                print(f"{slug}: {doing(states[slug])} ({reported - began:.0f} s)", flush=True)
        time.sleep(POLL_S)
    if failures:
        print(f"{len(failures)} of {len(slugs)} models failed:", file=sys.stderr)
        for slug, line in failures.items():
            print(f"  {slug}: {line}", file=sys.stderr)
    return 1 if failures else 0


def doing(unit: Unit) -> str:
    """What a unit is doing, in its own words if they are of now: systemd keeps those of a unit that has ended."""
    if unit.active == "inactive":
        return "queued behind rayrack-head.service" if unit.queued else "not running"
    return unit.status or f"{unit.active} ({unit.sub})"


def verdict(slug: str, unit: Unit, waited_s: float, env_dir: Path = ENV_DIR, run_dir: Path = RUN_DIR) -> str | None:
    """None: still on its way. Empty: ready. Otherwise why it failed."""
    if unit.active == "active":
        return _active_verdict(slug, waited_s, env_dir, run_dir)
    if unit.active == "failed":
        return failure_line(slug, unit)
    if unit.active == "inactive" and not unit.queued and waited_s > IDLE_LIMIT_S:
        return "its unit is not running and nothing starts it: is rayrack-head.service running?"
    return None


def _active_verdict(slug: str, waited_s: float, env_dir: Path, run_dir: Path) -> str | None:
    record = read_record(run_dir, slug)
    if record and record.failed_update:
        return f"update failed, the previous version goes on serving: {record.failed_update}"
    try:
        wanted = serve_app.fields_from(settings(env_dir, slug))
    except serve_app.SettingsError as error:
        return str(error)
    if record and record.state == "ready" and serve_app.change(record.fields, wanted).kind == "unchanged":
        return ""
    if waited_s > RELOAD_LIMIT_S:
        return f"runs with other settings than its files have: journalctl -u rayrack-model@{slug}"
    return None


def failure_line(slug: str, unit: Unit) -> str:
    """Why a unit failed: what it said last, or systemd's result and the journal's last line."""
    if unit.result == "exit-code" and unit.status:
        return unit.status
    journal = _run("journalctl", "-u", unit_name(slug), "-n", "1", "-o", "cat", "--no-pager").strip()
    return f"{unit.result}: {journal}"


class SystemctlError(Exception):
    """One line that says which command failed, and how."""


def _run(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SystemctlError(_one_line(error, command)) from None


def _systemctl(verb: str, slugs: Sequence[str], *options: str) -> None:
    """Change units; when it fails, systemctl has said why on stderr."""
    command = ["systemctl", *options, verb, *map(unit_name, slugs)]
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, timeout=STOP_LIMIT_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise SystemctlError(_one_line(error, command)) from None


def _one_line(error: OSError | subprocess.SubprocessError, command: Sequence[str]) -> str:
    match error:
        case subprocess.CalledProcessError():
            what = f"failed with exit code {error.returncode}; its reason stands above, or in: systemctl status UNIT"
        case subprocess.TimeoutExpired():
            what = f"did not end within {error.timeout:.3g} s; `systemctl list-jobs` tells what it waits for"
        case _:
            what = f"cannot be run: {error}"
    return f"`{shlex.join(command)}` {what}"


def main(arguments: list[str]) -> int:
    try:
        match arguments:
            case ["overview"]:
                print(json.dumps(overview()))
                return 0
            case ["describe"]:
                print(json.dumps(describe()))
                return 0
            case ["apply", *slugs]:
                return apply(slugs)
            case ["wait", *slugs]:
                return wait(slugs)
    except SystemctlError as error:
        print(f"model_units: {error}", file=sys.stderr)
        return 1
    print("usage: model_units overview | describe | apply SLUG... | wait SLUG...", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
