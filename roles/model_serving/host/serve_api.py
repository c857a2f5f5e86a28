"""Ray's dashboard as a REST client: Serve's applications and the cluster's nodes. Standard library only.

The calls, the shapes of their answers and their errors are those of Ray 2.60: ``/api/serve/applications/`` (the
declarative API), ``/api/v0/nodes`` (the state API) and ``/api/cluster_status``.
"""

import fcntl
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import app_state

REQUEST_TIMEOUT_S = 30
# The first PUT starts Serve's controller and its proxy, which takes long on a loaded machine.
PUT_TIMEOUT_S = 180
LOCK_TIMEOUT_S = 300


class ServeError(Exception):
    """One line that says what went wrong with Serve."""


class Unreachable(ServeError):
    """Nobody answers, or not in time, or Ray says it is not able to answer now: it may work later."""


class Refused(ServeError):
    """Ray answered that the request is wrong, or that we may not ask: trying again does not help."""


# No proxy of the environment stands between this host and itself.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def request(
    url: str, *, method: str = "GET", body: object = None, headers: Mapping[str, str] | None = None, timeout_s: float
) -> bytes:
    """One HTTP request; raises Unreachable or Refused with the first line of the answer."""
    data = None if body is None else json.dumps(body).encode()
    call = urllib.request.Request(
        url, method=method, data=data, headers={"Content-Type": "application/json", **(headers or {})}
    )
    try:
        with _OPENER.open(call, timeout=timeout_s) as answer:
            content: bytes = answer.read()
            return content
    except urllib.error.HTTPError as error:
        line = f"{method} {url}: {error.code} {_reason(_text(error))}"
        raise (Unreachable if error.code >= 500 else Refused)(line) from None
    except OSError as error:  # URLError is one, too
        reason = getattr(error, "reason", error)
        raise Unreachable(f"{method} {url}: {reason}") from None
    except http.client.HTTPException as error:  # cut off, or not HTTP at all; its text may have several lines
        raise Unreachable(f"{method} {url}: broken answer: {error!r}") from None


class ServeApi:
    """The dashboard at ``url`` with Ray's ``token``; ``lock`` is the file that serialises changes of the config."""

    def __init__(self, url: str, token: str, *, lock: Path, serve_host: str, serve_port: int) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._lock = lock
        # Replicas listen where Serve does: on loopback alone, Serve's HAProxy would not reach those on other hosts.
        self._http_options = {"host": serve_host, "port": serve_port}

    def _json(self, path: str) -> dict[str, Any]:
        answer = request(self._url + path, headers=self._headers, timeout_s=REQUEST_TIMEOUT_S)
        try:
            found = json.loads(answer)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Unreachable(f"GET {self._url}{path}: the answer is no JSON object")
        return found

    def _unknown_shape(self, path: str) -> Unreachable:
        return Unreachable(f"GET {self._url}{path}: not the answer of Ray 2.60")

    def applications(self) -> dict[str, Any]:
        """Serve's applications by name, with their status, deployments and replicas; none before Serve has started."""
        path = "/api/serve/applications/"
        found = self._json(path).get("applications", {})
        if not isinstance(found, dict):
            raise self._unknown_shape(path)
        return found

    def change_application(self, name: str, new: Mapping[str, Any] | None) -> None:
        """Put ``new`` in the place of the application ``name``; None removes it. Every other one stays as it is.

        A PUT is the full list and Serve deletes what is not in it: hence read, change and write under a lock.
        """
        with locked(self._lock, LOCK_TIMEOUT_S, "another change of Serve's config"):
            current = [
                app["deployed_app_config"]
                for app in self.applications().values()
                if app.get("deployed_app_config") and app["status"] != "DELETING"
            ]
            kept = [app for app in current if app["name"] != name]
            if new is None and len(kept) == len(current):
                return
            config = {
                "proxy_location": "HeadOnly",
                "http_options": self._http_options,
                "applications": [*kept, *([new] if new is not None else [])],
            }
            request(
                f"{self._url}/api/serve/applications/",
                method="PUT",
                body=config,
                headers=self._headers,
                timeout_s=PUT_TIMEOUT_S,
            )

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that are alive: ``node_ip``, ``is_head_node``, ``start_time_ms``, ``resources_total``, ``used``."""
        path = "/api/v0/nodes?detail=1&limit=10000"
        try:
            listing = self._json(path)
            alive = [node for node in listing["data"]["result"]["result"] if node["state"] == "ALIVE"]
            path = "/api/cluster_status"
            usage = self._json(path)["data"]["clusterStatus"]
            by_node = ((usage or {}).get("loadMetricsReport") or {}).get("usageByNode") or {}
            for node in alive:
                # This endpoint writes names in camel case; CPU and GPU stay what they are.
                node["used"] = {name: use[0] for name, use in by_node.get(node["node_id"], {}).items()}
        except (LookupError, TypeError, AttributeError):
            raise self._unknown_shape(path) from None
        return alive


def _text(error: urllib.error.HTTPError) -> str:
    """What stands in an answer of failure, as far as it can be read."""
    try:
        return error.read().decode(errors="replace").strip()
    except (OSError, http.client.HTTPException):
        return ""


def _reason(text: str) -> str:
    """What an answer says went wrong: the message of an OpenAI-shaped error, or the last line of a text."""
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return app_state.last_line(text)


@contextmanager
def locked(file: Path, timeout_s: float, what: str, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold an exclusive lock on ``file``. ``waiting`` is called every second until it is free.

    The kernel releases the lock when its process ends, however it ends.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    deadline = time.monotonic() + timeout_s
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Unreachable(f"waited {timeout_s:g} s for {what} ({file})") from None
            if waiting:
                waiting()
            time.sleep(1)
        yield
    finally:
        os.close(descriptor)
