"""``python -m tests.bench.placement``: how long placing, and a whole plan, take for racks of growing size."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from roles.model_serving.list_source import Source
from roles.model_serving.model import Model
from roles.planner import build, report
from roles.planner.build import PlanHost, PlanInputs
from roles.planner.memory import hardware
from roles.planner.memory.found_model import FoundModel
from roles.planner.placement.place import Host, Replica, place, replicas_of
from tests.roles.planner.memory import fixtures

SIZES = (25, 50, 100, 200, 400)
REPLICAS_PER_HOST = 10
REPLICAS_PER_MODEL = 10
ROUNDS = 3

Rack = tuple[list[Host], list[Replica]]


def _replicas(hosts: int, kinds: list[dict[str, Any]]) -> list[Replica]:
    """Ten for each host, in models of ten whose kinds take turns."""
    found: list[Replica] = []
    for number in range(hosts * REPLICAS_PER_HOST // REPLICAS_PER_MODEL):
        fields = {"min_replicas": REPLICAS_PER_MODEL, "max_replicas": REPLICAS_PER_MODEL, **kinds[number % len(kinds)]}
        found += replicas_of(Model.model_validate({"model_id": f"m{number}", **fields}))
    return found


def _share(utilization: float, **fields: Any) -> dict[str, Any]:
    return {"share_gpu": True, "gpu_memory_utilization": utilization, **fields}


def alike(size: int) -> Rack:
    """Equal hosts of eight GPUs; whole GPUs, pairs and shares."""
    kinds = [{}, {"tensor_parallel_size": 2}, _share(0.3), _share(0.38), _share(0.19), _share(0.1)]
    return [Host(f"h{number}", 128, 8, "H100") for number in range(size)], _replicas(size, kinds)


def typed(size: int) -> Rack:
    """Two types of GPU, each asked for by name."""
    hosts = [Host(f"h{number}", 128, 8, ("H100", "L4")[number % 2]) for number in range(size)]
    kinds = [{**kind, "accelerator_type": name} for kind in ({}, _share(0.3), _share(0.475)) for name in ("H100", "L4")]
    return hosts, _replicas(size, kinds)


def unlike(size: int) -> Rack:
    """Hosts of many sizes, and pipelines and shares together."""
    hosts = [Host(f"h{number}", 32 + 8 * (number % 16), (4, 8, 8, 8)[number % 4], "H100") for number in range(size)]
    kinds = [{}, _share(0.3), {"pipeline_parallel_size": 2}, _share(0.19), _share(0.1), _share(0.475)]
    return hosts, _replicas(size, kinds)


def undecided(size: int) -> Rack:
    """Two types of GPU in hosts that Ray ranks equal, and models that take either: the most ways to follow."""
    hosts = [Host(f"h{number}", 128, 8, ("H100", "L4")[number % 2]) for number in range(size)]
    return hosts, _replicas(size, [_share(0.3), {}, _share(0.19), _share(0.475), {"accelerator_type": "L4"}])


def seconds(rack: Rack) -> float:
    """Processor time, the least of a few rounds."""
    hosts, replicas = rack
    times = []
    for _ in range(ROUNDS):
        started = time.process_time()
        place(replicas, hosts)
        times.append(time.process_time() - started)
    return min(times)


def plan_seconds(size: int, per_model: int) -> float:
    """A whole plan, shown: ten replicas for each of ``size`` equal hosts, ``per_model`` of a model."""
    gpu = hardware.gpu("H100", None)
    hosts = [PlanHost(Host(f"h{number}", 128, 16, "H100"), number == 0, gpu) for number in range(size)]
    shape = fixtures.published("qwen3-8b").shape
    models = [
        Model(model_id=f"m{number}", min_replicas=per_model, max_replicas=per_model + 2, max_model_len=8192)
        for number in range(size * REPLICAS_PER_HOST // per_model)
    ]
    found = {model.model_source: FoundModel(shape, None) for model in models}
    started = time.process_time()
    report.text(build.plan(PlanInputs(hosts, models, Source("file", "models.yaml"), found=found)))
    return time.process_time() - started


def lines(make: Callable[[int], Rack]) -> Iterator[str]:
    """One for each size; growth is the power of the size with which the time grew since the size before."""
    before: tuple[int, float] | None = None
    for size in SIZES:
        hosts, replicas = make(size)
        took = seconds((hosts, replicas))
        plan = place(replicas, hosts)
        growth = "" if before is None else f"{math.log(took / before[1]) / math.log(size / before[0]):.2f}"
        before = size, took
        yield (
            f"{make.__name__:<10} {size:>5} {len(replicas):>8} {took:>8.3f} {growth:>6} "
            f"{len(plan.unplaced):>8} {len(plan.uncertain):>9}"
        )


def main() -> None:
    print(f"{'rack':<10} {'hosts':>5} {'replicas':>8} {'CPU s':>8} {'growth':>6} {'unplaced':>8} {'uncertain':>9}")
    for make in (alike, typed, unlike, undecided):
        for line in lines(make):
            print(line, flush=True)
    for per_model in (REPLICAS_PER_MODEL, 1):
        for size in SIZES:
            print(
                f"plan of {size} hosts, {per_model:>2} replicas per model: {plan_seconds(size, per_model):.2f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
