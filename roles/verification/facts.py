"""What the last step of a run asks of the head."""

import json
import shlex
from collections.abc import Iterable, Sequence

from pyinfra.api.facts import FactBase


class ListedModels(FactBase[set[tuple[str, str]]]):
    """Every model that the gateway at ``base_url`` lists, as route prefix and model id: those whose replicas answer."""

    def command(self, base_url: str, prefixes: Sequence[str]) -> str:
        asks = (
            f"echo {shlex.quote(prefix)}; "
            f"curl -gs --noproxy '*' --max-time 5 {shlex.quote(f'{base_url}{prefix}/models')} || true; echo"
            for prefix in prefixes
        )
        return "; ".join(asks) or "true"

    @staticmethod
    def default() -> set[tuple[str, str]]:
        return set()

    def process(self, output: Iterable[str]) -> set[tuple[str, str]]:
        listed: set[tuple[str, str]] = set()
        prefix = ""
        for line in output:
            if line.startswith("/"):
                prefix = line
            elif line.startswith("{"):
                listed |= {(prefix, model["id"]) for model in json.loads(line).get("data", [])}
        return listed
