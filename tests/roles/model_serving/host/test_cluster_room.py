"""Whether the nodes could hold a model, and what to say when they could not."""

from typing import Any

import cluster_room
import pytest
from serve_app import Needs


def node(ip: str, used: dict[str, float] | None = None, **total: float) -> dict[str, Any]:
    return {"node_ip": ip, "resources_total": total, "used": used or {}}


H100 = {"accelerator_type:H100": 1.0}
GPU = {"GPU": 1, "CPU": 1}
TWO_GPUS = Needs(({"GPU": 1, "CPU": 1}, {"GPU": 1}), one_node=True)


def test_a_model_without_a_gpu_needs_a_node_with_the_runtime_cpu() -> None:
    need = Needs(({"CPU": 2, "rayrack_runtime_cpu": 0.001},), one_node=True)
    cuda = node("10.0.0.1", CPU=8, GPU=2)
    assert cluster_room.missing(need, 1, [cuda, node("10.0.0.2", CPU=2, rayrack_runtime_cpu=1.0)]) is None
    assert cluster_room.missing(need, 1, [cuda, node("10.0.0.2", CPU=1, rayrack_runtime_cpu=1.0)]) == (
        "needs 2 CPU with the runtime `cpu` on one node; total: 10.0.0.1 8 CPU; 10.0.0.2 1 CPU with the runtime `cpu`"
    )


def test_a_group_of_gpus_must_fit_one_node() -> None:
    apart = [node("10.0.0.1", GPU=1, CPU=8), node("10.0.0.2", GPU=1, CPU=8)]
    assert cluster_room.missing(TWO_GPUS, 1, apart) == (
        "needs 1 CPU, 2 GPU on one node; total: 10.0.0.1 8 CPU, 1 GPU; 10.0.0.2 8 CPU, 1 GPU"
    )
    assert cluster_room.missing(TWO_GPUS, 1, [*apart, node("10.0.0.3", GPU=2, CPU=8)]) is None


def test_pipeline_stages_may_stand_apart() -> None:
    apart = [node("10.0.0.1", GPU=1, CPU=8), node("10.0.0.2", GPU=1, CPU=8)]
    assert cluster_room.missing(Needs(TWO_GPUS.bundles, one_node=False), 1, apart) is None


def test_the_kind_of_gpu_counts() -> None:
    need = Needs(({**GPU, "accelerator_type:H100": 0.001},), one_node=True)
    assert cluster_room.missing(need, 1, [node("10.0.0.1", GPU=8, CPU=8, **H100)]) is None
    assert cluster_room.missing(need, 1, [node("10.0.0.1", **{"GPU": 8, "CPU": 8, "accelerator_type:L4": 1})]) == (
        "needs 1 CPU, 1 GPU of type H100 on one node; total: 10.0.0.1 8 CPU, 8 GPU of type L4"
    )


@pytest.mark.parametrize(("replicas", "fits"), [(1, True), (3, True), (4, False)])
def test_all_replicas_must_fit_at_once(replicas: int, fits: bool) -> None:
    nodes = [node("10.0.0.1", GPU=2, CPU=8), node("10.0.0.2", GPU=1, CPU=8)]
    assert (cluster_room.missing(Needs((GPU,), one_node=True), replicas, nodes) is None) is fits


def test_parts_of_a_gpu_add_up_without_rounding_errors() -> None:
    need = Needs(({"GPU": 0.1, "CPU": 1},), one_node=True)
    assert cluster_room.missing(need, 10, [node("10.0.0.1", GPU=1, CPU=16)]) is None


def test_what_others_use_counts_only_when_asked_for_what_is_free() -> None:
    nodes = [node("10.0.0.1", used={"GPU": 1.0}, GPU=1, CPU=8)]
    need = Needs((GPU,), one_node=True)
    assert cluster_room.missing(need, 1, nodes) is None
    assert cluster_room.missing(need, 1, nodes, free=True) == (
        "needs 1 CPU, 1 GPU on one node; free: 10.0.0.1 8 CPU, 0 GPU"
    )


def test_a_cluster_without_nodes_is_told_as_such() -> None:
    assert "no node is alive" in (cluster_room.missing(Needs((GPU,), one_node=True), 1, []) or "")
