"""What the last step of a run asks of a host with a gateway."""

import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pyinfra.api.facts import FactBase

from roles import host_programs

CHECK_GATEWAY = f"{host_programs.BIN}/check_gateway"


@dataclass(frozen=True)
class GatewayView:
    """What clients see: the models, as route prefix and model id, and how many keys there are to see them with."""

    listed: frozenset[tuple[str, str]] = field(default_factory=frozenset)
    keys: int = 0
    problem: str = ""
    """Why the gateway could not be asked."""


class SeenByClients(FactBase[GatewayView]):
    """What the gateway at ``url`` lists, asked over TLS with a key that the host makes and takes back for it."""

    def command(self, url: str, prefixes: Sequence[str]) -> str:
        return shlex.join([CHECK_GATEWAY, "look", url, *prefixes])

    @staticmethod
    def default() -> GatewayView:
        return GatewayView()

    def process(self, output: Iterable[str]) -> GatewayView:
        found = json.loads("".join(output))
        listed = {(prefix, model_id) for prefix, ids in found["listed"].items() for model_id in ids}
        return GatewayView(frozenset(listed), found["keys"], found["problem"])
