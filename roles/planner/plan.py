"""What a run is going to do, as plain data: shown as a table, written as JSON. Pure: no pyinfra, no Ray."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Outcome = Literal["nothing", "changes", "impossible", "unknown"]

# `make plan` exits with these. `unknown`: hosts that were not looked at may need a change.
EXIT_STATUS: dict[Outcome, int] = {"nothing": 0, "impossible": 1, "changes": 2, "unknown": 2}


@dataclass(frozen=True)
class GpuShare:
    """The part of one GPU that a replica takes: 1 is all of it."""

    slug: str
    share: float


@dataclass(frozen=True)
class HostPlan:
    """One host: what stands on each of its GPUs, and what the run changes on it."""

    name: str
    is_head: bool
    gpu_model: str | None
    gpu_memory_gib: float | None
    gpus: tuple[tuple[GpuShare, ...], ...]
    """By GPU, in the order Ray would give them out."""
    cpus: float | None
    """As Ray counts them; None: not known before the host has been looked at."""
    cpus_taken: float
    left_out: str | None
    """Why no replica may be placed there; None where they may."""
    changes: tuple[str, ...] | None
    """One line each; None where nobody has looked."""


@dataclass(frozen=True)
class MemoryPlan:
    """What one GPU of a replica holds, in GiB, and what that leaves for contexts; without GPUs, what a worker holds."""

    unit: Literal["GPU", "worker"]
    weights_gib: float
    other_gib: float
    """Activations, CUDA graphs and what CUDA itself takes."""
    kv_cache_gib: float
    limit_gib: float
    """The GPU's memory times ``gpu_memory_utilization``."""
    max_model_len: int
    contexts: int
    """How many requests of ``max_model_len`` tokens the KV cache holds at once."""


@dataclass(frozen=True)
class ModelPlan:
    """One model: where its replicas stand, whether they fit there, and what becomes of it in this run."""

    slug: str
    model_id: str
    min_replicas: int
    max_replicas: int
    placed: int
    """How many of ``min_replicas`` there is room for."""
    reachable: int
    """How many of ``max_replicas`` there is room for beside the ``min_replicas`` of all others."""
    hosts: tuple[str, ...]
    resources: str
    """What one replica asks of Ray, in words."""
    memory: MemoryPlan | None
    memory_unknown: str | None
    """Why ``memory`` is not known."""
    change: str
    """unchanged, settings, reload, restart, start, stop or unknown"""
    why: tuple[str, ...]
    """The fields that make it so, or what else does."""
    seconds_without: float | None
    """How long nobody answers for this model; None: not known."""


@dataclass(frozen=True)
class Plan:
    """All of it. ``problems`` are what makes it impossible, ``warnings`` what an operator should know."""

    hosts: tuple[HostPlan, ...]
    models: tuple[ModelPlan, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def outcome(self) -> Outcome:
        if self.problems:
            return "impossible"
        changed = any(model.change not in ("unchanged", "unknown") for model in self.models)
        if changed or any(host.changes for host in self.hosts):
            return "changes"
        unknown = any(model.change == "unknown" for model in self.models)
        if unknown or any(host.changes is None for host in self.hosts):
            return "unknown"
        return "nothing"

    def document(self) -> dict[str, Any]:
        """For JSON: the fields of these classes by their names, and ``outcome``."""
        return {"outcome": self.outcome, **asdict(self)}
