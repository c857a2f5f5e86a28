"""Starts one model: puts its application into Serve and follows it until it has answered. Standard library only."""

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import app_state
import cluster_room
import serve_app
from model_host import ModelHost, Record, read_record, remove_record, write_load, write_record
from serve_api import Refused, ServeApi, ServeError, Unreachable, request
from start_queue import StartQueue

POLL_S = 1.0
# The dashboard and Serve's proxy come up some time after the head says that it is healthy.
REST_LIMIT_S = 300
# Nodes may join late after the whole rack has lost power: a GPU host tests its memory for minutes.
NODES_JOIN_S = 600
# All other models of a rack may start before this one; each of them has a limit of its own.
QUEUE_LIMIT_S = 6 * 3600
# Serve lists an application as soon as it knows it; while it is rebuilt only its deployments are missing.
ABSENT_LIMIT_S = 30
# Serve's proxy learns of new routes after the application has become RUNNING.
ROUTE_LIMIT_S = 60
WARM_UP_REQUEST_S = 300
REMOVE_LIMIT_S = serve_app.DRAIN_LIMIT_S + 60


class StartFailed(Exception):
    """Why a model could not be started, in one line; ``for_good``: starting it again would not help."""

    def __init__(self, line: str, *, for_good: bool = True) -> None:
        super().__init__(line)
        self.for_good = for_good


class Stopped(BaseException):
    """systemd ended this program. Like KeyboardInterrupt no Exception, so that no handler of errors swallows it."""


@dataclass(frozen=True)
class Starter:
    """One start of the model ``fields`` on ``host``; ``say`` shows a line in ``systemctl status``."""

    fields: Mapping[str, Any]
    host: ModelHost
    api: ServeApi
    say: Callable[[str], None]

    @property
    def slug(self) -> str:
        slug: str = self.fields["slug"]
        return slug

    @property
    def name(self) -> str:
        return serve_app.application_name(self.slug)

    def start(self) -> None:
        """Return when the model has answered a request; raise StartFailed with nothing of it left behind.

        A running application with the same settings is adopted: the unit's program may have died without it. One that
        is to be replaced serves until it is this model's turn; with ``update: surge`` until its successor does, and on
        when that fails.
        """
        with StartQueue(self.host.run_dir, self.slug) as queue:
            self._start(queue)

    def _start(self, queue: StartQueue) -> None:
        record = read_record(self.host.run_dir, self.slug) or Record()
        existing = self._existing()
        if existing is not None and record.state != "replace" and self._is_wanted(existing):
            queue.leave()
            self._adopt(existing)
            return
        previous = record.fields if existing is not None else {}
        self._record(Record("replace" if previous else "starting", previous or dict(self.fields), record.attempts))
        surged = existing if self.fields["update"] == "surge" else None
        try:
            self._wait_for_nodes(queue)
            with queue.turn(QUEUE_LIMIT_S, self._show_queue):
                self._replace(existing, surged, record.attempts)
        except StartFailed as failed:
            if surged is None:
                self._give_up()
                raise
            self._put_back(surged, previous, str(failed))

    def _adopt(self, existing: Mapping[str, Any]) -> None:
        wanted = self._application(serve_app.generation_of(existing["deployed_app_config"]) or "")
        self.say("found it running: taking it over")
        if wanted["deployments"] != existing["deployed_app_config"].get("deployments"):
            self._put(wanted)
        deadline = time.monotonic() + self.fields["start_timeout_s"]
        self._record(Record("starting", dict(self.fields)))
        self._follow(deadline, old=())
        self._warm_up(deadline)
        self._record(Record("ready", dict(self.fields)))

    def _replace(self, existing: Mapping[str, Any] | None, surged: Mapping[str, Any] | None, attempts: int) -> None:
        deadline = time.monotonic() + self.fields["start_timeout_s"]
        old = tuple(replica["replica_id"] for replica in app_state.replicas(existing, self.slug)) if existing else ()
        if surged is None:
            remove(self.api, self.name, self.say)
            self._record(Record("starting", dict(self.fields), attempts))
        began = time.monotonic()
        self._put(self._application(f"{time.time_ns()}"))
        self._follow(deadline, old)
        self._warm_up(deadline)
        write_load(self.host.state_dir, self.slug, time.monotonic() - began, self.fields)
        self._record(Record("ready", dict(self.fields)))

    def _put_back(self, existing: Mapping[str, Any], previous: dict[str, Any], reason: str) -> None:
        """The replicas of the previous version never stopped; Serve keeps them when it gets their config again."""
        self._put(existing["deployed_app_config"])
        self._record(Record("ready", previous, failed_update=reason))
        print(
            f"{self.slug}: update failed, the previous version goes on serving: {reason}", file=sys.stderr, flush=True
        )

    def _give_up(self) -> None:
        """Leave nothing behind that would hold GPUs, before the next model starts; when Serve does not answer there is
        nothing to do here."""
        with suppress(ServeError):
            remove(self.api, self.name, self.say)
        remove_record(self.host.run_dir, self.slug)

    def _application(self, generation: str) -> dict[str, Any]:
        return serve_app.application(self.fields, generation=generation, cache_dir=self.host.cache_dir)

    def _put(self, application: Mapping[str, Any]) -> None:
        """The first PUT starts Serve itself, which on a busy machine Ray may give up and do when asked again."""
        self._patiently(lambda: self.api.change_application(self.name, application))

    def _record(self, record: Record) -> None:
        write_record(self.host.run_dir, self.slug, record)

    def _existing(self) -> Mapping[str, Any] | None:
        """The application of this model in Serve, unless it is being deleted."""
        app = self._patiently(self.api.applications).get(self.name)
        return app if app and app.get("deployed_app_config") and app["status"] != "DELETING" else None

    def _is_wanted(self, existing: Mapping[str, Any]) -> bool:
        config = existing["deployed_app_config"]
        return existing["status"] != "DEPLOY_FAILED" and serve_app.same_replicas(config, self._application(""))

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        """Ask the REST API until it answers."""
        deadline = time.monotonic() + REST_LIMIT_S
        while True:
            try:
                return ask()
            except Unreachable as error:
                if time.monotonic() > deadline:
                    raise StartFailed(f"Ray's dashboard does not answer: {error}", for_good=False) from None
                self.say(f"waiting for Ray's dashboard: {error}")
                time.sleep(POLL_S)
            except Refused as error:
                raise StartFailed(f"Ray's dashboard refuses: {error}") from None

    def _wait_for_nodes(self, queue: StartQueue) -> None:
        """Refuse what no node could ever hold, after the first minutes of a cluster, when nodes may still join.

        Models that have their nodes need not wait for one that has not.
        """
        deadline = time.monotonic() + self.fields["start_timeout_s"]
        while True:
            nodes = self._patiently(self.api.nodes)
            lacking = cluster_room.missing(serve_app.needs(self.fields), self.fields["min_replicas"], nodes)
            if lacking is None:
                return
            if time.monotonic() > deadline or cluster_age_s(nodes) > NODES_JOIN_S:
                raise StartFailed(lacking)
            queue.leave()
            self.say(f"waiting for nodes to join: {lacking}")
            time.sleep(POLL_S)

    def _show_queue(self, other: str) -> None:
        self.say(f"waiting for the start of {other}: one model starts at a time")

    def _follow(self, deadline: float, old: tuple[str, ...]) -> None:
        """Until the application is RUNNING with new replicas."""
        began = seen = time.monotonic()
        while True:
            app = self._patiently(self.api.applications).get(self.name)
            now = time.monotonic()
            if app is not None:
                seen = now
                self._check(app)
                running = app_state.running(app, self.slug)
                if app["status"] == "RUNNING" and running and not set(running) & set(old):
                    return
                self.say(f"{app_state.summary(app, self.slug, None)} after {now - began:.0f} s")
            elif now - seen > ABSENT_LIMIT_S:
                raise StartFailed("its application has disappeared from Serve", for_good=False)
            if now > deadline:
                raise StartFailed(self._too_late(app))
            time.sleep(POLL_S)

    def _check(self, app: Mapping[str, Any]) -> None:
        if no_directory := app_state.missing_directory(app, self.fields["model_source"]):
            raise StartFailed(no_directory)
        if app["status"] == "DEPLOY_FAILED":
            raise StartFailed(app_state.failure(app) or "DEPLOY_FAILED", for_good=app_state.is_wrong_input(app))

    def _too_late(self, app: Mapping[str, Any] | None) -> str:
        late = f"not ready within start_timeout_s ({self.fields['start_timeout_s']} s)"
        if app is not None and app_state.unplaced(app, self.slug):
            with suppress(ServeError):
                lacking = cluster_room.missing(serve_app.needs(self.fields), 1, self.api.nodes(), free=True)
                return f"{late}: {lacking or 'Ray has not placed a replica though there is room'}"
        if app is not None and (reason := app_state.failure(app)):
            return f"{late}: {reason}"
        return f"{late}: the engine is still loading; raise start_timeout_s if it needs longer"

    def _warm_up(self, deadline: float) -> None:
        """An application that Serve calls RUNNING can still die at its first request: be its first client.

        One request for each replica: Serve's HAProxy hands them out in turn while all are idle. Chat templates are not
        asked for, as a base model has none.
        """
        path, extra = ("embeddings", {"input": "Hello"})
        if self.fields["runner"] == "generate":
            path, extra = ("completions", {"prompt": "Hello", "max_tokens": 1})  # type: ignore[dict-item]
        url = f"{self.host.serve_url}{serve_app.route(self.slug)}/v1/{path}"
        for number in range(self.fields["min_replicas"]):
            self.say(f"RUNNING, warm-up request {number + 1} of {self.fields['min_replicas']}")
            self._warm_up_request(url, {"model": self.fields["model_id"], **extra}, deadline)

    def _warm_up_request(self, url: str, body: Mapping[str, Any], deadline: float) -> None:
        route_deadline = min(deadline, time.monotonic() + ROUTE_LIMIT_S)
        while True:
            try:
                request(url, method="POST", body=body, timeout_s=WARM_UP_REQUEST_S)
                return
            except ServeError as error:
                app = self._patiently(self.api.applications).get(self.name) or {}
                if time.monotonic() > route_deadline:
                    where = app_state.logs(app, self.slug, f"{self.host.ray_temp_dir}/session_latest")
                    line = f"the warm-up request failed: {error}" + (f"; see {where}" if where else "")
                    raise StartFailed(line, for_good=False) from None
            if app:
                self._check(app)
            time.sleep(POLL_S)


def cluster_age_s(nodes: list[dict[str, Any]]) -> float:
    """Seconds since the head joined its own cluster."""
    started = [node["start_time_ms"] for node in nodes if node["is_head_node"]]
    return time.time() - min(started, default=0) / 1000


def remove(api: ServeApi, name: str, say: Callable[[str], None]) -> None:
    """Remove an application and wait until its replicas are gone; nothing to do when there is none."""
    api.change_application(name, None)
    began = time.monotonic()
    while name in api.applications():
        waited = time.monotonic() - began
        if waited > REMOVE_LIMIT_S:
            raise Unreachable(f"Serve has not removed {name} within {REMOVE_LIMIT_S} s")
        say(f"stopping: requests in progress may finish, {waited:.0f} s so far")
        time.sleep(POLL_S)
