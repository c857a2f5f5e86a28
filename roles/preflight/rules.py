"""What a host must be like before anything on it is changed. Pure: no pyinfra."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from roles.model_serving.model import Model
from roles.planner.placement.place import Host
from roles.preflight.info import HostInfo, Listener
from roles.setting_types import port_range
from roles.settings import Settings
from roles.storage import caches, ray_disk, weights
from roles.storage import rules as storage

# Distribution and release, as os-release(5) says them.
SUPPORTED = {("debian", "12"), ("debian", "13"), ("ubuntu", "24.04")}
TOO_OLD = {
    ("ubuntu", "22.04"): "its Python 3.10, systemd 249 and HAProxy 2.4 are too old",
    ("debian", "11"): "its Python 3.9, systemd 247 and HAProxy 2.2 are too old",
}
MACHINES = ("x86_64", "aarch64")
PYTHON_MIN, PYTHON_MAX = (3, 11), (3, 13)
SYSTEMD_MIN = 252

RUNTIME_DIR = "/opt/rayrack/runtime"
# Files, and so inodes, of what is put on a host: an upper bound, as file systems with few of them are the odd ones.
RUNTIME_INODES, RAY_INODES, WEIGHTS_INODES = 300_000, 20_000, 10_000
# Settings that name a directory of the service user's.
DIRECTORIES = ("ray_temp_dir", "weights_dir", "cache_dir")
# "::" takes IPv4 connections too, unless a program asks otherwise (ipv6(7), bindv6only).
ANY_ADDRESS = frozenset({"*", "0.0.0.0", "::"})  # noqa: S104 - compared, not bound

HEAD_PORTS = (
    ("gcs_port", "*"),
    ("ray_client_port", "*"),
    ("dashboard_port", "127.0.0.1"),
    ("serve_port", "127.0.0.1"),
    ("serve_metrics_port", "*"),
    ("serve_stats_port", "*"),
)
NODE_PORTS = (
    ("node_manager_port", "*"),
    ("object_manager_port", "*"),
    ("dashboard_agent_port", "*"),
    ("dashboard_agent_grpc_port", "*"),
    ("runtime_env_agent_port", "*"),
    ("metrics_port", "*"),
)
NODE_PORT_RANGES = ("worker_ports", "direct_ingress_ports")


@dataclass(frozen=True)
class WantedPorts:
    """Ports that rayrack will listen on: from ``low`` to ``high``, both included, on ``address``."""

    setting: str
    address: str
    low: int
    high: int

    def meets(self, listener: Listener) -> bool:
        same_address = self.address == listener.address or bool(ANY_ADDRESS & {self.address, listener.address})
        return self.low <= listener.port <= self.high and same_address


def paths_of_interest(settings: Settings) -> tuple[str, ...]:
    """The paths whose disks the rules look at."""
    image = (settings.ray_temp_image,) if settings.ray_temp_size_gib else ()
    return (RUNTIME_DIR, *(getattr(settings, setting) for setting in DIRECTORIES), *image)


def problems(
    host_name: str,
    info: HostInfo,
    settings: Settings,
    *,
    is_head: bool,
    runtime_digest: str | None = None,
    models: Sequence[Model] = (),
) -> list[str]:
    """Everything that forbids to change this host, one line each.

    Args:
        runtime_digest: of the runtime the host will get; installed already, it needs no more room.
        models: what the rack serves; this host must have room for the weights of those that could run on it.
    """
    if info.failure:
        return [f"{host_name}: {info.failure}"]
    # On a system of another kind the rest says nothing of use.
    if system := list(_system(info)):
        return [f"{host_name}: {line}" for line in system]
    by_path = {disk.path: disk for disk in info.disks}
    directories = [
        storage.directory_problem(host_name, setting, by_path[getattr(settings, setting)]) for setting in DIRECTORIES
    ]
    host = Host.of(host_name, settings, info.cpus or None)
    needs = [
        _caches(settings, caches.missing(models, host, info.caches)),
        *_needs(settings, info, weights.needed(models, host, info.weights), runtime_digest),
    ]
    disk = ray_disk.of(settings.ray_temp_size_gib, settings.ray_temp_image, settings.ray_temp_dir)
    return [
        *_removes_every_model(host_name, info, settings, models),
        *(f"{host_name}: {line}" for line in _ports(info.listeners, wanted_ports(settings, is_head=is_head))),
        *(problem for problem in directories if problem),
        *storage.problems(host_name, info.disks, needs, settings.disk_used_max_percent),
        *ray_disk.problems(host_name, disk, info.disks, info.ray_mounts, loop_devices=info.loop_devices),
        *([] if settings.ignore_drive_health else _failing_drives(host_name, info)),
    ]


def warnings(host_name: str, info: HostInfo, settings: Settings, *, models: Sequence[Model] = ()) -> list[str]:
    """What an operator should know of this host, and what stops nothing, one line each."""
    if info.failure or any(_system(info)):
        return []
    disk = ray_disk.of(settings.ray_temp_size_gib, settings.ray_temp_image, settings.ray_temp_dir)
    unknown = weights.needed(models, Host.of(host_name, settings, info.cpus or None), info.weights).unknown
    lines = [
        *storage.warnings(host_name, info.disks, settings.ray_temp_dir, ray_disk_wanted=disk is not None),
        *(storage.failing_drives(host_name, info.disks) if settings.ignore_drive_health else []),
    ]
    if unknown:
        lines.append(
            f"{host_name}: {settings.weights_dir}: cannot tell whether there is room for the weights of "
            f"{', '.join(unknown)}; give their weights_gib in the model list"
        )
    return lines


def _removes_every_model(host_name: str, info: HostInfo, settings: Settings, models: Sequence[Model]) -> Iterator[str]:
    """Another rack's list, most likely. Where one model takes the place of one, that is what was meant."""
    kept = {model.slug for model in models}.intersection(info.models)
    if len(info.models) > 1 and not kept and not settings.remove_all:
        yield (
            f"{host_name}: the model list keeps none of the models that are set up there ({', '.join(info.models)}): "
            "if all of them are to go, say so with --data remove_all=true"
        )


def _failing_drives(host_name: str, info: HostInfo) -> Iterator[str]:
    for line in storage.failing_drives(host_name, info.disks):
        yield f"{line}, or go on with --data ignore_drive_health=true"


def _system(info: HostInfo) -> Iterator[str]:
    release = (info.os_id, info.os_version)
    if release not in SUPPORTED:
        why = f": {TOO_OLD[release]}" if release in TOO_OLD else ""
        yield f"{info.os_name} is not supported{why}; use Debian 12, Debian 13 or Ubuntu 24.04"
        return
    if info.machine not in MACHINES:
        yield f"machine type {info.machine} is not supported; use {' or '.join(MACHINES)}"
    if not PYTHON_MIN <= tuple(int(part) for part in info.python_version.split(".")[:2]) <= PYTHON_MAX:
        yield f"/usr/bin/python3 is {info.python_version}, must be 3.11 to 3.13: make it the distribution's own again"
    if info.systemd_version is None:
        yield "is not run by systemd, which runs all services; use a host where systemd is PID 1"
    elif info.systemd_version < SYSTEMD_MIN:
        yield f"systemd is {info.systemd_version}, must be {SYSTEMD_MIN} or newer"


def wanted_ports(settings: Settings, *, is_head: bool) -> list[WantedPorts]:
    """What rayrack listens on, on a head or on a worker."""
    single = [*HEAD_PORTS, *NODE_PORTS] if is_head else [*NODE_PORTS]
    if settings.runs_gateway(is_head=is_head):
        single += [(setting, settings.gateway_bind) for setting in ("gateway_port", "gateway_metrics_port")]
    ranges = [(setting, *port_range(getattr(settings, setting))) for setting in NODE_PORT_RANGES]
    return [
        *(WantedPorts(setting, address, port := getattr(settings, setting), port) for setting, address in single),
        *(WantedPorts(setting, "*", low, high) for setting, low, high in ranges),
    ]


def _ports(listeners: Sequence[Listener], wanted: Sequence[WantedPorts]) -> Iterator[str]:
    foreign = [listener for listener in listeners if not listener.is_ours]
    for ports in wanted:
        taken = sorted({(taker.port, str(taker)) for taker in foreign if ports.meets(taker)})
        for port, taker in taken:
            yield f"port {port} ({ports.setting}) is taken by {taker}; stop it or set another {ports.setting}"


def _caches(settings: Settings, missing: Sequence[str]) -> storage.Need:
    each = settings.cache_gib_per_model
    detail = "cache_gib_per_model: " + ", ".join(f"{slug} {each:g}" for slug in missing)
    setting = "cache_gib_per_model" if missing else None
    return storage.Need(settings.cache_dir, each * len(missing), setting, place="cache_dir", detail=detail)


def _needs(
    settings: Settings, info: HostInfo, wanted: weights.Weights, runtime_digest: str | None
) -> list[storage.Need]:
    needs = []
    if runtime_digest in info.runtimes:
        needs.append(storage.Need(RUNTIME_DIR, 0, None))
    else:
        needs.append(
            storage.Need(RUNTIME_DIR, settings.min_free_gib_runtime, "min_free_gib_runtime", inodes=RUNTIME_INODES)
        )
    if settings.ray_temp_size_gib is None:
        needs.append(
            storage.Need(
                settings.ray_temp_dir,
                settings.min_free_gib_ray,
                "min_free_gib_ray",
                inodes=RAY_INODES,
                place="ray_temp_dir",
            )
        )
    else:
        # Ray's own file system is its own to fill; what holds the image must have room for what is still missing of it.
        image = next(disk for disk in info.disks if disk.path == settings.ray_temp_image)
        missing_gib = max(0.0, settings.ray_temp_size_gib - image.file_bytes / storage.GIB)
        needs.append(
            storage.Need(
                settings.ray_temp_image, missing_gib, "ray_temp_size_gib", place="ray_temp_image", taken_gib=missing_gib
            )
        )
    detail = wanted.told if wanted.total_gib > settings.min_free_gib_weights else None
    needs.append(
        storage.Need(
            settings.weights_dir,
            max(settings.min_free_gib_weights, wanted.total_gib),
            "weights_gib" if detail else "min_free_gib_weights",
            inodes=WEIGHTS_INODES,
            place="weights_dir",
            taken_gib=wanted.total_gib,
            detail=detail,
        )
    )
    return needs
