"""What an operator is told and what stops nothing."""

import pytest
from pyinfra.api.inventory import Inventory

from deploy.inputs import run
from deploy.inputs.rack import load_rack
from roles.planner.plan import Plan

NOTHING = Plan((), (), (), ())


@pytest.fixture
def shown(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """What pyinfra's logger shows in a run with one host and a model that fits it."""
    inventory = Inventory((["gpu-01"], {"gpus": 1}), head=(["gpu-01"], {}))
    rack = load_rack(inventory, {"MODEL_ID": "org/one"})
    monkeypatch.setattr(run, "rack", lambda: rack)
    return caplog


def test_a_warning_is_shown_once_and_the_run_goes_on(
    shown: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_warnings", {"gpu-01": ["gpu-01: /tmp/ray: on the root file system"]})
    monkeypatch.setattr(run, "_problems", {})
    for _ in range(2):  # the deploy file is read for each host
        run.stop_on_problems(NOTHING)
    assert [record.getMessage() for record in shown.records] == [
        "    warning: gpu-01: /tmp/ray: on the root file system"
    ]


def test_a_run_that_stops_shows_its_warnings_too(
    shown: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_warnings", {"gpu-01": ["a warning"]})
    monkeypatch.setattr(run, "_problems", {"gpu-01": ["a problem"]})
    with pytest.raises(run.StopRunError, match="a problem"):
        run.stop_on_problems(NOTHING)
    assert [record.getMessage() for record in shown.records] == ["    warning: a warning"]
