"""What a model asks that the rack could not give if it had the rack to itself. Pure: no pyinfra, no Ray."""

from collections.abc import Iterator, Sequence

from roles import field_errors
from roles.model_serving.model import Model
from roles.planner.placement.place import Host, bundles_of, most_of, place, replicas_of
from roles.planner.placement.room import UNITS

Problem = tuple[field_errors.Path, str]


def problems(model: Model, hosts: Sequence[Host]) -> list[Problem]:
    """Why ``hosts``, all of them empty, cannot hold the replicas that always run: a path in the model, and a line."""
    found = list(_gpu_problems(model, hosts)) if model.uses_gpu else []
    found = found or list(_cpu_problems(model, hosts))
    if found:
        return found
    replicas = replicas_of(model)
    if replicas[0].one_host:
        room = most_of(replicas[0], (host.room for host in hosts), len(replicas))
    else:
        room = len(place(replicas, hosts).placed)
    if room >= model.min_replicas:
        return []
    kind = names(suitable(model, hosts))
    return [(("min_replicas",), f"{model.min_replicas} replicas of {asked(model)} needed, room for {room} on {kind}")]


def suitable(model: Model, hosts: Sequence[Host]) -> list[Host]:
    """The hosts of the kind that the model asks for, large enough or not."""
    if not model.uses_gpu:
        return [host for host in hosts if host.runs_cpu_models]
    wanted = model.accelerator_type
    return [host for host in hosts if host.gpus and (wanted is None or host.gpu_model in (None, wanted))]


def asked(model: Model) -> str:
    """What one replica asks of Ray, in words: ``2 GPUs``, ``0.5263 of a GPU``, ``2 CPUs``."""
    return gpus(model.gpus_per_replica) if model.uses_gpu else f"{cpus(model)} CPUs"


def cpus(model: Model) -> int:
    """CPUs that one replica asks of Ray."""
    return sum(bundle.cpu for bundle in bundles_of(model)) // UNITS


def gpus(count: float) -> str:
    return "1 GPU" if count == 1 else f"{count:g} of a GPU" if 0 < count < 1 else f"{count:g} GPUs"


def names(hosts: Sequence[Host]) -> str:
    return ", ".join(host.name for host in hosts) if len(hosts) <= 4 else f"{len(hosts)} hosts"


def _gpu_problems(model: Model, hosts: Sequence[Host]) -> Iterator[Problem]:
    if not any(host.gpus for host in hosts):
        yield ("accelerator_type",), f"needs a GPU and there is none on {names(hosts)}; `cpu` does without"
        return
    kind = suitable(model, hosts)
    if not kind:
        types = sorted({str(host.gpu_model) for host in hosts if host.gpus})
        yield ("accelerator_type",), f"no host has {model.accelerator_type}; the rack has {', '.join(types)}"
        return
    # One group of tensor_parallel_size GPUs stands on one host: STRICT_PACK, or one pipeline stage.
    size, stages = model.tensor_parallel_size, model.pipeline_parallel_size
    largest = max(kind, key=lambda host: host.gpus)
    if size > largest.gpus:
        yield ("tensor_parallel_size",), f"{size} GPUs needed on one host, {largest.name} has {largest.gpus}"
        return
    groups = sum(host.gpus // size for host in kind)
    if stages > groups:
        needed = f"{stages} groups of {gpus(size)}"
        yield ("pipeline_parallel_size",), f"{needed} needed, room for {groups} on {names(kind)}"


def _cpu_problems(model: Model, hosts: Sequence[Host]) -> Iterator[Problem]:
    kind = suitable(model, hosts)
    if not kind:
        yield ("accelerator_type",), f"`cpu` needs a host with runtime `cpu`, and {names(hosts)} have `cuda`"
        return
    if any(host.num_cpus is None for host in kind) or model.pipeline_parallel_size > 1:
        return  # unknown, or split over hosts: placing tells
    needed = cpus(model)
    largest = max(kind, key=lambda host: host.num_cpus or 0)
    if largest.num_cpus is not None and needed > largest.num_cpus:
        path = ("tensor_parallel_size" if model.tensor_parallel_size > 1 else "accelerator_type",)
        there = f"{largest.name} has {largest.num_cpus:g} (num_cpus sets that)"
        yield path, f"{needed} CPUs needed on one host, {there}"
