"""One model's unit in a test: its server, its host, and the conversation with systemd."""

import os
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import model_unit
import serve_app
from model_host import ModelHost, Record, read_record
from serve_api import ServeApi

from roles.model_serving.model import Model
from tests.roles.model_serving.host.recorded_serve import RecordedServe

SLUG = "tiny-a"
NAME = "m-tiny-a"
UNIT = f"rayrack-model@{SLUG}.service"
LIMIT_S = 20


@dataclass
class Unit:
    """``said`` is what went to systemd; ``jobs`` is what systemd is about to do, by unit."""

    serve: RecordedServe
    host: ModelHost
    said: list[str] = field(default_factory=list)
    jobs: dict[str, str] = field(default_factory=dict)

    @property
    def api(self) -> ServeApi:
        return model_unit.serve_api(self.host)

    def fields(self, **values: Any) -> dict[str, Any]:
        model = {"model_id": SLUG, "model_source": "/srv/models/tiny-a", "accelerator_type": "cpu", **values}
        return Model(**model).model_dump(mode="json")

    def config(self, name: str) -> dict[str, Any]:
        app = serve_app.application(self.fields(), generation="0", cache_dir="/cache")
        return {**app, "name": name}

    def run(self, **values: Any) -> int:
        return model_unit.run(self.fields(**values), self.host, self.api)

    def command(self, name: str, **values: Any) -> int:
        return model_unit.COMMANDS[name](self.fields(**values), self.host, self.api)

    def record(self) -> Record | None:
        return read_record(self.host.run_dir, SLUG)

    def until_said(self, text: str) -> None:
        deadline = time.monotonic() + LIMIT_S
        while text not in "\n".join(self.said) and time.monotonic() < deadline:
            time.sleep(0.005)

    def end_when_said(self, text: str) -> threading.Thread:
        """Send this process SIGTERM, as systemd does, when ``text`` has been said."""

        def watch() -> None:
            self.until_said(text)
            os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=watch)
        thread.start()
        return thread

    def started(self, **values: Any) -> None:
        """Bring the model up, and end the unit's program without touching the model."""
        self.jobs[UNIT] = "stop"
        thread = self.end_when_said("1/1 replicas")
        assert self.run(**values) == 0
        thread.join()
        self.jobs.clear()
        self.said.clear()
