import signal
from collections.abc import Iterator
from pathlib import Path

import model_start
import model_unit
import pytest
import start_queue
import systemd
from model_host import ModelHost

from tests.roles.model_serving.host.one_unit import Unit
from tests.roles.model_serving.host.recorded_serve import TOKEN, RecordedServe, serving


def host(port: int, run_dir: Path) -> ModelHost:
    return ModelHost(
        dashboard_port=port,
        serve_host="127.0.0.1",
        serve_port=port,
        serve_metrics_port=port,
        cache_dir="/cache",
        ray_temp_dir="/tmp/ray",
        token=TOKEN,
        run_dir=run_dir,
        state_dir=run_dir / "state",
    )


@pytest.fixture
def unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Unit]:
    """A unit of which nothing has been started yet."""
    for module in (model_unit, model_start, start_queue):
        monkeypatch.setattr(module, "POLL_S", 0.01)
    monkeypatch.setattr(start_queue, "GATHER_S", 0.0)
    monkeypatch.setenv("MAINPID", "1")
    handler = signal.getsignal(signal.SIGTERM)
    with serving(RecordedServe()) as serve:
        unit = Unit(serve, host(serve.port, tmp_path))
        monkeypatch.setattr(systemd, "notify", lambda *lines: unit.said.extend(lines))
        monkeypatch.setattr(systemd, "pending_job", unit.jobs.get)
        yield unit
    signal.signal(signal.SIGTERM, handler)
