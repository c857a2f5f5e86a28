"""A Ray node as the operator's side sees it: what its unit and its env file are rendered from."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

from roles.setting_types import port_range
from roles.settings import Settings

Role = Literal["head", "worker"]

# The unit file and Ray's own variables have these; every other field is a RAYRACK_ variable of /etc/rayrack/ray.env.
_UNIT_FIELDS = ("limit_nofile", "limit_memlock", "ray_temp_size_gib")
LOG_BACKUPS = 5
LOG_MAX_BYTES = 100 * 2**20
LOGS_PER_DISK = 16


@dataclass(frozen=True)
class NodeConfig:
    """One host's node. The fields after ``serve_host`` are those of ``roles.settings.Settings``."""

    role: Role
    node_ip: str
    head_ip: str
    serve_host: str
    """Where Serve and all its replicas listen: loopback in a rack of one host, else where the head can reach them."""
    runtime: Literal["cuda", "cpu"]
    ray_temp_dir: str
    weights_dir: str
    cache_dir: str
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
    direct_ingress_ports: str
    limit_nofile: int
    limit_memlock: str
    ray_temp_size_gib: int | None

    @classmethod
    def from_settings(cls, settings: Settings, *, role: Role, node_ip: str, head_ip: str, alone: bool) -> "NodeConfig":
        """The node of a host with these settings.

        ``node_ip`` is its address for Ray, ``head_ip`` the head's; ``alone``: the rack has no other host.
        """
        own = ("role", "node_ip", "head_ip", "serve_host")
        serve_host = "127.0.0.1" if alone else "0.0.0.0"  # noqa: S104 - Ray has one setting for Serve and its replicas
        taken = {field.name: getattr(settings, field.name) for field in fields(cls) if field.name not in own}
        taken["gpus"] = settings.ray_gpus
        return cls(role=role, node_ip=node_ip, head_ip=head_ip, serve_host=serve_host, **taken)

    @property
    def unit(self) -> str:
        return f"rayrack-{self.role}.service"

    @property
    def direct_ingress_port_limits(self) -> tuple[int, int]:
        return port_range(self.direct_ingress_ports)

    @property
    def log_max_bytes(self) -> int:
        """Size at which Ray rotates a log, so that a file system of its own holds 16 logs at their largest at least."""
        if self.ray_temp_size_gib is None:
            return LOG_MAX_BYTES
        return min(LOG_MAX_BYTES, self.ray_temp_size_gib * 2**30 // LOGS_PER_DISK // (1 + LOG_BACKUPS))

    @property
    def log_backups(self) -> int:
        return LOG_BACKUPS

    def variables(self) -> Iterator[tuple[str, str]]:
        """The ``RAYRACK_`` variables of the env file, values as JSON. No value of the settings can hold a quote."""
        for field in fields(self):
            if field.name not in _UNIT_FIELDS:
                yield f"RAYRACK_{field.name.upper()}", json.dumps(getattr(self, field.name))
