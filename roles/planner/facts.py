"""What the plan reads from a host: what the models' files there say about memory."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyinfra.api.facts import FactBase

from roles.errors import InputError
from roles.planner import model_config
from roles.planner.model_config import ModelShape
from roles.planner.safetensors import Weights
from roles.storage import facts as storage

PROGRAM = Path(__file__).parent / "host" / "model_files.py"


@dataclass(frozen=True)
class FoundModel:
    """A model's files as somebody found them: on a host, or on the hub."""

    shape: ModelShape | None = None
    weights: Weights | None = None
    reasons: tuple[str, ...] = ()
    """Why one of them is None, one line each."""


class ModelFiles(FactBase[Mapping[str, FoundModel]]):
    """By source: what its files on the host say. ``sources``: absolute paths and hub ids."""

    def command(self, sources: Sequence[str], weights_dir: str) -> str:
        look = f"{storage.PYTHON} -ISc {shlex.quote(PROGRAM.read_text())} {shlex.join([weights_dir, *sources])}"
        # A host without Python is the preflight's to report.
        return f"[ -x {storage.PYTHON} ] || {{ echo {{}}; exit 0; }}; {storage.bounded(look)}"

    @staticmethod
    def default() -> Mapping[str, FoundModel]:
        return {}

    def process(self, output: Sequence[str]) -> Mapping[str, FoundModel]:
        return {source: found(entry, source) for source, entry in json.loads(output[-1]).items()}


def found(entry: Mapping[str, object], source: str) -> FoundModel:
    """One model as the host program describes it."""
    reasons = entry.get("reasons")
    told = [str(reason) for reason in reasons] if isinstance(reasons, list) else []
    shape = None
    config = entry.get("config")
    if config is not None:
        try:
            shape = model_config.shape(config, f"{entry.get('path')}/config.json")
        except InputError as error:
            told += error.problems
    weights = entry.get("weights")
    if not isinstance(weights, dict):
        return FoundModel(shape, None, tuple(told))
    sizes = Weights(weights["total"], weights["by_dtype"], weights["unused"], source=f"{source} on the host")
    return FoundModel(shape, sizes if sizes.total > 0 else None, tuple(told))
