"""Can the rack hold the list at all? A first check from the inventory's numbers, before any host is changed.

It finds models that no host can ever run, which Ray would leave waiting for ever, and lists that ask for more than the
rack has. It does not pack models onto hosts: a list that passes may still not fit.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from roles import field_errors
from roles.model_serving.list_source import Source
from roles.model_serving.model import Model
from roles.settings import Settings

# Ray 2.60, ray/llm/_internal/serve/core: a replica is one actor that asks for 1 CPU (LLMServer.get_deployment_options,
# `ray_actor_options.get("num_cpus", 1)`) and an engine whose every worker asks for 1 CPU when there is no GPU
# (CPUAccelerator.default_bundles).
REPLICA_CPUS = 1
CPU_WORKER_CPUS = 1

Problem = tuple[field_errors.Path, str]


@dataclass(frozen=True)
class HostCapacity:
    """What the inventory says of a host that runs replicas. ``num_cpus`` and ``gpu_model`` None: not known here."""

    name: str
    num_cpus: int | None
    gpus: int
    gpu_model: str | None
    runs_cpu_models: bool = True
    """It has the runtime `cpu`. The engine of `cuda` finds no device to run on when Ray gives it no GPU."""

    @classmethod
    def of(cls, name: str, settings: Settings, cpus_found: int | None) -> "HostCapacity":
        """A host as its settings say; ``cpus_found`` is what it has, if anybody has looked."""
        cpus = settings.num_cpus or cpus_found
        return cls(name, cpus, settings.ray_gpus, settings.gpu_model, runs_cpu_models=settings.runtime == "cpu")


def cpus_per_replica(model: Model) -> int:
    """CPUs that one replica asks of Ray."""
    workers = 0 if model.uses_gpu else model.tensor_parallel_size * model.pipeline_parallel_size
    return REPLICA_CPUS + CPU_WORKER_CPUS * workers


def can_run(model: Model, host: HostCapacity) -> bool:
    """Whether Ray could place a replica, or one stage of its pipeline, on this host."""
    if model.uses_gpu:
        return host.gpus >= model.tensor_parallel_size and _has_type(host, model.accelerator_type)
    if not host.runs_cpu_models:
        return False
    alone = model.pipeline_parallel_size == 1
    return host.num_cpus is None or host.num_cpus >= (cpus_per_replica(model) if alone else CPU_WORKER_CPUS)


def problems(models: Sequence[Model], hosts: Sequence[HostCapacity], source: Source) -> list[str]:
    """One line per model that cannot run on ``hosts``; when each could alone, one per thing they are short of together.

    ``hosts`` are the hosts of the inventory that run replicas, at least one.
    """
    found = [
        f"{source.where(('models', index, *path))}: {text}"
        for index, model in enumerate(models)
        for path, text in _model_problems(model, hosts)
    ]
    return found or [f"{source.where(('models',))}: {text}" for text in _sum_problems(models, hosts)]


def _model_problems(model: Model, hosts: Sequence[HostCapacity]) -> Iterator[Problem]:
    if model.uses_gpu:
        yield from _gpu_problems(model, hosts)
    yield from _cpu_problems(model, hosts)


def _gpu_problems(model: Model, hosts: Sequence[HostCapacity]) -> Iterator[Problem]:
    if not any(host.gpus for host in hosts):
        yield ("accelerator_type",), f"needs a GPU and there is none on {_names(hosts)}; `cpu` does without"
        return
    suitable = [host for host in hosts if host.gpus and _has_type(host, model.accelerator_type)]
    if not suitable:
        types = sorted({str(host.gpu_model) for host in hosts if host.gpus})
        yield ("accelerator_type",), f"no host has {model.accelerator_type}; the rack has {', '.join(types)}"
        return
    # One group of tensor_parallel_size GPUs always stands on one host: STRICT_PACK, or one pipeline stage.
    size, stages = model.tensor_parallel_size, model.pipeline_parallel_size
    largest = max(suitable, key=lambda host: host.gpus)
    if size > largest.gpus:
        yield ("tensor_parallel_size",), f"{size} GPUs needed on one host, {largest.name} has {largest.gpus}"
        return
    groups = sum(host.gpus // size for host in suitable)
    if stages > groups:
        yield (
            ("pipeline_parallel_size",),
            f"{stages} groups of {_gpus(size)} needed, room for {groups} on {_names(suitable)}",
        )
        return
    room = groups // stages
    if model.share_gpu:
        room = groups * (10_000 // round(model.gpus_per_replica * 10_000))
    if model.min_replicas > room:
        each = _gpus(model.gpus_per_replica)
        yield (
            ("min_replicas",),
            f"{model.min_replicas} replicas of {each} needed, room for {room} on {_names(suitable)}",
        )


def _cpu_problems(model: Model, all_hosts: Sequence[HostCapacity]) -> Iterator[Problem]:
    hosts = [host for host in all_hosts if model.uses_gpu or host.runs_cpu_models]
    if not hosts:
        yield ("accelerator_type",), f"`cpu` needs a host with runtime `cpu`, and {_names(all_hosts)} have `cuda`"
        return
    if any(host.num_cpus is None for host in hosts) or (model.pipeline_parallel_size > 1 and not model.uses_gpu):
        return  # unknown, or split over hosts: the sum over the rack tells
    needed = cpus_per_replica(model)
    largest = max(hosts, key=_cpus)
    path = ("tensor_parallel_size",) if needed > REPLICA_CPUS + CPU_WORKER_CPUS else ("accelerator_type",)
    if needed > _cpus(largest):
        yield path, f"{needed} CPUs needed on one host, {largest.name} has {_cpus(largest)} (num_cpus sets that)"
        return
    room = sum(_cpus(host) // needed for host in hosts)
    if model.min_replicas > room:
        yield (
            ("min_replicas",),
            f"{model.min_replicas} replicas of {needed} CPUs needed, room for {room} on {_names(hosts)}",
        )


def _sum_problems(models: Sequence[Model], hosts: Sequence[HostCapacity]) -> Iterator[str]:
    yield from _short("GPUs", models, hosts, lambda model: model.gpus_per_replica, lambda host: host.gpus)
    for accelerator in sorted(
        {model.accelerator_type for model in models if model.uses_gpu and model.accelerator_type}
    ):
        alike = [model for model in models if model.accelerator_type == accelerator]
        suitable = [host for host in hosts if _has_type(host, accelerator)]
        yield from _short(
            f"{accelerator} GPUs", alike, suitable, lambda model: model.gpus_per_replica, lambda host: host.gpus
        )
    if all(host.num_cpus is not None for host in hosts):
        yield from _short("CPUs", models, hosts, cpus_per_replica, _cpus)


def _short(
    what: str,
    models: Iterable[Model],
    hosts: Sequence[HostCapacity],
    per_replica: Callable[[Model], float],
    per_host: Callable[[HostCapacity], int],
) -> Iterator[str]:
    # Shares are whole units of 1/10000 GPU, so that twenty floats do not add up to a little more than a GPU.
    needed = sum(round(per_replica(model) * 10_000) * model.min_replicas for model in models) / 10_000
    there = sum(per_host(host) for host in hosts)
    if needed > there:
        yield f"min_replicas of all models need {needed:g} {what}, there are {there} on {_names(hosts)}"


def _has_type(host: HostCapacity, accelerator: str | None) -> bool:
    return accelerator is None or host.gpu_model is None or host.gpu_model == accelerator


def _cpus(host: HostCapacity) -> int:
    return host.num_cpus or 0


def _gpus(count: float) -> str:
    return "1 GPU" if count == 1 else f"{count:g} GPUs" if count > 1 else f"{count:g} of a GPU"


def _names(hosts: Sequence[HostCapacity]) -> str:
    return ", ".join(host.name for host in hosts) if len(hosts) <= 4 else f"{len(hosts)} hosts"
