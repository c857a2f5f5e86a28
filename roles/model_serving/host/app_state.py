"""Reads Serve's description of an application: in words, and why it failed. Pure: standard library, no I/O.

The shapes and texts are those of ``GET /api/serve/applications/`` of Ray 2.60.
"""

import re
from collections.abc import Mapping
from typing import Any

from serve_app import server_deployment

App = Mapping[str, Any]

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
# What follows the last line that matters in pydantic's and Ray's texts.
_BOILERPLATE = re.compile(r"For further information visit|See controller logs|^\^+$|^~*\^+~*$")
# vLLM asks the hub for a path that does not exist, and this is what the hub's client says to it.
_NOT_A_REPOSITORY = re.compile(
    r"Repo id must (be in the form|use alphanumeric)|does not appear to have a file named config\.json"
)
# Errors that will be the same next time: the settings are wrong.
_WRONG_INPUT = re.compile(
    r"ValidationError|Unknown engine argument|Invalid (repository ID|vLLM config|deployment config)|"
    r"validation errors? for|Unsupported|is not a valid"
)


def replicas(app: App, slug: str) -> list[Mapping[str, Any]]:
    """The engines' replicas, in any state."""
    deployment = app.get("deployments", {}).get(server_deployment(slug), {})
    found: list[Mapping[str, Any]] = deployment.get("replicas", [])
    return found


def running(app: App, slug: str) -> list[str]:
    """The ids of the replicas that serve."""
    return [replica["replica_id"] for replica in replicas(app, slug) if replica["state"] == "RUNNING"]


def summary(app: App, slug: str, ongoing: int | None) -> str:
    """One line for ``systemctl status``: ``RUNNING, 1/1 replicas, 3 ongoing``."""
    deployment = app.get("deployments", {}).get(server_deployment(slug), {})
    target = deployment.get("target_num_replicas")
    parts = [app["status"]]
    if target is not None:
        parts.append(f"{len(running(app, slug))}/{target} replicas")
    if ongoing is not None:
        parts.append(f"{ongoing} ongoing")
    reason = "" if app["status"] == "RUNNING" else failure(app) or ""
    return ", ".join(parts) + (f": {reason}" if reason else "")


def failure(app: App) -> str | None:
    """The line of Serve's messages that says why something failed; None when nothing did.

    The deployments' messages come first: the application's only names the deployments that failed.
    """
    texts = [
        deployment["message"]
        for deployment in app.get("deployments", {}).values()
        if "Error:" in deployment["message"] or deployment["status"] in ("DEPLOY_FAILED", "UNHEALTHY")
    ]
    lines = [line for text in (*texts, app.get("message", "")) if (line := last_line(text))]
    return lines[0] if lines else None


def last_line(text: str) -> str:
    """The line of a traceback that an operator can act on: the last that is not decoration, at most 300 characters."""
    lines = [_ANSI.sub("", line).strip() for line in text.splitlines()]
    telling = [line for line in lines if line and not _BOILERPLATE.search(line)]
    return telling[-1][:300] if telling else ""


def is_wrong_input(app: App) -> bool:
    """Whether trying again is pointless: the application could not be built, or the engine refuses its settings."""
    text = failure(app) or ""
    built = bool(app.get("deployments"))
    return (app["status"] == "DEPLOY_FAILED" and not built) or bool(_WRONG_INPUT.search(text))


def missing_directory(app: App, model_source: str) -> str | None:
    """When the model's directory is not on the node that should load it: a line that says so."""
    if model_source.startswith("/") and _NOT_A_REPOSITORY.search(failure(app) or ""):
        return f"model_source {model_source}: no such directory with a model on the host that should load it"
    return None


def unplaced(app: App, slug: str) -> bool:
    """Whether a replica waits for Ray to find room for it: it has no process yet."""
    return any(replica["state"] == "STARTING" and replica.get("pid") is None for replica in replicas(app, slug))


def logs(app: App, slug: str, session: str) -> str | None:
    """Where the newest replica's engine writes its logs: the reason of an error that Serve only hands on."""
    placed = [replica for replica in replicas(app, slug) if replica.get("worker_id")]
    if not placed:
        return None
    newest = max(placed, key=lambda replica: float(replica["start_time_s"]))
    return f"{session}/logs/worker-{newest['worker_id']}-* on {newest['node_ip']}"


def ongoing_requests(metrics: str, application: str) -> int | None:
    """Requests in progress, from the metrics of Serve's HAProxy; None when it does not know the application.

    Streams that an old HAProxy process is finishing after a reload are not in it.
    """
    backend = rf"http-{re.escape(application)}(?:-via-ingress-request-router)?"
    pattern = rf'^haproxy_backend_current_sessions\{{proxy="{backend}"\}} (\d+)'
    counts = re.findall(pattern, metrics, flags=re.MULTILINE)
    return sum(map(int, counts)) if counts else None
