"""What every deploy file asks: which rack, which of its hosts, what was found there, and may the run go on."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache

from pyinfra import logger
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host
from pyinfra.api.inventory import Inventory
from pyinfra.context import host, state

from deploy.inputs import gpu_gate
from deploy.inputs.rack import Rack, RackHost, load_rack
from roles.errors import InputError
from roles.gateway.config import Gateway, GatewayConfig, GatewayModel
from roles.model_serving.model import Model
from roles.nvidia_driver import plan as driver_plan
from roles.nvidia_driver import rules as driver_rules
from roles.nvidia_driver.facts import HostDriver
from roles.nvidia_driver.info import DriverInfo
from roles.nvidia_driver.versions import cuda_of_lock
from roles.planner import fit
from roles.planner.memory.hub import Hub
from roles.planner.placement.place import Host as Capacity
from roles.planner.plan import Plan
from roles.preflight import rules as preflight
from roles.preflight.facts import HostFacts, ReachedAddress, UserId
from roles.preflight.info import HostInfo, Listener
from roles.ray_cluster.node import NodeConfig
from roles.serving_runtime.lock import Lock, lock_for
from roles.setting_types import is_certificate_name
from roles.storage import weights
from roles.verification import first_key as verification_key


class StopRunError(PyinfraError):
    """Ends the run with these lines and exit code 1; pyinfra prints a traceback for errors that are not its own."""

    def __init__(self, problems: Iterable[str]) -> None:
        super().__init__("\n    ".join(("the run stops here and no host was changed:", *problems)))


@cache
def _rack_of(inventory: Inventory) -> Rack:
    try:
        return load_rack(inventory, os.environ)
    except InputError as error:
        raise StopRunError(error.problems) from None


def rack() -> Rack:
    """The rack of this run, read and checked once."""
    return _rack_of(state.inventory)


def this_host() -> RackHost:
    """The host that this pass of a deploy file is for."""
    return rack().host(host.name)


def head() -> Host:
    """pyinfra's handle of the head, also when ``--limit`` leaves it out."""
    head = state.inventory.get_host(rack().head.name)
    become_root(head)
    return head


def become_root(each: Host) -> None:
    """An ordinary SSH user takes sudo from here on; root goes without, as many hosts have no sudo then."""
    if each.data.get("_sudo") is None:
        each.data._sudo = each.get_fact(UserId, _sudo=False) != 0


# What the first deploy file found, for those after it: pyinfra reads each file for every host before the next file.
_found: dict[str, HostInfo] = {}
_driver_plans: dict[str, driver_plan.Plan | None] = {}
_driver_infos: dict[str, DriverInfo | None] = {}
# By host: they are looked at side by side, and told in the order of the inventory.
_problems: dict[str, list[str]] = {}
_warnings: dict[str, list[str]] = {}
_unreachable: set[str] = set()


def stop_if_unreachable() -> None:
    """Stop unless every host of the run answered, or ``skip_unreachable`` allows to go on without.

    pyinfra itself would drop such a host and change the others.
    """
    # A host whose facts could not be read on an earlier pass of this file has failed as well, but not to connect.
    _unreachable.update(lost.name for lost in state.failed_hosts if not lost.connected)
    lost = [rack().host(name) for name in sorted(_unreachable)]
    if missing := [each for each in lost if each.is_head or not each.settings.skip_unreachable]:
        raise StopRunError(unreachable(each) for each in missing)


def unreachable(lost: RackHost) -> str:
    """What to do about a host that cannot be reached. Workers need their head, so no run goes on without it."""
    remedy = (
        "mend it: the head must be reachable, and no run goes on without it (skip_unreachable is for workers)"
        if lost.is_head
        else f"mend it, leave it out with --exclude {lost.name}, or go on without with --data skip_unreachable=true"
    )
    return f"{lost.name}: cannot be reached by SSH (the reason stands above); {remedy}"


def look_at_this_host() -> None:
    """Read what the preflight rules need from this host and note what they say."""
    this = this_host()
    become_root(host)
    info = _found[this.name] = host.get_fact(
        HostFacts,
        paths=preflight.paths_of_interest(this.settings),
        weights_dir=this.settings.weights_dir,
        cache_dir=this.settings.cache_dir,
    )
    digest, no_lock = _runtime_digest(this)
    models = [_sized(model, info) for model in rack().models]
    found = preflight.problems(
        this.name, info, this.settings, is_head=this.is_head, runtime_digest=digest, models=models
    )
    _warnings[this.name] = preflight.warnings(this.name, info, this.settings, models=models)
    # On a distribution that is not supported, the missing lock follows from that.
    _problems[this.name] = found or no_lock
    if not found:
        _look_at_driver(this)
        _look_at_gpus(this)


def note(name: str, *, problems: Sequence[str], warnings: Sequence[str]) -> None:
    """What else was found on a host that has been looked at."""
    _problems.setdefault(name, []).extend(problems)
    _warnings.setdefault(name, []).extend(warnings)


@cache
def hub() -> Hub:
    """The hub for this run: after the first question that nobody answers it is asked nothing more."""
    return Hub(os.environ)


def _sized(model: Model, info: HostInfo) -> Model:
    """The model with the size of its weights, which the hub may know when neither the list nor the host does."""
    source = model.model_source
    if model.weights_gib is not None or not weights.is_hub_id(source) or weights.cache_name(source) in info.weights:
        return model
    found = hub().find(source).weights
    return model.model_copy(update={"weights_gib": round(found.total / weights.GIB, 2)}) if found else model


def _look_at_driver(this: RackHost) -> None:
    """Decide which driver this host gets, and note what forbids it."""
    try:
        cuda = cuda_of_lock(lock_of(this.name).path.read_text())
        driver = driver_plan.Driver.from_settings(this.settings, cuda)
    except InputError as error:
        _problems[this.name].extend(f"{this.name}: {problem}" for problem in error.problems)
        return
    if driver is None:
        needed = None if this.settings.lab_skip_cuda_check or not this.settings.gpus else cuda
        there = host.get_fact(HostDriver) if needed else None
        _problems[this.name].extend(driver_rules.problems_of_existing(this.name, there, needed))
        _driver_plans[this.name] = None
        return
    info = _driver_infos[this.name] = host.get_fact(HostDriver)
    _problems[this.name].extend(driver_rules.problems(this.name, info, driver))
    _driver_plans[this.name] = driver_plan.plan(info, driver) if info else None


def _look_at_gpus(this: RackHost) -> None:
    try:
        gpu_gate.look(this)
    except InputError as error:
        _problems[this.name].extend(error.problems)


def _runtime_digest(this: RackHost) -> tuple[str | None, list[str]]:
    """The digest of the runtime that a host will get, or why there is none."""
    try:
        return lock_of(this.name).digest, []
    except InputError as error:
        return None, [f"{this.name}: {problem}" for problem in error.problems]


def stop_on_problems(plan: Plan) -> None:
    """Show all warnings; stop with every problem of every host, and of a plan that cannot work.

    A host that the health gate blocks is only left out, unless it is the head, or the models do not fit without it.
    """
    for warning in _in_order(_warnings):
        logger.warning(f"    warning: {warning}")
    _warnings.clear()  # this is called once for each host
    blocked = gpu_gate.blocked()
    problems = [*_in_order(_problems), *plan.problems]
    if problems or rack().head.name in blocked:
        raise StopRunError([*(line for found in blocked.values() for line in found.lines()), *dict.fromkeys(problems)])
    for name, found in blocked.items():
        gpu_gate.leave_out(found, state.inventory.get_host(name))


def _in_order(lines: Mapping[str, list[str]]) -> list[str]:
    return [line for each in rack().hosts for line in lines.get(each.name, [])]


def _models_without(names: Collection[str]) -> list[str]:
    """What does not fit on the rack without these hosts."""
    left = [capacity_of(each) for each in rack().hosts if each.name not in names]
    models, source = rack().models, rack().models_source
    return fit.problems(models, left, source, fit.placed(models, left)) if left else []


def capacity_of(each: RackHost) -> Capacity:
    """What a host offers Ray, as far as it is known."""
    return Capacity.of(each.name, each.settings, cpus_found(each.name))


def cpus_found(name: str) -> int | None:
    """The CPUs of a host that has been looked at."""
    return _found[name].cpus or None if name in _found else None


def listeners(name: str) -> Sequence[Listener]:
    """Who listens on which port of a host."""
    _look_unless_seen(name)
    return _found[name].listeners


def listens(name: str, process: str) -> list[int]:
    """The ports that a program listens on."""
    return [listener.port for listener in listeners(name) if listener.process == process]


def problems_of(name: str) -> Sequence[str]:
    """What forbids to change this host, of what has been looked at so far."""
    return _problems.get(name, ())


def is_looked_at(name: str) -> bool:
    """Whether this host was looked at, and may be changed."""
    return name in _found and not _problems.get(name)


def models_that_lost_their_hosts() -> list[str]:
    """At execution: what no longer fits since hosts have failed in this run, with their names."""
    failed = sorted(lost.name for lost in state.failed_hosts if lost.name not in _unreachable)
    problems = _models_without(failed) if failed else []
    return [f"without {', '.join(failed)}: {problem}" for problem in problems]


def _look_unless_seen(name: str) -> None:
    """A run may read one deploy file alone, without the first, which looks at every host."""
    if name not in _found:
        look_at_this_host()
        if _problems[name]:
            raise StopRunError(_problems[name])


def lock_of(name: str) -> Lock:
    """The lock of the runtime that this host is set to run."""
    _look_unless_seen(name)
    info = _found[name]
    return lock_for(rack().host(name).settings.runtime, info.machine, info.python_version)


def driver_plan_of(name: str) -> driver_plan.Plan | None:
    """What a host gets of the NVIDIA driver; None: it has no GPU, or its driver is left alone."""
    _look_unless_seen(name)
    return _driver_plans[name]


def driver_info_of(name: str) -> DriverInfo | None:
    """What was found of the NVIDIA driver on a host that gets one."""
    _look_unless_seen(name)
    return _driver_infos.get(name)


def node_of(each: RackHost) -> NodeConfig:
    """The Ray node of a host of the rack."""
    return NodeConfig.from_settings(
        each.settings,
        role="head" if each.is_head else "worker",
        node_ip=node_ip(each.name),
        head_ip=node_ip(rack().head.name),
        alone=len(rack().hosts) == 1,
    )


@cache
def node_ip(name: str) -> str:
    """The address Ray uses on a host: ``node_ip``, or the one this run reached it at; its name where it did not."""
    if fixed := rack().host(name).settings.node_ip:
        return fixed
    reached = name in _found or (name == rack().head.name and name not in _unreachable)
    return state.inventory.get_host(name).get_fact(ReachedAddress, _sudo=False) if reached else name


def gateway_config(each: RackHost) -> GatewayConfig:
    """The gateway of a host. Serve is on the head."""
    settings = each.settings
    return GatewayConfig(
        bind=settings.gateway_bind,
        port=settings.gateway_port,
        serve_port=rack().head.settings.serve_port,
        maxconn=settings.gateway_maxconn,
        max_body_kib=settings.gateway_max_body_kib,
        metrics_port=settings.gateway_metrics_port,
        serve_host="127.0.0.1" if each.is_head else node_ip(rack().head.name),
    )


def gateway_names(each: RackHost) -> list[str]:
    """What clients may call a host: as the inventory does, as Ray does, as this run reached it, the address its gateway
    is bound to, and `gateway_names`."""
    reached = state.inventory.get_host(each.name).get_fact(ReachedAddress, _sudo=False)
    bound = {each.settings.gateway_bind} - preflight.ANY_ADDRESS
    names = [each.name, node_ip(each.name), reached, *bound, *(each.settings.gateway_names or ())]
    return sorted({name for name in names if is_certificate_name(name)})


def gateway_models() -> tuple[GatewayModel, ...]:
    return tuple(
        GatewayModel(route_prefix=model.route_prefix, model_id=model.model_id, slug=model.slug)
        for model in rack().models
    )


def gateway_url(each: RackHost) -> str:
    """Where a host reaches its own gateway."""
    return Gateway.of(gateway_models(), gateway_config(each)).health_url.removesuffix("/healthz")


def first_key(each: RackHost) -> Sequence[str]:
    """What to tell an operator who has no API key yet for the gateway of this host."""
    data = state.inventory.get_host(each.name).data
    called = "localhost" if each.name == "@local" else str(data.get("ssh_hostname") or each.name)
    if each.settings.gateway_bind not in preflight.ANY_ADDRESS:
        called = each.settings.gateway_bind
    elif called not in (*gateway_names(each), "localhost"):  # an alias of SSH's, which no client knows
        called = node_ip(each.name)
    address = f"[{called}]" if ":" in called else called
    return verification_key.lines(each.name, data.dict(), f"https://{address}:{each.settings.gateway_port}")
