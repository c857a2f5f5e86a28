"""What the plan reads from a host: what the models' files there say about memory."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from pyinfra.api.facts import FactBase

from roles.planner.memory import found_model
from roles.planner.memory.found_model import FoundModel
from roles.storage import facts as storage

PROGRAM = Path(__file__).parent / "host" / "model_files.py"


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
        return {source: found_model.parse(entry, source) for source, entry in json.loads(output[-1]).items()}
