"""What a model's unit knows about its host, and what it remembers between two runs. Standard library only."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from serve_app import SettingsError

RUN_DIR = Path("/run/rayrack")
# Survives a reboot; the service user's.
STATE_DIR = Path("/var/lib/rayrack")


@dataclass(frozen=True)
class ModelHost:
    """Ports and places on the head, from ray.env, and Ray's token."""

    dashboard_port: int
    serve_host: str
    serve_port: int
    serve_metrics_port: int
    cache_dir: str
    ray_temp_dir: str
    token: str
    run_dir: Path = RUN_DIR
    state_dir: Path = STATE_DIR

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "ModelHost":
        def setting(name: str) -> Any:
            try:
                return json.loads(environ[f"RAYRACK_{name}"])
            except (KeyError, ValueError):
                raise SettingsError(
                    f"RAYRACK_{name}: missing in /etc/rayrack/ray.env, or not JSON: deploy again"
                ) from None

        token_file = environ.get("RAY_AUTH_TOKEN_PATH", "")
        try:
            token = Path(token_file).read_text().strip()
        except OSError as error:
            raise SettingsError(
                f"Ray's token: {token_file or 'RAY_AUTH_TOKEN_PATH is not set'}: {error.strerror}"
            ) from None
        return cls(
            dashboard_port=setting("DASHBOARD_PORT"),
            serve_host=setting("SERVE_HOST"),
            serve_port=setting("SERVE_PORT"),
            serve_metrics_port=setting("SERVE_METRICS_PORT"),
            cache_dir=setting("CACHE_DIR"),
            ray_temp_dir=setting("RAY_TEMP_DIR"),
            token=token,
        )

    @property
    def serve_url(self) -> str:
        return f"http://127.0.0.1:{self.serve_port}"

    @property
    def dashboard_url(self) -> str:
        return f"http://127.0.0.1:{self.dashboard_port}"

    @property
    def config_lock(self) -> Path:
        return self.run_dir / "serve-config.lock"


@dataclass
class Record:
    """What a unit has applied; lies in /run/rayrack/models and is gone after a reboot, as the applications are.

    ``state``: ``starting``; ``ready``; ``replace``, when a restart left the running application for the next start to
    put a new one in its place. ``fields``: those of the application that runs or is being started. ``attempts``:
    failed starts in a row. ``failed_update``: why a surge was given up, while the previous replicas go on serving.
    """

    state: Literal["starting", "ready", "replace"] = "starting"
    fields: dict[str, Any] = field(default_factory=dict)
    attempts: int = 0
    failed_update: str | None = None


def record_file(run_dir: Path, slug: str) -> Path:
    return run_dir / "models" / f"{slug}.json"


def read_record(run_dir: Path, slug: str) -> Record | None:
    """The record of a model; None when there is none, or none that can be read."""
    try:
        return Record(**json.loads(record_file(run_dir, slug).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write_record(run_dir: Path, slug: str, record: Record) -> None:
    file = record_file(run_dir, slug)
    file.parent.mkdir(mode=0o755, exist_ok=True)
    new = file.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps(asdict(record)))
    new.replace(file)


def remove_record(run_dir: Path, slug: str) -> None:
    record_file(run_dir, slug).unlink(missing_ok=True)


def _load_file(state_dir: Path, slug: str) -> Path:
    return state_dir / "load_times" / f"{slug}.json"


def write_load(state_dir: Path, slug: str, seconds: float, fields: Mapping[str, Any]) -> None:
    """Remember how long a model took from its application's PUT to its first answer; ``fields``: what it was then.

    For the next plan only: a disk that is full must not fail a model that serves.
    """
    file = _load_file(state_dir, slug)
    new = file.with_suffix(".new")
    with suppress(OSError):
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        new.write_text(json.dumps({"seconds": round(seconds, 1), "fields": dict(fields)}))
        new.replace(file)


def read_load(state_dir: Path, slug: str) -> dict[str, Any] | None:
    """``seconds`` and ``fields`` of the last load; None when there was none, or none that can be read."""
    try:
        found = json.loads(_load_file(state_dir, slug).read_text())
        return {"seconds": float(found["seconds"]), "fields": dict(found["fields"])}
    except (OSError, ValueError, LookupError, TypeError):
        return None


def remove_load(state_dir: Path, slug: str) -> None:
    _load_file(state_dir, slug).unlink(missing_ok=True)
