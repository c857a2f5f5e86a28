"""Hosts that cannot be reached: which of them a run may go on without."""

import pytest
from pyinfra.api.config import Config
from pyinfra.api.host import Host
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State
from pyinfra.context import ctx_state

from deploy.inputs import run
from deploy.inputs.rack import load_rack

HEAD = (
    "gpu-01: cannot be reached by SSH (the reason stands above); mend it: the head must be reachable, and no run goes "
    "on without it (skip_unreachable is for workers)"
)
WORKER = (
    "gpu-02: cannot be reached by SSH (the reason stands above); mend it, leave it out with --exclude gpu-02, or go on "
    "without with --data skip_unreachable=true"
)


def stops_with(monkeypatch: pytest.MonkeyPatch, *lost: str, skip: bool = False) -> list[str]:
    """What a run with these hosts lost stops with; nothing when it goes on."""
    data = {"skip_unreachable": skip}
    names = ["gpu-01", "gpu-02"]
    inventory = Inventory((names, data), head=(names[:1], {}), workers=(names[1:], {}))
    rack = load_rack(inventory, {"MODEL_ID": "org/one"})
    monkeypatch.setattr(run, "rack", lambda: rack)
    monkeypatch.setattr(run, "_unreachable", set())
    state = State(inventory, Config())
    state.failed_hosts.update(inventory.get_host(name) for name in lost)
    with ctx_state.use(state):
        try:
            run.stop_if_unreachable()
        except run.StopRunError as stopped:
            return [line.strip() for line in str(stopped).splitlines()[1:]]
    return []


def test_a_run_that_reaches_all_hosts_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stops_with(monkeypatch) == []


def test_every_host_that_is_lost_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stops_with(monkeypatch, "gpu-02", "gpu-01") == [HEAD, WORKER]


def test_a_run_may_go_on_without_a_worker_and_never_without_its_head(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stops_with(monkeypatch, "gpu-02", skip=True) == []
    assert stops_with(monkeypatch, "gpu-01", "gpu-02", skip=True) == [HEAD]


def test_a_host_that_answered_and_failed_afterwards_is_not_called_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Host, "connected", True)
    assert stops_with(monkeypatch, "gpu-02") == []
