"""A model's files as somebody found them, on a host or on the hub. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from roles.errors import InputError
from roles.planner.memory import model_config
from roles.planner.memory.model_config import ModelShape
from roles.planner.memory.safetensors import Weights


@dataclass(frozen=True)
class FoundModel:
    """What was found; all None where nothing was."""

    shape: ModelShape | None = None
    weights: Weights | None = None
    reasons: tuple[str, ...] = ()
    """Why one of them is None, one line each."""


def parse(entry: Mapping[str, object], source: str) -> FoundModel:
    """One model as the host program (host/model_files.py) describes it."""
    reasons = entry.get("reasons")
    told = [str(reason) for reason in reasons] if isinstance(reasons, list) else []
    shape = None
    config = entry.get("config")
    if config is not None:
        try:
            shape = model_config.shape(config, f"{entry.get('path')}/config.json")
        except InputError as error:
            told += error.problems
    sizes = entry.get("weights")
    if not isinstance(sizes, dict) or not sizes["total"]:
        return FoundModel(shape, None, tuple(told))
    weights = Weights(sizes["total"], sizes["by_dtype"], sizes["unused"], source=f"{source} on the host")
    return FoundModel(shape, weights, tuple(told))
