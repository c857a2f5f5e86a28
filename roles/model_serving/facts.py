"""What model serving reads from the head."""

import json
from collections.abc import Sequence
from typing import Any, TypedDict

from pyinfra.api.facts import FactBase


class ModelUnit(TypedDict):
    """One model as its head knows it; see ``overview`` in host/model_units.py."""

    env_sha256: str | None
    enabled: bool
    step: str
    ready: bool


class ModelUnits(FactBase[dict[str, ModelUnit]]):
    """Every model that has an env file or a unit on the head, by slug. Nothing before the first deploy."""

    def command(self) -> str:
        return "if [ -x /opt/rayrack/bin/model_units ]; then /opt/rayrack/bin/model_units overview; fi"

    @staticmethod
    def default() -> dict[str, ModelUnit]:
        return {}

    def process(self, output: Sequence[str]) -> dict[str, ModelUnit]:
        found: dict[str, ModelUnit] = json.loads("".join(output) or "{}")
        return found


class DescribedModels(FactBase[dict[str, Any] | None]):
    """Every model that has an env file or a unit on the head, as ``describe`` in host/model_units.py tells of it.

    None: the head's programs are older than this. Nothing before the first deploy.
    """

    def command(self) -> str:
        program = "/opt/rayrack/bin/model_units"
        return f"if [ -x {program} ]; then {program} describe; else echo '{{}}'; fi"

    @staticmethod
    def default() -> None:
        return None

    def process(self, output: Sequence[str]) -> dict[str, Any] | None:
        text = "".join(output).strip()
        found: dict[str, Any] | None = json.loads(text) if text else None
        return found
