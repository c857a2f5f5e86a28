"""Which token a run replaces, and when it refuses to."""

from dataclasses import replace

import pytest
from pyinfra.api.inventory import Inventory

from deploy.inputs import planning, rotation, run
from deploy.inputs.rack import Rack, load_rack
from roles.planner.changes.hosts import TOKEN, HostFound
from roles.ray_cluster.activation import NodeState

NEW, OLD = "aaaa", "bbbb"


def rack_of(*, rotate: bool) -> Rack:
    data = {"rotate_ray_token": rotate}
    inventory = Inventory(
        (["gpu-01", "gpu-02"], {}), override_data=data, head=(["gpu-01"], {}), workers=(["gpu-02"], {})
    )
    return load_rack(inventory, {"MODEL_ID": "org/one"})


def host_with(token: str | None, started_with: str | None) -> HostFound:
    applied = None if started_with is None else {TOKEN: started_with}
    return HostFound(NodeState({}, (), applied), {}, {}, runtime=None, runtime_path=None, token=token)


RUNS = {"gpu-01": host_with(NEW, NEW), "gpu-02": host_with(NEW, NEW)}


def test_a_run_that_is_asked_to_replaces_the_head_s_token() -> None:
    assert rotation.token_to_replace(rack_of(rotate=True), RUNS) == NEW


def test_an_ordinary_run_replaces_none() -> None:
    assert rotation.token_to_replace(rack_of(rotate=False), RUNS) is None


def test_a_rotation_that_was_cut_short_is_finished_and_no_other_one_is_begun() -> None:
    cut_short = RUNS | {"gpu-02": host_with(OLD, OLD)}
    assert rotation.token_to_replace(rack_of(rotate=True), cut_short) is None
    assert rotation.is_unfinished(rack_of(rotate=True), cut_short)


def test_a_first_deploy_makes_a_token_and_replaces_none() -> None:
    blank = dict.fromkeys(RUNS, host_with(None, None))
    assert rotation.token_to_replace(rack_of(rotate=True), blank) is None


def problems(monkeypatch: pytest.MonkeyPatch, *, found: dict[str, HostFound], rotate: bool = True) -> list[str]:
    rack = rack_of(rotate=rotate)
    monkeypatch.setattr(run, "rack", lambda: rack)
    monkeypatch.setattr(planning, "_found", found)
    return planning._rotation_problems()


def test_a_run_without_one_of_the_hosts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = problems(monkeypatch, found={"gpu-01": RUNS["gpu-01"]})
    assert "this run leaves gpu-02 out" in line
    assert problems(monkeypatch, found=RUNS) == []
    assert problems(monkeypatch, found={}, rotate=False) == []


def test_a_host_that_the_health_gate_blocks_counts_as_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning.gpu_gate, "blocked", lambda: {"gpu-02": None})
    (line,) = problems(monkeypatch, found=RUNS)
    assert "gpu-02" in line


def test_a_single_deploy_file_rotates_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rack = rack_of(rotate=True)
    monkeypatch.setattr(run, "rack", lambda: rack)
    monkeypatch.setattr(planning, "_found", {})
    with pytest.raises(run.StopRunError, match="takes a run of the whole directory"):
        planning.token_to_replace()
    monkeypatch.setattr(planning, "_found", {"gpu-01": replace(RUNS["gpu-01"])})
    assert planning.token_to_replace() == NEW
