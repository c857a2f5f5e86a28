"""Does each model fit the GPUs that Ray may place it on? Pure: no pyinfra, no Ray."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from roles import field_errors
from roles.model_serving.list_source import Source
from roles.model_serving.model import Model
from roles.planner import alone
from roles.planner.memory import check as memory
from roles.planner.memory.check import Memory
from roles.planner.memory.found_model import FoundModel
from roles.planner.memory.hardware import GIB, Gpu
from roles.planner.placement.place import Host, replicas_of, stands_on
from roles.planner.plan import MemoryPlan


@dataclass(frozen=True)
class OnGpus:
    """One model on GPUs of one kind: what it needs there, and the hosts that have them."""

    hosts: tuple[Host, ...]
    memory: Memory


def kinds(model: Model, hosts: Sequence[tuple[Host, Gpu | None]], found: FoundModel) -> list[OnGpus]:
    """The model on each kind of GPU that Ray may give it; on CPUs as one kind."""
    by_gpu: dict[Gpu | None, list[Host]] = {}
    (replica,) = replicas_of(model, 1)
    for host, gpu in hosts:
        if stands_on(replica, host.room):
            by_gpu.setdefault(gpu if model.uses_gpu else None, []).append(host)
    largest = max((host.gpus for host, _ in hosts), default=0)
    return [
        OnGpus(
            tuple(alike),
            memory.check(model, found.shape, found.weights, gpu, max_tensor_parallel_size=largest),
        )
        for gpu, alike in by_gpu.items()
    ]


def problems(index: int, found: Sequence[OnGpus], source: Source) -> Iterator[str]:
    """Why a model of the list does not fit where Ray may place it, and the changes that would help."""
    for each in found:
        if each.memory.verdict != "does not fit":
            continue
        fitting = [other for other in found if other.memory.verdict == "fits"]
        types = sorted({str(host.gpu_model) for other in fitting for host in other.hosts if host.gpu_model})
        for path, text in each.memory.problems:
            where: field_errors.Path = ("models", index, *path)
            yield f"{source.where(where)}: on {alone.names(each.hosts)}: {text}{_remedy(each.memory, types)}"


def warnings(index: int, found: Sequence[OnGpus], source: Source) -> Iterator[str]:
    """What an operator should know of a model that fits."""
    notes = dict.fromkeys(note for each in found if each.memory.verdict == "fits" for note in each.memory.notes)
    yield from (f"{source.where(('models', index))}: {note}" for note in notes)


def shown(model: Model, found: Sequence[OnGpus], told: FoundModel) -> tuple[MemoryPlan | None, str | None]:
    """The kind of GPU with the least room, or why nothing is known."""
    known = [plan for each in found if (plan := _plan(model, each.memory)) is not None]
    if known:
        return min(known, key=lambda plan: plan.contexts), None
    reasons = [each.memory.reason for each in found if each.memory.reason]
    return None, "; ".join([*dict.fromkeys(reasons), *told.reasons]) or None


def _plan(model: Model, found: Memory) -> MemoryPlan | None:
    if found.weights_bytes is None or found.kv_available_bytes is None or not found.max_model_len:
        return None
    other = found.overhead_bytes or 0
    return MemoryPlan(
        unit="GPU" if model.uses_gpu else "worker",
        weights_gib=found.weights_bytes / GIB,
        other_gib=other / GIB,
        kv_cache_gib=found.kv_available_bytes / GIB,
        limit_gib=(found.weights_bytes + other + found.kv_available_bytes) / GIB,
        max_model_len=found.max_model_len,
        contexts=found.contexts or 0,
    )


def _remedy(found: Memory, types: Sequence[str]) -> str:
    """The single changes of the list after which it fits."""
    choices = [str(change) for change in found.changes]
    choices += [f"accelerator_type: {name}" for name in types]
    return f"; one of these makes it fit: {', '.join(choices)}" if choices else "; no single change makes it fit"
