"""Puts a plan together from what the inventory, the model list and the hosts say. Pure: no pyinfra, no Ray."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from roles.model_serving.list_source import Source
from roles.model_serving.model import Model
from roles.planner import alone, fit, live_fit, memory_fit
from roles.planner.changes.hosts import HostChange
from roles.planner.changes.models import ModelChange
from roles.planner.memory import hardware
from roles.planner.memory.found_model import FoundModel
from roles.planner.memory.hardware import Gpu
from roles.planner.placement.place import Host, Placed, Placement
from roles.planner.placement.room import UNITS
from roles.planner.plan import GpuShare, HostPlan, ModelPlan, Plan
from roles.settings import Settings


@dataclass(frozen=True)
class PlanHost:
    """One host of the inventory."""

    host: Host
    is_head: bool
    gpu: Gpu | None
    left_out: str | None = None
    """Why the run goes on without it."""

    @classmethod
    def of(
        cls, name: str, settings: Settings, *, is_head: bool, cpus_found: int | None, left_out: str | None
    ) -> "PlanHost":
        """A host as its settings say; ``cpus_found`` is what it has, if anybody has looked."""
        gpu = hardware.gpu(settings.gpu_model, settings.gpu_memory_gib) if settings.ray_gpus else None
        return cls(Host.of(name, settings, cpus_found), is_head, gpu, left_out)


@dataclass(frozen=True)
class PlanInputs:
    """Everything a plan is made from. What no change tells of was not looked at."""

    hosts: Sequence[PlanHost]
    models: Sequence[Model]
    source: Source
    found: Mapping[str, FoundModel] = field(default_factory=dict)
    """By ``model_source``: what its files say."""
    model_changes: Sequence[ModelChange] = ()
    host_changes: Sequence[HostChange] = ()
    standing: live_fit.Standing | None = None
    """None: it is not known what runs where, or all of it starts anew."""
    problems: Sequence[str] = ()
    """What forbids this run, whatever fits."""


def plan(inputs: PlanInputs) -> Plan:
    """The plan of a run."""
    left = [each for each in inputs.hosts if each.left_out is None]
    hosts = [each.host for each in left]
    placement = fit.placed(inputs.models, hosts)
    on_gpus = {
        model.slug: memory_fit.kinds(model, [(each.host, each.gpu) for each in left], _found(inputs, model))
        for model in inputs.models
    }
    problems = [*inputs.problems, *(fit.problems(inputs.models, hosts, inputs.source, placement) if hosts else ())]
    warnings = fit.warnings(inputs.models, inputs.source, placement)
    for index, model in enumerate(inputs.models):
        problems += memory_fit.problems(index, on_gpus[model.slug], inputs.source)
        warnings += memory_fit.warnings(index, on_gpus[model.slug], inputs.source)
    if not problems and inputs.standing is not None:
        problems += live_fit.problems(inputs.models, hosts, inputs.model_changes, inputs.standing, inputs.source)
    changes = {change.slug: change for change in inputs.model_changes}
    stands: dict[str, list[Placed]] = {model.slug: [] for model in inputs.models}
    for each in placement.placed:
        stands[each.replica.slug].append(each)
    return Plan(
        hosts=tuple(_host(each, placement, inputs) for each in inputs.hosts),
        models=(
            *(
                _model(model, stands[model.slug], placement, hosts, on_gpus[model.slug], changes, inputs)
                for model in inputs.models
            ),
            *_stopped(inputs),
        ),
        problems=tuple(problems),
        warnings=tuple(warnings),
    )


def _found(inputs: PlanInputs, model: Model) -> FoundModel:
    return inputs.found.get(model.model_source, FoundModel())


def _host(each: PlanHost, placement: Placement, inputs: PlanInputs) -> HostPlan:
    host = each.host
    gpus: list[list[GpuShare]] = [[] for _ in range(host.gpus)]
    cpus = 0.0
    for placed in placement.placed:
        for bundle, stands in zip(placed.replica.bundles, placed.bundles, strict=True):
            if stands.host != host.name:
                continue
            cpus += bundle.cpu / UNITS
            for index, share in stands.gpus:
                gpus[index].append(GpuShare(placed.replica.slug, share))
    return HostPlan(
        name=host.name,
        is_head=each.is_head,
        gpu_model=host.gpu_model,
        gpu_memory_gib=each.gpu.memory_gib if each.gpu else None,
        gpus=tuple(map(tuple, gpus)),
        cpus=host.num_cpus,
        cpus_taken=cpus,
        left_out=each.left_out,
        changes=_host_changes(host.name, inputs.host_changes),
    )


def _host_changes(name: str, changes: Iterable[HostChange]) -> tuple[str, ...] | None:
    own = [change for change in changes if change.host == name]
    if not own or any(change.part == "host" and change.kind == "unknown" for change in own):
        return None
    return tuple(_words(change) for change in own if change.kind != "unchanged")


def _words(change: HostChange) -> str:
    """``node: restarts: ray.env (12 s)``. Files go by their names."""
    verb = change.kind if change.kind in ("blocked", "unknown") else f"{change.kind}s"
    names = (PurePosixPath(each).name if each.startswith("/") else each for each in change.inputs)
    what = ", ".join((*names, *([change.why] if change.why else [])))
    seconds = f" ({change.seconds:.0f} s)" if change.seconds else ""
    return f"{change.part}: {verb}{f': {what}' if what else ''}{seconds}"


def _model(
    model: Model,
    placed: Sequence[Placed],
    placement: Placement,
    hosts: Sequence[Host],
    on_gpus: Sequence[memory_fit.OnGpus],
    changes: Mapping[str, ModelChange],
    inputs: PlanInputs,
) -> ModelPlan:
    uncertain = sum(1 for replica in placement.uncertain if replica.slug == model.slug)
    memory, unknown = memory_fit.shown(model, on_gpus, _found(inputs, model))
    change = changes.get(model.slug, ModelChange(model.slug, "unknown"))
    return ModelPlan(
        slug=model.slug,
        model_id=model.model_id,
        min_replicas=model.min_replicas,
        max_replicas=model.max_replicas,
        placed=len(placed) - uncertain,
        reachable=fit.reachable(model, len(placed), placement, hosts),
        hosts=tuple(dict.fromkeys(name for each in placed for name in each.hosts)),
        resources=alone.asked(model),
        memory=memory,
        memory_unknown=unknown,
        change=change.kind,
        why=(*change.fields, *([change.why] if change.why else [])),
        seconds_without=change.seconds_without,
    )


def _stopped(inputs: PlanInputs) -> Iterable[ModelPlan]:
    """Models that run and are not in the list any more."""
    for change in inputs.model_changes:
        if change.kind == "stop":
            yield ModelPlan(
                slug=change.slug,
                model_id=change.slug,
                min_replicas=0,
                max_replicas=0,
                placed=0,
                reachable=0,
                hosts=(),
                resources="",
                memory=None,
                memory_unknown=None,
                change="stop",
                why=(change.why,),
                seconds_without=None,
            )
