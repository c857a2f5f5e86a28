"""What a plan reads from a host: everything in one round trip."""

import shlex
from collections.abc import Iterable, Sequence

from pyinfra.api.facts import FactBase

from roles.gateway.facts import GatewayState
from roles.host_programs import InstalledPrograms
from roles.model_serving.facts import DescribedModels
from roles.planner.changes.hosts import HostFound
from roles.planner.changes.models import RunningModel
from roles.planner.host_rules import node_config
from roles.ray_cluster.facts import NodeStateFact, TokenDigest, started_with
from roles.ray_cluster.node import Role
from roles.serving_runtime.facts import CurrentRuntime

_PART = "rayrack-plan-part "


class HostState(FactBase[HostFound]):
    """The facts that the roles themselves read at execution, and the digests of ``paths``.

    ``health_url``: where the host's gateway is; None where none is to be.
    """

    def command(self, role: Role, health_url: str | None, paths: Sequence[str]) -> str:
        parts = {
            "node": started_with(role),
            "programs": InstalledPrograms().command(),
            "runtime": CurrentRuntime().command(),
            "link": f"readlink -f {node_config.CURRENT_RUNTIME}",
            "token": TokenDigest().command(),
            "files": f"sha256sum {shlex.join(paths)} 2>/dev/null",
        }
        if health_url is not None:
            parts["gateway"] = GatewayState().command(health_url)
        if role == "head":
            parts["models"] = DescribedModels().command()
        # Side by side: `describe` starts a Python, which takes as long as all the rest. An empty line before each: what
        # a gateway says of itself ends without a newline.
        started = " ".join(f"{{ {command}; }} >$parts/{name} &" for name, command in parts.items())
        show = f'echo; echo "{_PART}$part"; cat $parts/$part'
        shown = f"for part in {' '.join(parts)}; do {show}; done; rm -rf $parts"
        return f"parts=$(mktemp -d) && {{ {started} wait; {shown}; }}"

    def process(self, output: Iterable[str]) -> HostFound:
        parts: dict[str, list[str]] = {}
        name = ""
        for line in output:
            if line.startswith(_PART):
                name = line.removeprefix(_PART)
                parts[name] = []
            elif name:
                parts[name].append(line)
        described = DescribedModels().process(parts["models"]) if "models" in parts else None
        return HostFound(
            node=NodeStateFact().process(parts["node"]),
            programs=InstalledPrograms().process(line for line in parts["programs"] if line),
            files={path: digest for digest, path in (line.split() for line in parts["files"] if line)},
            runtime=CurrentRuntime().process(parts["runtime"]),
            runtime_path="".join(parts["link"]) or None,
            token=TokenDigest().process(parts["token"]),
            gateway=GatewayState().process(parts["gateway"]) if "gateway" in parts else None,
            models=None if described is None else {slug: RunningModel.parse(each) for slug, each in described.items()},
        )
