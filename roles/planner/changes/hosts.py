"""What a run will do to each host: which files change there, and what restarts for it. Pure: no pyinfra.

What decides at execution decides here, too: ``activation`` of the node and of the gateway, ``node_config`` of the host,
``module`` of the driver. They are given what they will find once this run has put its files.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from roles.gateway import activation as gateway_activation
from roles.gateway import facts as gateway_facts
from roles.gateway.config import CONFIG_TEMPLATE, UNIT_TEMPLATE, Gateway
from roles.model_serving import env_file
from roles.nvidia_driver import module
from roles.nvidia_driver.info import DriverInfo
from roles.nvidia_driver.plan import Plan, complete
from roles.planner.changes.models import NodeDown, RunningModel
from roles.planner.host_rules import node_config
from roles.ray_cluster import activation
from roles.ray_cluster.activation import NodeState
from roles.ray_cluster.node import NodeConfig

ROOT = Path(__file__).parents[3]
PREFIX = "/opt/rayrack"
LIB = f"{PREFIX}/lib"
NODE_TEMPLATES = "templates/ray_cluster/etc"
MODEL_UNIT = "rayrack-model@.service"
# What ``node_config.fingerprint`` looks at beside files of ours: the name it has there.
TOKEN = "Ray's token"  # noqa: S105 - its name
NODE_PROGRAMS = ("ray_node", "node_config", "node_checks", "systemd")
# The longest that ray_node gives Ray for an orderly end.
NODE_STOP_S = 10.0

Part = Literal["host", "files", "programs", "runtime", "driver", "node", "gateway"]
Kind = Literal["unchanged", "write", "install", "reload", "restart", "start", "reboot", "blocked", "unknown"]


@dataclass(frozen=True)
class DriverInputs:
    """The driver that a host gets, and what was found of it there."""

    plan: Plan
    info: DriverInfo
    allow_reboot: bool


@dataclass(frozen=True)
class HostInputs:
    """What this run makes of a host; ``start_order`` is the head's alone."""

    name: str
    node: NodeConfig
    runtime_digest: str
    gateway: Gateway | None = None
    start_order: str | None = None
    """As ``env_file.start_order`` renders it."""
    driver: DriverInputs | None = None
    """None: it has no GPU, or its driver is left alone."""


@dataclass(frozen=True)
class HostFound:
    """What a host had before anything was changed (``facts`` beside this file reads it)."""

    node: NodeState
    """Without ``outdated``: what will be, after this run, follows from ``applied``."""
    programs: Mapping[str, str]
    """As ``InstalledPrograms`` of roles/host_programs.py has them."""
    files: Mapping[str, str]
    """SHA-256 of those of ``paths`` that are there."""
    runtime: str | None
    runtime_path: str | None
    """What the link /opt/rayrack/current leads to."""
    token: str | None
    """The digest of its Ray token."""
    gateway: gateway_activation.State | None = None
    models: Mapping[str, RunningModel] | None = None
    """The head's models; None: not known, or not a head."""


@dataclass(frozen=True)
class HostChange:
    """What a run will do to one part of one host. ``host`` as a part is the whole of it."""

    host: str
    part: Part
    kind: Kind
    inputs: tuple[str, ...] = ()
    """The files and other inputs that cause it."""
    why: str = ""
    seconds: float | None = None
    """How long what runs there is away; None: not known."""


def host_changes(hosts: Sequence[HostInputs], found: Mapping[str, HostFound | None]) -> tuple[HostChange, ...]:
    """What will happen on each host of the rack, one entry per part of it.

    ``found``: by host; a host that is missing there, or None, was not looked at, and is told as ``unknown``.
    """
    head = next((host for host in hosts if host.node.role == "head"), None)
    head_found = found.get(head.name) if head else None
    # A head without a token gets one in this run; nobody knows which.
    token = head_found.token if head_found else None
    changes = {host.name: list(_changes(host, found.get(host.name), token)) for host in hosts}
    if head and _goes_down(changes[head.name]):
        for host in hosts:
            if host.node.role == "worker":
                changes[host.name] = [_joins_anew(change, found.get(host.name)) for change in changes[host.name]]
    return tuple(change for host in hosts for change in changes[host.name])


def nodes_down(hosts: Sequence[HostInputs], changes: Sequence[HostChange]) -> tuple[NodeDown, ...]:
    """The Ray nodes that these changes take down, for ``model_changes``."""
    down = []
    for host in hosts:
        own = [change for change in changes if change.host == host.name]
        if _goes_down(own):
            seconds = next((change.seconds for change in own if change.part == "node"), None)
            down.append(NodeDown(host.name, host.node.node_ip, host.node.role == "head", seconds))
    return tuple(down)


def stops_at_driver(name: str, changes: Sequence[HostChange]) -> bool:
    """Whether the run ends on this host before it comes to Ray and models: its driver needs somebody to act."""
    return any((change.host, change.part, change.kind) == (name, "driver", "blocked") for change in changes)


def paths(host: HostInputs) -> tuple[str, ...]:
    """The files on a host whose digests ``host_changes`` needs."""
    return (*_rendered_files(host), *node_config.ENV_FILES[1:])


def _goes_down(changes: Sequence[HostChange]) -> bool:
    return any((change.part, change.kind) in (("node", "restart"), ("driver", "reboot")) for change in changes)


def _changes(host: HostInputs, found: HostFound | None, token: str | None) -> Iterator[HostChange]:
    if found is None:
        yield HostChange(host.name, "host", "unknown", why="it was not looked at: this run leaves it out")
        return
    driver = _driver(host)
    if driver is not None:
        yield driver
        if driver.kind == "blocked":
            return  # pyinfra goes on without this host
    reboots = driver is not None and driver.kind == "reboot"
    digests = {path: _sha256(text) for path, text in _rendered_files(host).items()}
    written = tuple(path for path, digest in digests.items() if found.files.get(path) != digest)
    yield HostChange(host.name, "files", "write" if written else "unchanged", written, seconds=0.0)
    programs = tuple(_changed_programs(found.programs))
    fresh = programs or not found.programs
    yield HostChange(host.name, "programs", "install" if fresh else "unchanged", programs, seconds=0.0)
    yield _runtime(host, found)
    yield _node(host, found, digests, token, reboots=reboots)
    if host.gateway is not None:
        yield _gateway(host.name, host.gateway, found, digests, reboots=reboots)


def _driver(host: HostInputs) -> HostChange | None:
    if host.driver is None:
        return None
    plan, info, allowed = host.driver.plan, host.driver.info, host.driver.allow_reboot
    step = module.next_step(info, plan.version, plan.modules)
    ready = complete(info.packages, plan)
    inputs = () if ready and step.step == "nothing" else (f"driver {plan.version}",)
    if step.step == "reboot" and not allowed:
        early = None if ready else module.stop_before_packages(info, plan.version, plan.modules, allow_reboot=False)
        return HostChange(host.name, "driver", "blocked", inputs, early or module.stop_before_reboot(step.why))
    if step.step == "reboot":
        return HostChange(host.name, "driver", "reboot", inputs, step.why)
    return HostChange(host.name, "driver", "install" if inputs else "unchanged", inputs, seconds=0.0)


def _changed_programs(installed: Mapping[str, str]) -> Iterator[str]:
    """Host programs that are there in another version. Of those that are missing the roles alone know who gets them."""
    for path, line in sorted(installed.items()):
        digest = _host_programs().get(Path(path).name)
        if Path(path).parent == Path(LIB) and digest is not None and line.split()[-1] != digest:
            yield path


@cache
def _host_programs() -> Mapping[str, str]:
    """The digest of every host program of this checkout, by file name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in ROOT.glob("roles/*/host/*.py")}


def _runtime(host: HostInputs, found: HostFound) -> HostChange:
    if found.runtime == host.runtime_digest:
        return HostChange(host.name, "runtime", "unchanged", seconds=0.0)
    return HostChange(host.name, "runtime", "install", (f"runtime {host.runtime_digest}",), seconds=0.0)


def _node(
    host: HostInputs, found: HostFound, digests: Mapping[str, str], token: str | None, *, reboots: bool
) -> HostChange:
    unit = host.node.unit
    if unit not in found.node.units:
        return HostChange(host.name, "node", "unknown", why="systemd did not answer")
    shown = found.node.units[unit]
    wanted = _node_inputs(host, found, digests, token)
    outdated = tuple(node_config.differences(found.node.applied, wanted))
    file_changed = shown.file_changed or found.files.get(f"{activation.UNIT_DIR}/{unit}") != wanted[_unit_path(host)]
    units = {**found.node.units, unit: replace(shown, file_changed=file_changed)}
    if not reboots and not activation.restarts(NodeState(units, outdated, found.node.applied), host.node.role):
        return HostChange(host.name, "node", "unchanged", seconds=0.0)
    if not any(found.node.units[each].active for each in activation.UNITS.values()):
        return HostChange(host.name, "node", "start", (), f"{unit} does not run", shown.start_s)
    away = None if reboots or shown.start_s is None else shown.start_s + NODE_STOP_S
    why = "the host reboots" if reboots else ""
    return HostChange(host.name, "node", "restart", outdated, why, away)


def _node_inputs(host: HostInputs, found: HostFound, digests: Mapping[str, str], token: str | None) -> dict[str, str]:
    """What ``node_config.fingerprint`` will give on the host when this run has put its files."""
    rendered_file, override = node_config.ENV_FILES
    runtimes = PurePosixPath(found.runtime_path or "").parent if found.runtime else f"{PREFIX}/runtime"
    return {
        rendered_file: digests[rendered_file],
        override: found.files.get(override, "absent"),
        _unit_path(host): digests[_unit_path(host)],
        **{f"{node_config.PROGRAMS / name}.py": _host_programs()[f"{name}.py"] for name in NODE_PROGRAMS},
        TOKEN: token or found.token or "absent",
        str(node_config.CURRENT_RUNTIME): f"{runtimes}/{host.runtime_digest}",
    }


def _gateway(name: str, gateway: Gateway, found: HostFound, digests: Mapping[str, str], *, reboots: bool) -> HostChange:
    state = found.gateway
    if state is None:
        return HostChange(name, "gateway", "unknown", why="it was not looked at")
    unit = f"{activation.UNIT_DIR}/{gateway_activation.UNIT}"
    will_be = replace(
        state,
        candidate_differs=found.files.get(gateway_activation.CONFIG) != digests[gateway_activation.CONFIG],
        unit_file_changed=state.unit_file_changed or found.files.get(unit) != digests[unit],
    )
    verb = gateway_activation.verb(will_be, gateway)
    if not state.active:
        return HostChange(name, "gateway", "start", (), f"{gateway_activation.UNIT} does not run")
    if reboots or verb == "restart":
        return HostChange(name, "gateway", "restart", (unit,), "the host reboots" if reboots else "")
    if verb == "reload":
        why = "nobody is cut off"
        if not will_be.candidate_differs and state.certificate_differs:
            return HostChange(name, "gateway", "reload", (gateway_facts.CERTIFICATE,), why, 0.0)
        return HostChange(name, "gateway", "reload", (gateway_activation.CONFIG,), why, 0.0)
    return HostChange(name, "gateway", "unchanged", seconds=0.0)


def _joins_anew(change: HostChange, found: HostFound | None) -> HostChange:
    """What a worker's node does when its head starts a new cluster."""
    if change.part != "node" or change.kind != "unchanged" or found is None:
        return change
    start_s = found.node.units[activation.UNITS["worker"]].start_s
    away = None if start_s is None else start_s + NODE_STOP_S
    return replace(change, kind="restart", why="the head starts a new cluster", seconds=away)


def _rendered_files(host: HostInputs) -> dict[str, str]:
    """Env file and units of a host as this run puts them, by path."""
    node_unit = f"{NODE_TEMPLATES}/systemd/system/{{}}.j2"
    files = {
        node_config.ENV_FILES[0]: rendered(f"{NODE_TEMPLATES}/rayrack/ray.env.j2", node=host.node),
        _unit_path(host): rendered(node_unit.format(host.node.unit), node=host.node),
        f"{activation.UNIT_DIR}/{activation.TARGET}": rendered(node_unit.format(activation.TARGET), node=host.node),
    }
    if host.node.role == "head":
        template = f"templates/model_serving/etc/systemd/system/{MODEL_UNIT}.j2"
        files[f"{activation.UNIT_DIR}/{MODEL_UNIT}"] = rendered(template)
    if host.start_order is not None:
        files[env_file.START_ORDER] = host.start_order
    if host.gateway is not None:
        files[gateway_activation.CONFIG] = rendered(CONFIG_TEMPLATE, gateway=host.gateway)
        files[f"{activation.UNIT_DIR}/{gateway_activation.UNIT}"] = rendered(UNIT_TEMPLATE, gateway=host.gateway)
    return files


def _unit_path(host: HostInputs) -> str:
    return f"{activation.UNIT_DIR}/{host.node.unit}"


def rendered(template: str, **values: Any) -> str:
    """A template's text, as pyinfra's ``files.template`` renders it."""
    return _templates().get_template(template).render(values)


@cache
def _templates() -> Environment:
    return Environment(  # noqa: S701 - configuration files, not HTML
        undefined=StrictUndefined, keep_trailing_newline=True, loader=FileSystemLoader(ROOT)
    )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
