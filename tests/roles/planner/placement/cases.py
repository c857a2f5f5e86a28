"""Racks and model lists that the planner and a real Ray are both asked about: small, mixed, about full."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import serve_app

from roles.model_serving.model import Model
from roles.planner.placement.place import Host, Replica, replicas_of

MOST_REPLICAS = 14


@dataclass(frozen=True)
class Case:
    """Hosts, and the models that are started on them in this order."""

    hosts: tuple[Host, ...]
    models: tuple[Model, ...]

    @property
    def replicas(self) -> tuple[Replica, ...]:
        return tuple(replica for model in self.models for replica in replicas_of(model))

    def for_ray(self) -> dict[str, Any]:
        """What ray_reference.py reads. The bundles are the ones the product asks for."""
        groups = []
        for model in self.models:
            needs = serve_app.needs(model.model_dump())
            strategy = "STRICT_PACK" if needs.one_node else "PACK"
            groups += [[list(needs.bundles), strategy]] * model.min_replicas
        return {"hosts": [[host.num_cpus, host.gpus, host.gpu_model] for host in self.hosts], "groups": groups}


def cases(count: int, seed: int, most_hosts: int) -> Iterator[Case]:
    """The same ones for the same numbers."""
    chosen = random.Random(seed)
    while count:
        hosts = tuple(_host(f"h{number}", chosen) for number in range(chosen.randint(1, most_hosts)))
        case = Case(hosts, tuple(_models(hosts, chosen)))
        if 1 <= len(case.replicas) <= MOST_REPLICAS:
            count -= 1
            yield case


def _host(name: str, chosen: random.Random) -> Host:
    gpus = chosen.choice((0, 0, 1, 1, 2, 2, 2, 3, 4, 4, 8))
    cpus = chosen.choice((64, 32, 16, gpus, gpus + 1, 4))
    return Host(name, cpus, gpus, chosen.choice(("H100", "H100", "L4")) if gpus else None)


def _models(hosts: tuple[Host, ...], chosen: random.Random) -> Iterator[Model]:
    """Models until the rack is about full."""
    wanted = chosen.uniform(0.4, 1.15) * sum(host.gpus for host in hosts)
    shares_only = chosen.random() < 0.2
    for number in range(MOST_REPLICAS):
        model = _model(f"m{number}", chosen, shares_only)
        wanted -= model.gpus_per_replica * model.min_replicas
        if wanted < 0 and number:
            return
        yield model


def _model(name: str, chosen: random.Random, shares_only: bool) -> Model:
    fields: dict[str, Any] = {"model_id": name, "min_replicas": chosen.choice((1, 1, 1, 2, 3))}
    fields["max_replicas"] = fields["min_replicas"]
    kind = "share" if shares_only else chosen.choice(("gpu", "gpu", "share", "share", "tensor", "pipeline", "cpu"))
    if kind == "cpu":
        fields |= {"accelerator_type": "cpu", "tensor_parallel_size": chosen.choice((1, 1, 2, 3))}
        fields["pipeline_parallel_size"] = chosen.choice((1, 1, 1, 2))
    elif chosen.random() < 0.35:
        fields["accelerator_type"] = chosen.choice(("H100", "L4"))
    if kind == "share":
        utilization = chosen.choice((0.1, 0.25, 0.3, 0.35, 0.4, 0.475, 0.5, 0.6, 0.7, 0.9))
        fields |= {"share_gpu": True, "gpu_memory_utilization": utilization}
    if kind == "tensor":
        fields["tensor_parallel_size"] = chosen.choice((2, 2, 3, 4))
    if kind == "pipeline":
        fields |= {"tensor_parallel_size": chosen.choice((1, 1, 2)), "pipeline_parallel_size": chosen.choice((2, 2, 3))}
    return Model.model_validate(fields)
