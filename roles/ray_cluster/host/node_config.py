"""What a Ray node is made of: its settings, its command line, its environment, and a fingerprint of all that.

Pure but for ``fingerprint``. Runs on the host: standard library only.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

ENV_FILES = ("/etc/rayrack/ray.env", "/etc/rayrack/ray.override.env")
CURRENT_RUNTIME = Path("/opt/rayrack/current")
PROGRAMS = Path("/opt/rayrack/lib")
APPLIED = Path("/run/rayrack")

# RAY_ADDRESS would make `ray start` and everything under it look for another cluster. The others belong to the
# conversation between systemd and this service's main process, which is not Ray.
NOT_FOR_RAY = ("RAY_ADDRESS", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID")
# A resource that models without a GPU ask for, as no other runtime can run them. `serve_app` has the same name.
RUNTIME_CPU = "rayrack_runtime_cpu"


class ConfigError(Exception):
    """The environment does not describe a node; the message says which variable and where it is set."""


@dataclass(frozen=True)
class Node:
    """The fields of /etc/rayrack/ray.env. Memory in MiB, port ranges as ``LOW-HIGH`` with both ends included."""

    role: Literal["head", "worker"]
    node_ip: str
    head_ip: str
    runtime: Literal["cuda", "cpu"]
    ray_temp_dir: str
    num_cpus: int | None
    gpus: int
    object_store_memory_mib: int | None
    gcs_port: int
    dashboard_port: int
    serve_port: int
    node_manager_port: int
    object_manager_port: int
    ray_client_port: int
    dashboard_agent_port: int
    dashboard_agent_grpc_port: int
    runtime_env_agent_port: int
    metrics_port: int
    serve_metrics_port: int
    serve_stats_port: int
    worker_ports: str

    @property
    def unit(self) -> str:
        return f"rayrack-{self.role}.service"


def from_environment(environment: Mapping[str, str]) -> Node:
    """Read the node from ``RAYRACK_<FIELD>=<JSON>`` variables."""
    values: dict[str, Any] = {}
    for field in fields(Node):
        variable = f"RAYRACK_{field.name.upper()}"
        text = environment.get(variable)
        if text is None:
            raise ConfigError(f"{variable} is not set: it belongs in {ENV_FILES[0]}")
        try:
            values[field.name] = json.loads(text)
        except ValueError:
            raise ConfigError(f"{variable} is not JSON: {text!r}; look into {' and '.join(ENV_FILES)}") from None
    if values["role"] not in ("head", "worker"):
        raise ConfigError(f"RAYRACK_ROLE is {values['role']!r}, not head or worker; look into {ENV_FILES[0]}")
    return Node(**values)


def token_path(environment: Mapping[str, str]) -> Path:
    """Where this service finds Ray's token."""
    path = environment.get("RAY_AUTH_TOKEN_PATH")
    if not path or not Path(path).exists():
        raise ConfigError("RAY_AUTH_TOKEN_PATH names no file: the unit sets it, with LoadCredential=ray.token")
    return Path(path)


def host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def ray_start_command(node: Node, runtime: Path) -> list[str]:
    """The command line of ``ray start --block``. Every port it takes is pinned, so that a firewall can be written."""
    worker_port_min, worker_port_max = node.worker_ports.split("-")
    command = [str(runtime / "bin" / "ray"), "start", "--block", "--disable-usage-stats"]
    command += ["--log-style", "record", "--log-color", "false"]
    if node.role == "head":
        command += ["--head", "--port", str(node.gcs_port), "--ray-client-server-port", str(node.ray_client_port)]
        command += ["--dashboard-host", "127.0.0.1", "--dashboard-port", str(node.dashboard_port)]
    else:
        command += ["--address", host_port(node.head_ip, node.gcs_port)]
    command += ["--node-ip-address", node.node_ip]
    command += ["--node-manager-port", str(node.node_manager_port)]
    command += ["--object-manager-port", str(node.object_manager_port)]
    command += ["--dashboard-agent-listen-port", str(node.dashboard_agent_port)]
    command += ["--dashboard-agent-grpc-port", str(node.dashboard_agent_grpc_port)]
    command += ["--runtime-env-agent-port", str(node.runtime_env_agent_port)]
    command += ["--metrics-export-port", str(node.metrics_port)]
    command += ["--min-worker-port", worker_port_min, "--max-worker-port", worker_port_max]
    command += ["--temp-dir", node.ray_temp_dir, "--num-gpus", str(node.gpus)]
    if node.runtime == "cpu":
        command += ["--resources", json.dumps({RUNTIME_CPU: 1})]
    if node.num_cpus is not None:
        command += ["--num-cpus", str(node.num_cpus)]
    if node.object_store_memory_mib is not None:
        command += ["--object-store-memory", str(node.object_store_memory_mib * 2**20)]
    return command


def ray_environment(environment: Mapping[str, str], runtime: Path) -> dict[str, str]:
    """The environment Ray and all its workers get. ``runtime`` is the resolved directory, never the link to it:
    workers started after a deploy has switched the link must still come from the runtime their raylet runs in."""
    kept = {name: value for name, value in environment.items() if name not in NOT_FOR_RAY}
    kept["PATH"] = f"{runtime / 'bin'}:{environment.get('PATH', '/usr/local/bin:/usr/bin:/bin')}"
    kept["VIRTUAL_ENV"] = str(runtime)
    return kept


def own_ports(node: Node) -> dict[int, str]:
    """The ports that this node's processes will listen on, with the setting each one comes from."""
    names = ["node_manager_port", "object_manager_port", "dashboard_agent_port", "dashboard_agent_grpc_port"]
    names += ["runtime_env_agent_port", "metrics_port"]
    if node.role == "head":
        names += ["gcs_port", "dashboard_port", "serve_port", "ray_client_port"]
        names += ["serve_metrics_port", "serve_stats_port"]
    return {getattr(node, name): name for name in names}


def fingerprint(role: str, token: Path) -> dict[str, str]:
    """What a node of this role would run with now: a digest per input, ``absent`` for a file that is not there."""
    paths = [*map(Path, ENV_FILES), Path(f"/etc/systemd/system/rayrack-{role}.service")]
    paths += [PROGRAMS / f"{name}.py" for name in ("ray_node", "node_config", "node_checks", "systemd")]
    inputs = {str(path): _digest(path) for path in paths}
    inputs["Ray's token"] = _digest(token)
    inputs[str(CURRENT_RUNTIME)] = str(CURRENT_RUNTIME.resolve())
    return inputs


def applied_file(role: str) -> Path:
    """Where a node that starts writes its fingerprint, for the next deploy to compare."""
    return APPLIED / f"rayrack-{role}.applied.json"


def differences(applied: Mapping[str, str] | None, now: Mapping[str, str]) -> list[str]:
    """The inputs that are not what the node was started with."""
    if applied is None:
        return ["no record of a start"]
    return [name for name in now if applied.get(name) != now[name]]


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return "absent"
