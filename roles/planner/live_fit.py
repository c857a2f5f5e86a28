"""Do the models that this run starts find room beside those that go on running? Pure: no pyinfra, no Ray.

Ray never moves what it has placed, so a list that fits an empty rack may not fit the one that runs.
"""

from collections.abc import Iterator, Mapping, Sequence

from roles.model_serving.list_source import Source
from roles.model_serving.model import Model
from roles.planner import alone, fit
from roles.planner.changes import ModelChange
from roles.planner.placement import Host, Placed, PlacedBundle, Placement, Replica, place, replicas_of

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

    Models with several pipeline stages are not looked at: nobody tells on which hosts their stages are.
    """
    kinds = {change.slug: change.kind for change in changes}
    if any(model.pipeline_parallel_size > 1 for model in models):
        return
    stay = {model.slug: stands(model, hosts, standing) for model in models if not _leaves(model, kinds)}
    wanted = [replica for model in models for replica in _wanted(model, kinds, stay.get(model.slug, ()))]
    if not wanted:
        return
    placement = place(wanted, hosts, [placed for group in stay.values() for placed in group])
    lost = {replica.slug for replica in (*placement.unplaced, *placement.uncertain)}
    for index, model in enumerate(models):
        if model.slug in lost:
            yield f"{source.where(('models', index))}: {_line(model, hosts, placement, surge=model.slug in stay)}"


def stands(model: Model, hosts: Sequence[Host], standing: Standing) -> tuple[Placed, ...]:
    """The replicas of a model that run on hosts of the rack."""
    names = {host.name for host in hosts}
    found = [name for name in standing.get(model.slug, ()) if name in names]
    replicas = replicas_of(model, len(found))
    return tuple(_placed(replica, name) for replica, name in zip(replicas, found, strict=True))


def _placed(replica: Replica, name: str) -> Placed:
    return Placed(replica, tuple(PlacedBundle(name) for _ in replica.bundles))


def _leaves(model: Model, kinds: Mapping[str, str]) -> bool:
    """Whether what runs of it is gone before models are started: swaps stop together, then all start in turn."""
    return kinds.get(model.slug) == "restart" and model.update == "swap"


def _wanted(model: Model, kinds: Mapping[str, str], stay: Sequence[Placed]) -> Sequence[Replica]:
    if kinds.get(model.slug) in ("start", "restart"):
        return replicas_of(model)
    return replicas_of(model)[len(stay) :]


def _line(model: Model, hosts: Sequence[Host], placement: Placement, *, surge: bool) -> str:
    room = f"{alone.asked(model)} needed on one host; free: {fit.free(model, hosts, placement)}"
    if surge and model.update == "surge":
        return f"update: surge has no room for new replicas beside the old ones: {room}; set update: swap"
    return (
        f"finds no room beside the models that run now, though the list fits an empty rack: {room}; "
        f"stop a model that runs on one of these hosts, deploy, and start it again"
    )
