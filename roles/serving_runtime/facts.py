"""What the serving runtime role reads from a host: one command, since each fact is a round trip over SSH."""

import json
from collections.abc import Iterable

from pyinfra.api.facts import FactBase


class CurrentRuntime(FactBase[str | None]):
    """The digest of the runtime in use; None when there is none or its installation was not finished."""

    def command(self) -> str:
        return "cat /opt/rayrack/current/.complete 2>/dev/null || true"

    def process(self, output: Iterable[str]) -> str | None:
        try:
            digest = json.loads("\n".join(output))["digest"]
        except (ValueError, KeyError, TypeError):
            return None
        return str(digest)
