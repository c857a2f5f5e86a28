"""A small HTTP server that speaks what Ray Serve's REST API was recorded to say (fixtures/, Ray 2.60).

It is here for what takes minutes with a real Ray or cannot be had at will; the lab tests run the same programs against
the real one. Dashboard, Serve's port and the metrics of Serve's HAProxy share one port here.
"""

import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parent / "fixtures"
TOKEN = "a-token"
MISSING = "/srv/models/nonexistent"


def fixture(name: str) -> Any:
    return json.loads((FIXTURES / name).read_text())


class RecordedServe:
    """Applications as Serve would show them. An application is RUNNING ``polls_to_run`` GETs after its PUT."""

    def __init__(self) -> None:
        self.config: dict[str, Any] = {"applications": []}
        self.puts: list[dict[str, Any]] = []
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.polls_to_run = 2
        self.polls_to_go = 2
        self.nodes = fixture("nodes.json")
        self.warm_up_status = 200
        self.warm_up_answer = "InvalidCxxCompiler"
        self.dashboard_status = 200
        self.port = 0
        self._age: dict[str, int] = {}
        self._going: dict[str, int] = {}
        self._replica: dict[str, str] = {}
        self._kept: dict[str, str] = {}
        self._serial = 0

    def put(self, config: dict[str, Any]) -> None:
        self.puts.append(config)
        before = {app["name"]: app for app in self.config["applications"]}
        now = {app["name"]: app for app in config["applications"]}
        for name in before.keys() - now.keys():
            self._going[name] = self.polls_to_go
        for name, app in now.items():
            old = before.get(name)
            if old is None or _version(old) != _version(app):
                self._age[name] = 0
                self._kept[name] = self._replica.get(name, "") if old else ""
                self._serial += 1
                self._replica[name] = f"replica{self._serial}"
        self.config = config

    def put_back_keeps(self, name: str, replica: str) -> None:
        """From here on the application runs with ``replica``: what Serve does when it gets an earlier config again."""
        self._replica[name] = replica

    def replica(self, name: str) -> str:
        return self._replica[name]

    def applications(self) -> dict[str, Any]:
        shown = {}
        for config in self.config["applications"]:
            name = config["name"]
            self._age[name] += 1
            shown[name] = self._shown(config, self._age[name])
        for name in list(self._going):
            self._going[name] -= 1
            if self._going[name] < 0 or name in shown:
                del self._going[name]
            else:
                shown[name] = {
                    "name": name,
                    "status": "DELETING",
                    "message": "",
                    "deployed_app_config": None,
                    "deployments": {},
                }
        return shown

    def _shown(self, config: dict[str, Any], age: int) -> dict[str, Any]:
        loading = config["args"]["llm_configs"][0]["model_loading_config"]
        slug = config["name"].removeprefix("m-")
        if loading["model_source"] == MISSING:
            app = copy.deepcopy(fixture("first_attempt_failed.json")["applications"]["m-emb"])
            app["deployments"][f"LLMServer:{slug}"] = app["deployments"].pop("LLMServer:emb")
        elif "no_such_argument" in config["args"]["llm_configs"][0]["engine_kwargs"]:
            app = copy.deepcopy(fixture("not_built_and_not_placed.json")["applications"]["m-unk"])
        elif age <= self.polls_to_run:
            app = {"status": "DEPLOYING", "message": "", "deployments": {}}
        else:
            app = copy.deepcopy(fixture("running.json")["applications"]["m-tiny-a"])
            deployment = app["deployments"].pop("LLMServer:tiny-a")
            deployment["replicas"][0]["replica_id"] = self._replica[config["name"]]
            app["deployments"][f"LLMServer:{slug}"] = deployment
        return {**app, "name": config["name"], "deployed_app_config": config}


def _version(app: dict[str, Any]) -> str:
    """What Serve computes an application's version from (ray/serve/_private/deploy_utils.py)."""
    return json.dumps([app["import_path"], app["runtime_env"], app["args"]], sort_keys=True)


@contextmanager
def serving(serve: RecordedServe) -> Iterator[RecordedServe]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_arguments: object) -> None:
            pass

        def _answer(self, status: int, body: object) -> None:
            content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _body(self) -> Any:
            return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

        def _refused(self) -> bool:
            if serve.dashboard_status != 200:
                self._answer(serve.dashboard_status, "The GCS may be down, please retry later")
                return True
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._answer(403, "Forbidden: Invalid authentication token")
                return True
            return False

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, (FIXTURES / "serve_haproxy_metrics.txt").read_text())
            elif not self._refused():
                if self.path == "/api/serve/applications/":
                    self._answer(200, {"proxies": {}, "applications": serve.applications()})
                elif self.path.startswith("/api/v0/nodes"):
                    self._answer(200, serve.nodes)
                elif self.path == "/api/cluster_status":
                    self._answer(200, fixture("cluster_status.json"))
                else:
                    self._answer(404, "404: Not Found")

        def do_PUT(self) -> None:
            if not self._refused():
                serve.put(self._body())
                self._answer(200, "")

        def do_POST(self) -> None:
            serve.requests.append((self.path, self._body()))
            self._answer(serve.warm_up_status, {"choices": []} if serve.warm_up_status == 200 else serve.warm_up_answer)

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_arguments: object) -> None:
            """A program that is ended in the middle of a request leaves it."""

    server = Server(("127.0.0.1", 0), Handler)
    serve.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield serve
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
