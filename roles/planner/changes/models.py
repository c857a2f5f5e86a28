"""What a run will do to each model, told before it does anything. Pure: no pyinfra.

The rules of what a change needs are those of the model's own unit (``serve_app`` on the head).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from roles.model_serving import env_file
from roles.model_serving.model import Model
from roles.planner.host_rules import serve_app

# A replica that is told to go waits this long at least, requests or not (ray.env), and 120 s at most.
DRAIN_S = 5.0
# Fields by which loading takes longer or shorter: a time that was measured with others says nothing.
LOAD_FIELDS = (
    "model_source",
    "accelerator_type",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "dtype",
    "quantization",
    "enforce_eager",
)
HEAD_STOPS = "the run ends on the head at its driver"
NOT_LOOKED_AT = "the head was not looked at, or its programs are older than this plan"

Kind = Literal["unchanged", "settings", "reload", "restart", "start", "stop", "unknown"]


@dataclass(frozen=True)
class RunningModel:
    """A model as its head describes it (``describe`` in host/model_units.py). None stands for what is not known."""

    active: str
    """systemd's ActiveState of its unit."""
    enabled: bool
    env_sha256: str | None
    env: Mapping[str, str]
    """The variables of its env file."""
    overrides: Mapping[str, str]
    """Those of its override file, which win."""
    applied: Mapping[str, Any] | None
    """The fields its unit was started with."""
    load: Mapping[str, Any] | None
    """``seconds`` that the last load took, and the ``fields`` it was measured with."""
    replicas: tuple[str | None, ...] | None
    """The address of each replica's node; None for one that has no node yet."""

    @classmethod
    def parse(cls, found: Mapping[str, Any]) -> "RunningModel":
        replicas = found["replicas"]
        return cls(**{**found, "replicas": None if replicas is None else tuple(replicas)})


@dataclass(frozen=True)
class NodeDown:
    """A Ray node that the run restarts, or whose host it reboots."""

    host: str
    address: str
    is_head: bool
    seconds: float | None
    """How long it will be away; None: not known."""


@dataclass(frozen=True)
class ModelChange:
    """What a run will do to one model.

    ``settings``: its env file changes, and nothing that runs does. ``fields``: those that cause it.
    """

    slug: str
    kind: Kind
    fields: tuple[str, ...] = ()
    why: str = ""
    seconds_without: float | None = None
    """How long the model will not answer, apart from waiting for other models' starts; None: not known."""


def model_changes(
    models: Sequence[Model],
    running: Mapping[str, RunningModel] | None,
    nodes: Sequence[NodeDown] = (),
    *,
    head_stops: bool = False,
) -> tuple[ModelChange, ...]:
    """What becomes of each model of the list, and of each that the head has beyond it.

    ``running``: every model that the head knows, by slug; None: it could not be asked. ``nodes``: those that the run
    takes down. ``head_stops``: the run does not come to the head's models, as it ends there at the driver.
    """
    if head_stops or running is None:
        why = HEAD_STOPS if head_stops else NOT_LOOKED_AT
        return tuple(ModelChange(model.slug, "unknown", why=why) for model in models)
    listed = {model.slug for model in models}
    stops = (ModelChange(slug, "stop", why="not in the model list") for slug in sorted(running.keys() - listed))
    return (*(_change(model, running.get(model.slug), nodes) for model in models), *stops)


def _change(model: Model, found: RunningModel | None, nodes: Sequence[NodeDown]) -> ModelChange:
    if found is None:
        return ModelChange(model.slug, "start", why="new in the model list")
    wanted, wrong = _wanted(model, found)
    needed = serve_app.needed(found.active, found.applied, wanted)
    if needed.kind == "start":
        return ModelChange(
            model.slug, "start", why=f"its unit is {found.active}", seconds_without=_load_seconds(found, wanted)
        )
    if needed.kind == "restart":
        why = wrong or ("" if found.applied is not None else "nothing tells what it was started with")
        change = ModelChange(model.slug, "restart", needed.fields, why, _restart_seconds(found, wanted))
    elif needed.kind == "reload":
        change = ModelChange(model.slug, "reload", needed.fields, seconds_without=0.0)
    else:
        change = _quiet_change(model, found, wanted)
    return _with_nodes(change, found, wanted, nodes)


def _wanted(model: Model, found: RunningModel) -> tuple[dict[str, Any] | None, str]:
    """The fields that the unit will read, or what is wrong with them: the override file's win."""
    try:
        return serve_app.fields_from({**_variables(model), **found.overrides}), ""
    except serve_app.SettingsError as error:
        return None, f"{model.slug}.override.env: {error}"


def _variables(model: Model) -> dict[str, str]:
    """What systemd will read from the model's env file."""
    return {f"RAYRACK_{name.upper()}": json.dumps(value) for name, value in model.model_dump(mode="json").items()}


def _quiet_change(model: Model, found: RunningModel, wanted: Mapping[str, Any] | None) -> ModelChange:
    """Nothing that runs changes; what of its files does?"""
    why = "it is starting now" if found.active == "activating" else ""
    if hashlib.sha256(env_file.render(model).encode()).hexdigest() != found.env_sha256:
        fields = serve_app.different(_readable({**found.env, **found.overrides}), wanted or {})
        return ModelChange(model.slug, "settings", fields, why or "its env file is written anew", 0.0)
    if not found.enabled:
        return ModelChange(model.slug, "settings", (), "its unit is enabled", 0.0)
    return ModelChange(model.slug, "unchanged", (), why, 0.0)


def _readable(variables: Mapping[str, str]) -> dict[str, Any]:
    """The fields that the host's files set, as far as they are JSON."""
    fields = {}
    for name in serve_app.FIELDS:
        with suppress(KeyError, ValueError):
            fields[name] = json.loads(variables[f"RAYRACK_{name.upper()}"])
    return fields


def _load_seconds(found: RunningModel, wanted: Mapping[str, Any] | None) -> float | None:
    """What the last load took, if it was the load of such a model."""
    if found.load is None or wanted is None:
        return None
    measured = found.load["fields"]
    same = all(name in measured and measured[name] == wanted[name] for name in LOAD_FIELDS)
    return float(found.load["seconds"]) if same else None


def _restart_seconds(found: RunningModel, wanted: Mapping[str, Any] | None) -> float | None:
    if wanted is not None and wanted["update"] == "surge" and found.applied is not None and found.active == "active":
        return 0.0
    return _sum(DRAIN_S, _load_seconds(found, wanted))


def _with_nodes(
    change: ModelChange, found: RunningModel, wanted: Mapping[str, Any] | None, nodes: Sequence[NodeDown]
) -> ModelChange:
    """The same, with what the nodes that go down take with them."""
    load = _load_seconds(found, wanted)
    if head := next((node for node in nodes if node.is_head), None):
        return _restarted(change, f"the head {head.host} goes down", _sum(head.seconds, load))
    if not nodes:
        return change
    if found.replicas is None:
        return _not_known(change, "Serve does not tell on which nodes its replicas are")
    hit = [node for node in nodes if node.address in found.replicas]
    if hit:
        lost = sum(found.replicas.count(node.address) for node in hit)
        left = len(found.replicas) - lost
        names = ", ".join(node.host for node in hit)
        seconds = 0.0 if left else _sum(_longest(hit), load)
        return _restarted(change, f"{lost} of its {len(found.replicas)} replicas on {names}, which goes down", seconds)
    if (found.applied or {}).get("pipeline_parallel_size", 1) != 1:
        # Serve names the node of a replica's first process only.
        names = ", ".join(node.host for node in nodes)
        return _not_known(change, f"a pipeline stage of it may be on {names}, which goes down")
    return change


def _restarted(change: ModelChange, why: str, seconds: float | None) -> ModelChange:
    both = [each for each in (change.why if change.kind == "restart" else "", why) if each]
    own = change.seconds_without
    longer = None if seconds is None or own is None else max(seconds, own)
    return replace(change, kind="restart", why="; ".join(both), seconds_without=longer)


def _not_known(change: ModelChange, why: str) -> ModelChange:
    """A restart stays one; of anything else nobody can say that it will be so."""
    if change.kind == "restart":
        return replace(change, seconds_without=None)
    return ModelChange(change.slug, "unknown", change.fields, why)


def _longest(nodes: Sequence[NodeDown]) -> float | None:
    known = [node.seconds for node in nodes if node.seconds is not None]
    return max(known) if len(known) == len(nodes) else None


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other
