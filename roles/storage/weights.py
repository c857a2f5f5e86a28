"""How much room the weights of the model list need on a host. Pure: no pyinfra.

A model with a hub id is downloaded by every host that one of its replicas runs on, into the hub's cache below
``weights_dir`` (HF_HOME). A path on the host needs nothing; ``s3://`` and ``gs://`` are not counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from roles.model_serving.model import Model
from roles.planner.placement.place import Host, can_run

# `weights_gib` is mostly a rounded number from the hub's page: with this share of it on the disk, all of it is there.
COMPLETE = 0.9
GIB = 2**30


@dataclass(frozen=True)
class Weights:
    """What is still to be downloaded to one host."""

    gib: Mapping[str, float]
    """By hub id."""
    unknown: tuple[str, ...]
    """Hub ids that are not on the host and whose size the model list does not give."""

    @property
    def total_gib(self) -> float:
        return sum(self.gib.values())

    @property
    def told(self) -> str:
        return "weights_gib: " + ", ".join(f"{source} {gib:g}" for source, gib in self.gib.items())


def needed(models: Sequence[Model], host: Host, on_disk: Mapping[str, int]) -> Weights:
    """What this host must have room for, whichever of the replicas Ray places on it.

    Args:
        on_disk: bytes in each directory of the hub's cache, by its name (``models--Qwen--Qwen3-8B``).
    """
    gib: dict[str, float] = {}
    unknown: dict[str, None] = {}
    for model in models:
        source = model.model_source
        if not is_hub_id(source) or not can_run(model, host):
            continue
        there = on_disk.get(cache_name(source), 0)
        if model.weights_gib is None:
            if not there:
                unknown[source] = None
        elif there < model.weights_gib * GIB * COMPLETE:
            left = round(model.weights_gib - there / GIB, 1)
            gib[source] = max(left, gib.get(source, 0))  # two models may have one source
    return Weights(gib, tuple(source for source in unknown if source not in gib))


def is_hub_id(source: str) -> bool:
    return not source.startswith("/") and "://" not in source


def cache_name(hub_id: str) -> str:
    """The directory of a model in the hub's cache, as huggingface_hub names it (``repo_folder_name``)."""
    return "models--" + hub_id.replace("/", "--")
