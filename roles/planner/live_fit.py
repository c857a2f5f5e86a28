"""Do the models that this run starts find room beside those that go on running? Pure: no pyinfra, no Ray.

Ray never moves what it has placed, so a list that fits an empty rack may not fit the one that runs.
"""

from collections.abc import Iterator, Mapping, Sequence

from roles.model_serving.list_source import Source
from roles.model_serving.model import Model
from roles.planner import alone, fit
from roles.planner.changes.models import ModelChange
from roles.planner.placement.place import Host, Placed, PlacedBundle, Placement, Replica, place, replicas_of

# Fields that say what a replica asks of Ray.
SIZE_FIELDS = frozenset(
    ("accelerator_type", "tensor_parallel_size", "pipeline_parallel_size", "share_gpu", "gpu_memory_utilization")
)
Standing = Mapping[str, Sequence[str]]
"""By slug, the host of each replica that runs now."""


def problems(
    models: Sequence[Model],
    hosts: Sequence[Host],
    changes: Sequence[ModelChange],
    standing: Standing,
    source: Source,
) -> Iterator[str]:
    """Models that cannot start, or not by ``surge``, while the others stay where they are.

    Models have their turns in the order of the list; one that is to be swapped holds its room until then.

    Models with several pipeline stages are not looked at: nobody tells on which hosts their stages are.
    """
    if any(model.pipeline_parallel_size > 1 for model in models):
        return
    by_slug = {change.slug: change for change in changes}
    stand = {model.slug: stands(model, hosts, standing) for model in models}
    for index, model in enumerate(models):
        change = by_slug.get(model.slug)
        wanted, stays = _turn(model, change, stand[model.slug])
        if not wanted:
            continue
        others = [placed for slug, group in stand.items() if slug != model.slug for placed in group]
        placement = place(wanted, hosts, [*others, *stays])
        if placement.fits:
            stand[model.slug] = placement.placed
        else:
            yield f"{source.where(('models', index))}: {_line(model, hosts, placement, surge=_surges(model, change))}"


def _surges(model: Model, change: ModelChange | None) -> bool:
    return change is not None and change.kind == "restart" and model.update == "surge"


def _turn(
    model: Model, change: ModelChange | None, stands: tuple[Placed, ...]
) -> tuple[tuple[Replica, ...], tuple[Placed, ...]]:
    """The replicas that are placed when it is this model's turn to start, and those of it that stay meanwhile."""
    kind = change.kind if change else "unknown"
    if _surges(model, change):
        return replicas_of(model), stands
    if kind == "restart" and change is not None and not SIZE_FIELDS & set(change.fields):
        return replicas_of(model)[len(stands) :], stands  # the room that it frees is room enough
    if kind in ("start", "restart"):
        return replicas_of(model), ()
    return replicas_of(model)[len(stands) :], stands


def stands(model: Model, hosts: Sequence[Host], standing: Standing) -> tuple[Placed, ...]:
    """The replicas of a model that run on hosts of the rack."""
    names = {host.name for host in hosts}
    found = [name for name in standing.get(model.slug, ()) if name in names]
    replicas = replicas_of(model, len(found))
    return tuple(_placed(replica, name) for replica, name in zip(replicas, found, strict=True))


def _placed(replica: Replica, name: str) -> Placed:
    return Placed(replica, tuple(PlacedBundle(name) for _ in replica.bundles))


def _line(model: Model, hosts: Sequence[Host], placement: Placement, *, surge: bool) -> str:
    room = f"{alone.asked(model)} needed on one host; free: {fit.free(model, hosts, placement)}"
    if surge:
        return f"update: surge has no room for new replicas beside the old ones: {room}; set update: swap"
    return (
        f"finds no room beside the models that run now, though the list fits an empty rack: {room}; "
        f"stop a model that runs on one of these hosts, deploy, and start it again"
    )
