#!/usr/bin/python3 -EsB
"""The program of rayrack-model@<slug>.service, on the head: model_unit run|stop|reload SLUG.

The unit stands for one application in Serve's declarative config; the engines are children of the nodes' units.
``run`` is ExecStart=, ``stop`` ExecStop= and ``reload`` ExecReload=. systemd reads the unit's environment files anew
for each of them, so each sees the settings as they are now.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import app_state
import serve_app
import systemd
from model_host import ModelHost, Record, read_record, remove_record, write_record
from model_start import ABSENT_LIMIT_S, Starter, StartFailed, Stopped, remove
from serve_api import ServeApi, ServeError, Unreachable, request

POLL_S = 5.0
# Serve describes all applications whenever one unit asks, so the cost of asking would grow with the square of their
# number. With more than these, units ask less often; the limit and a request's own leave WatchdogSec= its 60 s.
POLL_EASILY = 10
POLL_LIMIT_S = 20.0
# Failed starts in a row, then the unit stays failed. A start that cannot succeed fails for good at once.
ATTEMPTS = 3
EXIT_AGAIN = 1
# EX_CONFIG of sysexits.h; the unit has it in RestartPreventExitStatus=.
EXIT_FOR_GOOD = 78
HEAD_UNIT = "rayrack-head.service"
# With .SLUG after it: the names in /etc/rayrack/secrets when the unit was started (its ExecStartPre=).
SECRET_NAMES = "/run/rayrack-secrets"  # noqa: S105
METRICS_TIMEOUT_S = 2


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or arguments[0] not in COMMANDS:
        print(f"usage: model_unit {'|'.join(COMMANDS)} SLUG", file=sys.stderr)
        return EXIT_FOR_GOOD
    command, slug = arguments
    try:
        host = ModelHost.from_environ(os.environ)
    except serve_app.SettingsError as error:
        return fail(slug, str(error), EXIT_FOR_GOOD)
    api = serve_api(host)
    try:
        fields = _fields(slug) if command != "stop" else _fields_to_stop(slug)
        if command == "run":
            _check_secrets(fields)
    except serve_app.SettingsError as error:
        if command == "run":
            _remove_replaced(slug, host, api)
        return fail(slug, str(error), EXIT_FOR_GOOD)
    return COMMANDS[command](fields, host, api)


def _remove_replaced(slug: str, host: ModelHost, api: ServeApi) -> None:
    """What a restart has left serving for a start that cannot come: with ``swap`` no unit stands for it any more."""
    record = read_record(host.run_dir, slug)
    if record is not None and record.state == "replace" and record.fields.get("update") != "surge":
        with suppress(ServeError):
            api.change_application(serve_app.application_name(slug), None)
        remove_record(host.run_dir, slug)


def serve_api(host: ModelHost) -> ServeApi:
    return ServeApi(
        host.dashboard_url,
        host.token,
        lock=host.config_lock,
        serve_host=host.serve_host,
        serve_port=host.serve_port,
    )


def fail(slug: str, line: str, status: int) -> int:
    """The one line an operator finds: in the journal and in ``systemctl status``."""
    print(f"{slug}: {line}", file=sys.stderr, flush=True)
    systemd.notify(f"STATUS={line}")
    return status


def _fields(slug: str) -> dict[str, Any]:
    fields = serve_app.fields_from(os.environ)
    if fields["slug"] != slug:
        raise serve_app.SettingsError(f"RAYRACK_SLUG is {fields['slug']}: its env file must have that name")
    return fields


def _fields_to_stop(slug: str) -> dict[str, Any]:
    """Settings that have become wrong meanwhile must not keep a model from being stopped."""
    try:
        return _fields(slug)
    except serve_app.SettingsError:
        return {"slug": slug, "update": "swap"}


def _check_secrets(fields: Mapping[str, Any]) -> None:
    """On the head at least a missing secret can be told before an engine fails for the lack of it."""
    try:
        found = Path(f"{SECRET_NAMES}.{fields['slug']}").read_text().splitlines()
    except OSError:
        found = []
    for name, file in fields["secrets"].items():
        if file not in found:
            raise serve_app.SettingsError(f"secrets.{name}: no file {file} in /etc/rayrack/secrets")


def run(fields: Mapping[str, Any], host: ModelHost, api: ServeApi) -> int:
    """Start the model, say READY=1, and show what becomes of it until systemd ends this process."""
    slug = fields["slug"]
    signal.signal(signal.SIGTERM, _raise_stopped)
    attempts = (read_record(host.run_dir, slug) or Record()).attempts
    try:
        Starter(fields, host, api, show).start()
    except Stopped:
        return _start_stopped(fields, host, api)
    except StartFailed as failed:
        return _start_failed(fields, host, failed, attempts + 1)
    except ServeError as error:
        return _start_failed(fields, host, StartFailed(str(error), for_good=False), attempts + 1)
    systemd.ready("RUNNING")
    try:
        return watch(slug, host, api, systemd.status)
    except Stopped:
        # ExecStop= has done the work. Without a job in the queue somebody killed the program alone, and systemd
        # starts another, which takes the running application over.
        return 0 if systemd.pending_job(f"rayrack-model@{slug}.service") else EXIT_AGAIN


def show(line: str) -> None:
    """For starts and stops, which have limits of their own.

    A sign of life before READY=1 would arm systemd's watchdog, and a PUT or a warm-up request may outlast that.
    """
    systemd.notify(f"STATUS={line}")


def _raise_stopped(_number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # cleaning up is not interrupted
    raise Stopped


def _start_stopped(fields: Mapping[str, Any], host: ModelHost, api: ServeApi) -> int:
    """systemd runs ExecStop= only for a unit that was up, so a start that is stopped cleans up after itself."""
    slug = fields["slug"]
    job = systemd.pending_job(f"rayrack-model@{slug}.service")
    if job is None:
        return EXIT_AGAIN  # killed alone: the next program goes on where this one was
    record = read_record(host.run_dir, slug)
    if job == "restart" and record is not None and record.state == "replace":
        return 0
    if systemd.pending_job(HEAD_UNIT) not in ("stop", "restart"):
        with suppress(ServeError):
            api.change_application(serve_app.application_name(slug), None)
    remove_record(host.run_dir, slug)
    return 0


def _start_failed(fields: Mapping[str, Any], host: ModelHost, failed: StartFailed, attempts: int) -> int:
    slug = fields["slug"]
    if failed.for_good or attempts >= ATTEMPTS:
        remove_record(host.run_dir, slug)
        return fail(slug, str(failed), EXIT_FOR_GOOD)
    write_record(host.run_dir, slug, Record("starting", dict(fields), attempts))
    return fail(slug, f"{failed} (attempt {attempts} of {ATTEMPTS})", EXIT_AGAIN)


def watch(slug: str, host: ModelHost, api: ServeApi, say: Callable[[str], None]) -> int:
    """Show the application's state for as long as there is one; every line also feeds systemd's watchdog.

    An engine that died is Serve's to replace. An application that somebody else removed is put again: by a new start.
    """
    name = serve_app.application_name(slug)
    seen = time.monotonic()
    pause_s = POLL_S
    while True:
        try:
            applications = api.applications()
        except ServeError as error:
            # The head's own unit watches the head; when that goes down, systemd stops this one too.
            say(f"unknown: {error}")
            seen = time.monotonic()
        else:
            pause_s = poll_s(len(applications))
            app = applications.get(name)
            if app is not None:
                seen = time.monotonic()
                say(describe(app, slug, host))
            elif time.monotonic() - seen > ABSENT_LIMIT_S:
                return fail(slug, "its application is gone from Serve: putting it again", EXIT_AGAIN)
        time.sleep(pause_s)


def poll_s(applications: int) -> float:
    """Seconds between two looks at Serve when it has this many applications."""
    return min(POLL_S * max(1, applications / POLL_EASILY), POLL_LIMIT_S)


def describe(app: Mapping[str, Any], slug: str, host: ModelHost) -> str:
    """``RUNNING, 1/1 replicas, 3 ongoing``, and what went wrong with an update if it did."""
    url = f"http://127.0.0.1:{host.serve_metrics_port}/metrics"
    try:
        metrics = request(url, timeout_s=METRICS_TIMEOUT_S).decode(errors="replace")
        ongoing = app_state.ongoing_requests(metrics, serve_app.application_name(slug))
    except ServeError:
        ongoing = None
    line = app_state.summary(app, slug, ongoing)
    record = read_record(host.run_dir, slug)
    if record and record.failed_update:
        line += f"; the previous version, as the update failed: {record.failed_update}"
    return line


def stop(fields: Mapping[str, Any], host: ModelHost, api: ServeApi) -> int:
    """Remove the model's application and wait until its replicas are gone.

    Not when the head goes down with it, and not for a restart: the next start replaces the application when it is its
    turn, and it serves until then. Not either when the program died: then there is no main process, and systemd starts
    it again.
    """
    slug = fields["slug"]
    if "MAINPID" not in os.environ:
        return 0
    if systemd.pending_job(HEAD_UNIT) in ("stop", "restart"):
        remove_record(host.run_dir, slug)
        return 0
    restarts = systemd.pending_job(f"rayrack-model@{slug}.service") == "restart"
    record = read_record(host.run_dir, slug)
    if restarts and record is not None:
        record.state = "replace"
        write_record(host.run_dir, slug, record)
        return 0
    try:
        remove(api, serve_app.application_name(slug), show)
    except Unreachable as error:
        # Without a head there is nothing to remove; with one that is slow, say so and let systemd go on.
        print(f"{slug}: {error}", file=sys.stderr, flush=True)
    except ServeError as error:
        return fail(slug, str(error), EXIT_AGAIN)
    remove_record(host.run_dir, slug)
    return 0


def reload(fields: Mapping[str, Any], host: ModelHost, api: ServeApi) -> int:
    """Apply in place what can be; otherwise change nothing and say what needs a restart."""
    slug = fields["slug"]
    record = read_record(host.run_dir, slug)
    if record is None or record.state != "ready":
        return fail_reload(slug, "it is not ready yet")
    change = serve_app.change(record.fields, fields)
    if change.kind == "restart":
        return fail_reload(slug, f"needs restart: {', '.join(change.fields)}")
    try:
        app = api.applications().get(serve_app.application_name(slug))
        if app is None or not app.get("deployed_app_config"):
            return fail_reload(slug, "its application is not in Serve")
        running = app["deployed_app_config"]
        new = serve_app.application(
            fields,
            generation=serve_app.generation_of(running) or "",
            cache_dir=host.cache_dir,
        )
        if not serve_app.same_replicas(running, new):
            return fail_reload(slug, "needs restart: its application in Serve was made from other settings")
        if new["deployments"] != running.get("deployments"):
            api.change_application(new["name"], new)
    except ServeError as error:
        return fail_reload(slug, str(error))
    write_record(host.run_dir, slug, Record("ready", dict(fields)))
    print(f"{slug}: applied in place: {', '.join(change.fields) or 'nothing that runs has changed'}", flush=True)
    return 0


def fail_reload(slug: str, line: str) -> int:
    """The unit goes on as it was, so its status stays its own."""
    print(f"{slug}: reload: {line}", file=sys.stderr, flush=True)
    return EXIT_AGAIN


COMMANDS: dict[str, Callable[[Mapping[str, Any], ModelHost, ServeApi], int]] = {
    "run": run,
    "stop": stop,
    "reload": reload,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
