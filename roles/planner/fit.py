"""Does the model list fit the rack, as Ray would place it? What does not, what is free where, and the one change that
would make it fit. Pure: no pyinfra, no Ray."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from roles.model_serving.list_source import Source
from roles.model_serving.model import Model
from roles.planner import alone
from roles.planner.placement.order import order_that_fits
from roles.planner.placement.place import Host, Placement, most_of, place, replicas_of

# A line names so many hosts with what is free there; the rest are counted. Models likewise.
_HOSTS_NAMED = 4
_MODELS_NAMED = 5
_ORDER_NAMED = 12


def problems(models: Sequence[Model], hosts: Sequence[Host], source: Source, placement: Placement) -> list[str]:
    """Why the replicas that always run do not all find room on ``hosts`` when the rack starts empty; else nothing.

    One line per model that could not run even alone; when each could, per thing the rack has too little of for all
    together; when there is enough of everything, per model that Ray finds no room for beside the others.

    Args:
        placement: of ``models`` on ``hosts``.
    """
    found = [
        f"{source.where(('models', index, *path))}: {text}"
        for index, model in enumerate(models)
        for path, text in alone.problems(model, hosts)
    ]
    found = found or [f"{source.where(('models',))}: {text}" for text in _sums(models, hosts)]
    return found or [*_unplaced(models, hosts, source, placement), *_splits(models, source, placement)]


def warnings(models: Sequence[Model], source: Source, placement: Placement) -> list[str]:
    """Models of which nobody can say whether they find room: there are too many ways to place those before them."""
    if placement.followed or placement.unplaced:
        return []
    open_ones = {replica.slug for replica in placement.uncertain}
    return [
        f"{source.where(('models', index))}: there is room for it, and Ray may place the models before it so that "
        "there is none: the rack is nearly full and its hosts are unlike"
        for index, model in enumerate(models)
        if model.slug in open_ones
    ]


def placed(models: Iterable[Model], hosts: Sequence[Host]) -> Placement:
    """Where the replicas that always run will stand: models start in the order of the list."""
    return place([replica for model in models for replica in replicas_of(model)], hosts)


def reachable(model: Model, stand: int, placement: Placement, hosts: Sequence[Host]) -> int:
    """How many replicas autoscaling could reach, up to ``max_replicas``, while all others have their least.

    Args:
        stand: replicas of the model that are placed.
        hosts: those of ``placement``.
    """
    more = replicas_of(model, model.max_replicas)[stand:]
    if not more:
        return stand
    if not more[0].one_host:
        return stand + len(place(more, hosts, placement.placed).placed)
    return stand + most_of(more[0], (host.left(placement.free[host.name]) for host in hosts), len(more))


def _unplaced(models: Sequence[Model], hosts: Sequence[Host], source: Source, placement: Placement) -> Iterator[str]:
    if placement.fits or (not placement.unplaced and not placement.followed):
        return
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


def _splits(models: Sequence[Model], source: Source, placement: Placement) -> Iterator[str]:
    """vLLM takes bundles of one GPU only, and PACK fills a host with as many as it has free."""
    for index, model in enumerate(models):
        size = model.tensor_parallel_size
        for placed in placement.placed if model.pipeline_parallel_size > 1 < size else ():
            on_hosts = Counter(bundle.host for bundle in placed.bundles)
            if placed.replica.slug == model.slug and any(count % size for count in on_hosts.values()):
                spread = ", ".join(f"{alone.gpus(count)} on {name}" for name, count in on_hosts.items())
                yield (
                    f"{source.where(('models', index, 'pipeline_parallel_size'))}: Ray would split a tensor-parallel "
                    f"group of {size} GPUs over hosts ({spread}): put it before models that leave hosts with a number "
                    f"of free GPUs that is no multiple of {size}"
                )
                break


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
    if order := order_that_fits([replica for each in models for replica in replicas_of(each)], hosts):
        named = ", ".join(order[:_ORDER_NAMED])
        return f"in this order the list fits: {named}" + (", ..." if len(order) > _ORDER_NAMED else "")
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
