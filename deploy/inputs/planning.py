"""The plan of a run: what it is made from, and where it is shown. It is the first thing a run does."""

import threading
from collections.abc import Mapping
from dataclasses import replace

from pyinfra import logger
from pyinfra.context import host

from deploy.inputs import firewall, gpu_gate, plan_output, rotation, run, secrets
from deploy.inputs.rack import RackHost
from roles.errors import InputError
from roles.firewall.rules import Rules
from roles.gateway.config import Gateway
from roles.model_serving import env_file
from roles.planner import build
from roles.planner.changes import hosts as host_changes
from roles.planner.changes import models as changes
from roles.planner.changes.facts import HostState
from roles.planner.changes.hosts import DriverInputs, HostFound, HostInputs
from roles.planner.live_fit import Standing
from roles.planner.memory.facts import ModelFiles
from roles.planner.memory.found_model import FoundModel
from roles.planner.placement.place import can_run
from roles.planner.plan import Plan
from roles.ray_cluster.rotation import FINISHED_FIRST, refusals
from roles.secrets.facts import SecretFiles, line_of, salt
from roles.storage.weights import is_hub_id

# By host: what was found there for the plan.
_found: dict[str, HostFound] = {}
_files: dict[str, Mapping[str, FoundModel]] = {}
_shown: list[Plan] = []
# pyinfra reads a deploy file for all hosts at once, and asking the hub lets the others go on.
_showing = threading.Lock()


def stop_if_unreachable() -> None:
    """As the preflight has it; the plan is shown first, from the inventory and what answered."""
    try:
        run.stop_if_unreachable()
    except run.StopRunError:
        show()
        raise


def look_at_this_host() -> None:
    """Read what the plan needs from this host, unless it cannot be deployed to anyway."""
    this = run.this_host()
    if run.problems_of(this.name):
        return
    inputs = _host_inputs(this)
    found: HostFound | None = host.get_fact(
        HostState,
        role=inputs.node.role,
        health_url=inputs.gateway.health_url if inputs.gateway else None,
        paths=host_changes.paths(inputs),
    )
    if found and inputs.secrets:
        there = host.get_fact(SecretFiles, paths=list(inputs.secrets), _stdin=salt())
        found = replace(found, secrets=there)
    if found:
        _found[this.name] = found
    capacity = run.capacity_of(this)
    sources = dict.fromkeys(model.model_source for model in run.rack().models if can_run(model, capacity))
    if sources:
        _files[this.name] = host.get_fact(ModelFiles, sources=list(sources), weights_dir=this.settings.weights_dir)


def show() -> Plan:
    """Make the plan, show it on stderr, and write it to ``plan_file``: once, when all hosts have been looked at."""
    with _showing:
        if not _shown:
            plan = build.plan(_plan_inputs())
            _shown.append(plan)
            try:
                plan_output.publish(plan, run.rack().head.settings.plan_file)
            except InputError as error:
                raise run.StopRunError(error.problems) from None
            if run.rack().head.settings.rotate_ray_token and rotation.is_unfinished(run.rack(), _found):
                logger.warning(f"    warning: {FINISHED_FIRST}")
            for warning in plan.warnings:
                logger.warning(f"    warning: {warning}")
    return _shown[0]


def token_to_replace() -> str | None:
    """The digest of the Ray token in whose place this run puts a new one; None: it puts none there.

    A deploy file that is run alone, without the first, rotates nothing: nobody has looked whether all hosts take part.
    """
    if run.rack().head.settings.rotate_ray_token and not _found:
        raise run.StopRunError(["rotate_ray_token: takes a run of the whole directory deploy/, not of one file"])
    return rotation.token_to_replace(run.rack(), _found)


def _rotation_problems() -> list[str]:
    """Why the token cannot be rotated as it is asked for. Hosts that will be left out have been looked at by now."""
    rack = run.rack()
    if not rack.head.settings.rotate_ray_token:
        return []
    names = [each.name for each in rack.hosts]
    taking_part = {name for name in names if name in _found or run.problems_of(name)} - gpu_gate.blocked().keys()
    return list(refusals(names, taking_part))


def _plan_inputs() -> build.PlanInputs:
    rack = run.rack()
    hosts = [replace(_host_inputs(each), firewall=_firewall(each)) for each in rack.hosts]
    of_hosts = host_changes.host_changes(hosts, _found, new_token=rotation.token_to_replace(rack, _found) is not None)
    down = host_changes.nodes_down(hosts, of_hosts)
    head = _found.get(rack.head.name)
    running = head.models if head else None
    head_stops = host_changes.stops_at_driver(rack.head.name, of_hosts)
    return build.PlanInputs(
        hosts=[_plan_host(each) for each in rack.hosts],
        models=rack.models,
        source=rack.models_source,
        found=_found_models(),
        model_changes=changes.model_changes(rack.models, running, down, head_stops=head_stops),
        host_changes=of_hosts,
        problems=_rotation_problems(),
        standing=None if running is None or any(node.is_head for node in down) else _standing(hosts, running),
    )


def _host_inputs(each: RackHost) -> HostInputs:
    looked_at = run.is_looked_at(each.name)
    driver = run.driver_plan_of(each.name) if looked_at else None
    info = run.driver_info_of(each.name) if looked_at else None
    return HostInputs(
        name=each.name,
        node=run.node_of(each),
        runtime_digest=run.lock_of(each.name).digest if looked_at else "",
        gateway=Gateway.of(run.gateway_models(), run.gateway_config(each)) if each.has_gateway else None,
        start_order=env_file.start_order(run.rack().models) if each.is_head else None,
        driver=DriverInputs(driver, info, each.settings.allow_reboot) if driver and info else None,
        secrets={file.path: line_of(file) for file in secrets.files_of(each)},
    )


def _firewall(each: RackHost) -> Rules | None:
    """All hosts have been looked at by now: each lets in the addresses of the others."""
    return firewall.rules_of(each) if run.is_looked_at(each.name) else None


def _plan_host(each: RackHost) -> build.PlanHost:
    blocked = each.name in gpu_gate.blocked()
    return build.PlanHost.of(
        each.name,
        each.settings,
        is_head=each.is_head,
        cpus_found=run.cpus_found(each.name),
        left_out="its GPUs may not serve (the reasons follow)" if blocked else None,
    )


def _found_models() -> dict[str, FoundModel]:
    """By source: what a host has of it, or what the hub says."""
    found = {}
    for source in dict.fromkeys(model.model_source for model in run.rack().models):
        on_hosts = [files[source] for files in _files.values() if source in files]
        complete = [each for each in on_hosts if each.shape is not None and each.weights is not None]
        if complete:
            found[source] = complete[0]
        elif is_hub_id(source):
            found[source] = run.hub().find(source)
        elif on_hosts:
            found[source] = on_hosts[0]
    return found


def _standing(hosts: list[HostInputs], running: Mapping[str, changes.RunningModel]) -> Standing | None:
    """On which host each replica runs; None where Serve does not tell."""
    names = {each.node.node_ip: each.name for each in hosts}
    if any(model.replicas is None for model in running.values()):
        return None
    return {slug: [names.get(address or "", "") for address in model.replicas or ()] for slug, model in running.items()}
