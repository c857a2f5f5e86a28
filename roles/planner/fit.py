"""Does the model list fit the rack, as Ray would place it? What does not, what is free where, and the one change that
would make it fit. Pure: no pyinfra, no Ray."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from roles.model_serving.list_source import Source
from roles.model_serving.model import Model
from roles.planner import alone
from roles.planner.placement import Host, Placed, Placement, place, replicas_of

# A line names so many hosts with what is free there; the rest are counted. Models likewise.
_HOSTS_NAMED = 4
_MODELS_NAMED = 5


def problems(models: Sequence[Model], hosts: Sequence[Host], source: Source) -> list[str]:
    """Why the replicas that always run do not all find room on ``hosts`` when the rack starts empty; else nothing.

    One line per model that could not run even alone; when each could, per thing the rack has too little of for all
    together; when there is enough of everything, per model that Ray finds no room for beside the others.
    """
    found = [
        f"{source.where(('models', index, *path))}: {text}"
        for index, model in enumerate(models)
        for path, text in alone.problems(model, hosts)
    ]
    found = found or [f"{source.where(('models',))}: {text}" for text in _sums(models, hosts)]
    return found or list(_unplaced(models, hosts, source))


def placed(models: Iterable[Model], hosts: Sequence[Host], running: Sequence[Placed] = ()) -> Placement:
    """Where the replicas that always run will stand: models start in the order of the list."""
    return place([replica for model in models for replica in replicas_of(model)], hosts, running)


def reachable(model: Model, placement: Placement, hosts: Sequence[Host]) -> int:
    """How many replicas autoscaling could reach, up to ``max_replicas``, while all others have their least."""
    stand = sum(1 for each in placement.placed if each.replica.slug == model.slug)
    more = replicas_of(model, model.max_replicas)[stand:]
    return stand + len(place(more, hosts, placement.placed).placed) if more else stand


def _unplaced(models: Sequence[Model], hosts: Sequence[Host], source: Source) -> Iterator[str]:
    placement = placed(models, hosts)
    stand = Counter(each.replica.slug for each in placement.placed)
    stand.subtract(replica.slug for replica in placement.uncertain)
    certain = {replica.slug for replica in placement.unplaced}
    lost = [index for index, model in enumerate(models) if stand[model.slug] < model.min_replicas]
    for index in lost[:_MODELS_NAMED]:
        model = models[index]
        short = model.min_replicas - stand[model.slug]
        what = f"{short} of {model.min_replicas} replicas find" if model.min_replicas > 1 else "finds"
        why = "" if model.slug in certain else ", or may not, as Ray picks any of several hosts for those before it"
        yield (
            f"{source.where(('models', index, 'min_replicas'))}: {what} no room beside the models before it{why}: "
            f"{alone.asked(model)} needed on one host; free: {free(model, hosts, placement)}; "
            f"{_remedy(models, index, hosts, stand[model.slug])}"
        )
    if len(lost) > _MODELS_NAMED:
        yield f"{source.where(('models',))}: {len(lost) - _MODELS_NAMED} more models find no room"


def free(model: Model, hosts: Sequence[Host], placement: Placement) -> str:
    """What is left on the hosts of the kind that the model asks for, most first."""
    kind = [(host.name, placement.free[host.name]) for host in alone.suitable(model, hosts)]
    if model.uses_gpu:
        ranked = sorted(kind, key=lambda entry: sum(entry[1].gpus), reverse=True)
        words = [f"{name} {alone.gpus(round(sum(free.gpus), 4))}" for name, free in ranked]
    else:
        ranked = sorted(kind, key=lambda entry: entry[1].cpus or 0, reverse=True)
        words = [f"{name} {free.cpus:g} CPUs" if free.cpus is not None else f"{name} unknown" for name, free in ranked]
    rest = len(words) - _HOSTS_NAMED
    return ", ".join(words[:_HOSTS_NAMED]) + (f" and as much or less on {rest} more" if rest > 0 else "")


def _remedy(models: Sequence[Model], index: int, hosts: Sequence[Host], stand: int) -> str:
    """The one change after which everything fits, if there is one. ``stand``: replicas of it that find room now."""
    model = models[index]
    before, behind = models[:index], models[index + 1 :]
    if placed([model, *before, *behind], hosts).fits:
        return "put it first in the list"
    if placed(sorted(models, key=lambda each: each.gpus_per_replica, reverse=True), hosts).fits:
        return "order the list by GPUs per replica, largest first"
    if stand and placed([*before, model.model_copy(update={"min_replicas": stand}), *behind], hosts).fits:
        return f"min_replicas {stand} would fit"
    if placed([*before, *behind], hosts).fits:
        return "all others fit without it"
    return "add a host, or take models off the list"


def _sums(models: Sequence[Model], hosts: Sequence[Host]) -> Iterator[str]:
    yield from _short("GPUs", models, hosts, lambda model: model.gpus_per_replica, lambda host: host.gpus)
    for accelerator in sorted({model.accelerator_type or "" for model in models if model.uses_gpu} - {""}):
        alike = [model for model in models if model.accelerator_type == accelerator]
        kind = alone.suitable(alike[0], hosts)
        yield from _short(
            f"{accelerator} GPUs", alike, kind, lambda model: model.gpus_per_replica, lambda host: host.gpus
        )
    if all(host.num_cpus is not None for host in hosts):
        yield from _short("CPUs", models, hosts, alone.cpus, lambda host: host.num_cpus or 0)


def _short(
    what: str,
    models: Iterable[Model],
    hosts: Sequence[Host],
    per_replica: Callable[[Model], float],
    per_host: Callable[[Host], float],
) -> Iterator[str]:
    # Shares are whole units of 1/10000 GPU, so that twenty floats do not add up to a little more than a GPU.
    needed = sum(round(per_replica(model) * 10_000) * model.min_replicas for model in models) / 10_000
    there = sum(per_host(host) for host in hosts)
    if needed > there:
        yield f"min_replicas of all models need {needed:g} {what}, there are {there:g} on {alone.names(hosts)}"
