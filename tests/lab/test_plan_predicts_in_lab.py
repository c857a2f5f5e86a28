"""A plan against the real thing: every field of the model list and settings of hosts are changed, and what Serve's
replicas and the hosts' units did is compared with what was told before.

A round is one deploy with one field changed of each of some models; at least one model must keep its replicas in it. A
value that the lab cannot serve (tensor parallelism on its two cores, say) is a change like any other: the old replicas
go, and the next round tells a start.
"""

import json
import pprint
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import serve_app
import yaml

from deploy.inputs.rack import Rack
from roles.gateway.config import Gateway, GatewayConfig, GatewayModel
from roles.model_serving import model_list
from roles.model_serving.list_source import Source
from roles.model_serving.model import FIELDS
from roles.planner import fit
from roles.planner.changes.facts import HostState
from roles.planner.changes.hosts import HostChange, HostFound, HostInputs, host_changes, nodes_down, paths
from roles.planner.changes.models import ModelChange, model_changes
from roles.planner.placement.place import Host
from roles.ray_cluster.node import NodeConfig
from roles.serving_runtime.lock import lock_for
from roles.settings import Settings
from tests.conftest import DeployedRack
from tests.hosts.inventory import read_inventory
from tests.lab.lab import INVENTORY, ROOT, LabError, Tell, wait_until

MODELS = ROOT / "inventories/models/lab.yaml"
SECRET = "/etc/rayrack/secrets/some.token"
ENV = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
KV_CACHE = {"kv_cache_memory_bytes": 134217728}
# For values with which a model may never come up here.
IMPATIENT, PATIENT = {"start_timeout_s": 30}, {"start_timeout_s": 600}
SETTLED_WITHIN_S, NOTICED_WITHIN_S = 400, 120
_INVENTORY = f"""import runpy

_lab = runpy.run_path({str(ROOT / INVENTORY)!r})
rack = _lab["rack"]
head = [(_name, {{**_data, **%s}}) for _name, _data in _lab["head"]]
workers = [(_name, {{**_data, **%s}}) for _name, _data in _lab["workers"]]
"""
Values = Mapping[str, object]


@dataclass(frozen=True)
class Round:
    """One deploy. ``models``: new values by the model's name in the lab's list; ``overrides``: lines of override files
    by slug, or None to remove them; ``head`` and ``worker``: settings of these hosts."""

    models: Mapping[str, Values] = field(default_factory=dict)
    overrides: Mapping[str, Values | None] = field(default_factory=dict)
    head: Values = field(default_factory=dict)
    worker: Values = field(default_factory=dict)


A, B, EMBED = "tiny-a", "tiny-b", "tiny-embed"
ROUNDS = (
    Round({A: {"env": {**ENV, "SOME_VARIABLE": "1"}}, B: {"secrets": {"SOME_TOKEN": "some.token"}}}),
    Round({A: {"engine_kwargs": {**KV_CACHE, "max_num_seqs": 8}}, EMBED: {"route_prefix": "/team-a"}}),
    Round({B: {"max_model_len": 512}, EMBED: {"start_timeout_s": 500}}),
    Round({A: {"dtype": "float32"}, B: {"model_source": "/srv/models/tiny-a"}, EMBED: {"weights_gib": 0.1}}),
    Round({A: {"gpu_memory_utilization": 0.5}, B: {"model_id": "tiny-c", "slug": B}}),
    Round({A: {"update": "surge"}, B: {"slug": "tiny-d"}, EMBED: {"target_ongoing_requests": 5}}),
    # What the list cannot ask for here stands in an override file. And the surge of before is used.
    Round({A: {"env": ENV}, EMBED: {"max_replicas": 2}}, {"tiny-d": {"share_gpu": True}}),
    Round({A: {"update": "swap", "quantization": "fp8", **IMPATIENT}}),
    Round({A: {"quantization": None, **PATIENT}}, {"tiny-d": {"accelerator_type": "H100", **IMPATIENT}}),
    Round({A: {"tensor_parallel_size": 2, **IMPATIENT}}, {"tiny-d": None}),
    Round({A: {"tensor_parallel_size": 1, **PATIENT}, B: {"pipeline_parallel_size": 2, **IMPATIENT}}),
    Round({A: {"runner": "pooling", **IMPATIENT}, B: {"pipeline_parallel_size": 1, **PATIENT}}),
    Round({A: {"runner": "generate", **PATIENT}, B: {"enforce_eager": False, **IMPATIENT}}),
    Round({B: {"enforce_eager": True, **PATIENT}, EMBED: {"min_replicas": 2}}),
    Round(worker={"num_cpus": 9}),
    Round(worker={"num_cpus": 9, "object_store_memory_mib": 210}),
    Round(worker={"num_cpus": 9, "object_store_memory_mib": 210}, head={"num_cpus": 9}),
)


def documents() -> Iterator[dict[str, Any]]:
    """The model list of each round; what one has changed stays so in the next."""
    document = yaml.safe_load(MODELS.read_text())
    models = {model["model_id"]: model for model in document["models"]}
    for each in ROUNDS:
        for name, values in each.models.items():
            models[name].update(values)
        yield json.loads(json.dumps(document))


def changed_fields(each: Round) -> set[str]:
    return {name for values in (*each.models.values(), *each.overrides.values()) for name in values or {}}


def test_the_rounds_change_every_field_of_the_model_list() -> None:
    assert set().union(*map(changed_fields, ROUNDS)) == FIELDS


def test_every_round_but_the_last_has_a_model_that_must_keep_its_replicas() -> None:
    for each in ROUNDS[:-1]:
        loud = [name for name, values in each.models.items() if {*values} & {"slug", *serve_app.IN_REPLICA}]
        assert len(loud) + len(each.overrides) < 3


def test_the_list_of_every_round_is_one_that_a_deploy_takes(tmp_path: Path) -> None:
    hosts = [Host.of(name, Settings(runtime="cpu", num_cpus=8), 8) for name in ("h1", "h2")]
    for document in documents():
        path = tmp_path / "models.yaml"
        path.write_text(yaml.safe_dump(document))
        source = Source("file", str(path))
        models = model_list.load(source)
        assert fit.problems(models, hosts, source, fit.placed(models, hosts)) == []


@pytest.mark.parametrize(
    ("told", "before", "after", "agrees"),
    [
        (ModelChange("m", "unchanged"), {"1"}, {"1"}, True),
        (ModelChange("m", "settings"), {"1"}, {"2"}, False),
        (ModelChange("m", "reload"), {"1"}, {"1", "2"}, True),
        (ModelChange("m", "reload"), {"1", "2"}, {"1"}, False),
        (ModelChange("m", "restart", ("env",)), {"1", "2"}, {"3", "4"}, True),
        (ModelChange("m", "restart", ("env",)), {"1", "2"}, {"2", "3"}, False),
        (ModelChange("m", "restart", ("env",)), {"1"}, set(), True),
        (ModelChange("m", "restart"), {"1", "2"}, {"2", "3"}, True),
        (ModelChange("m", "restart"), {"1"}, {"1"}, False),
        (ModelChange("m", "start"), set(), {"1"}, True),
        (ModelChange("m", "start"), {"1"}, {"1"}, False),
        (ModelChange("m", "stop"), {"1"}, set(), True),
        (ModelChange("m", "stop"), {"1"}, {"1"}, False),
        (ModelChange("m", "unknown"), {"1"}, {"1"}, False),
    ],
)
def test_a_disagreement_is_seen(told: ModelChange, before: set[str], after: set[str], agrees: bool) -> None:
    assert model_agrees(told, before, after) is agrees


def test_of_an_inventory_the_settings_of_the_changed_host_alone_are_changed(tmp_path: Path) -> None:
    environ = {"LAB_DIR": str(tmp_path), "LAB_NET": "10.1.0", "PATH": "/usr/bin:/bin"}
    path = inventory(Round(worker={"num_cpus": 9}), tmp_path)
    hosts = read_inventory(path, [], environ).rack.hosts
    assert [(host.name, host.settings.num_cpus, host.settings.runtime) for host in hosts] == [
        ("h1", 8, "cpu"),
        ("h2", 9, "cpu"),
    ]


def model_agrees(told: ModelChange, before: set[str], after: set[str]) -> bool:
    """Whether the ids of a model's replicas before and after are what was told."""
    match told.kind:
        case "unchanged" | "settings":
            return before == after
        case "reload":
            return bool(before) and before <= after
        case "restart":  # of a node with some of its replicas: those
            return bool(before) and (not before & after if told.fields else bool(before - after))
        case "start":
            return not before
        case "stop":
            return bool(before) and not after
    return False


@dataclass(frozen=True)
class Plan:
    """What is told, and what it was told from."""

    hosts: tuple[HostChange, ...]
    models: tuple[ModelChange, ...]
    found: Mapping[str, HostFound | None]

    def of(self, host: str, part: str) -> HostChange:
        return next(each for each in self.hosts if (each.host, each.part) == (host, part))

    @property
    def pending(self) -> list[HostChange]:
        return [each for each in self.hosts if each.kind != "unchanged"]


def plan(rack: DeployedRack, path: str, models_file: Path) -> Plan:
    """Look at both hosts, one command each, and plan a deploy of these inputs."""
    wanted = read_inventory(path, [f"models_file={models_file}"], rack.lab.environment).rack
    inputs = [host_inputs(rack, wanted, name) for name in (rack.head, rack.worker)]
    found: dict[str, HostFound | None] = {}
    for host in inputs:
        url = host.gateway.health_url if host.gateway else None
        command = HostState().command(host.node.role, url, paths(host))
        found[host.name] = HostState().process(rack.lab.read(host.name, command).splitlines())
    hosts = host_changes(inputs, found)
    head = found[rack.head]
    assert head is not None
    return Plan(hosts, model_changes(wanted.models, head.models, nodes_down(inputs, hosts)), found)


def host_inputs(rack: DeployedRack, wanted: Rack, name: str) -> HostInputs:
    settings, is_head = wanted.host(name).settings, name == rack.head
    own, head = rack.lab.address(name), rack.lab.address(rack.head)
    node = NodeConfig.from_settings(
        settings, role="head" if is_head else "worker", node_ip=own, head_ip=head, alone=False
    )
    python = rack.lab.read(name, "python3 -V").split()[1]
    models = [GatewayModel(each.route_prefix, each.model_id, each.slug) for each in wanted.models]
    config = GatewayConfig(
        bind=settings.gateway_bind,
        port=settings.gateway_port,
        serve_port=settings.serve_port,
        maxconn=settings.gateway_maxconn,
        max_body_kib=settings.gateway_max_body_kib,
        metrics_port=settings.gateway_metrics_port,
    )
    gateway = Gateway.of(models, config) if is_head else None
    return HostInputs(name, node, lock_for(settings.runtime, "x86_64", python).digest, gateway)


def inventory(each: Round, directory: Path) -> str:
    """The lab's inventory with these settings of its hosts."""
    path = directory / "inventory.py"
    path.write_text(_INVENTORY % (pprint.pformat(dict(each.head)), pprint.pformat(dict(each.worker))))
    return str(path)


def applications(rack: DeployedRack) -> dict[str, Any]:
    token = '-H "Authorization: Bearer $(cat /etc/rayrack/secrets/ray.token)"'
    answer = rack.lab.read(rack.head, f"curl -s {token} http://127.0.0.1:8265/api/serve/applications/")
    found: dict[str, Any] = json.loads(answer)["applications"]
    return {name.removeprefix("m-"): each for name, each in found.items()}


def replicas(found: Mapping[str, Any]) -> dict[str, set[str]]:
    """The ids of each model's replicas."""
    return {
        slug: {replica["replica_id"] for each in app["deployments"].values() for replica in each["replicas"]}
        for slug, app in found.items()
    }


def is_settled(found: Mapping[str, Any]) -> bool:
    """Every application serves, with no replica that comes or goes."""
    states = [
        replica["state"]
        for app in found.values()
        for each in app["deployments"].values()
        for replica in each["replicas"]
    ]
    return all(app["status"] == "RUNNING" for app in found.values()) and set(states) <= {"RUNNING"}


def unit_starts(rack: DeployedRack) -> dict[tuple[str, str], str]:
    """What names the start of each unit that a plan speaks of."""
    units = {
        (rack.head, "node"): "rayrack-head.service",
        (rack.head, "gateway"): "rayrack-gateway.service",
        (rack.worker, "node"): "rayrack-worker.service",
    }
    return {
        (host, part): rack.lab.read(host, f"systemctl show -P InvocationID {unit}")
        for (host, part), unit in units.items()
    }


def put_overrides(rack: DeployedRack, overrides: Mapping[str, Values | None]) -> None:
    for slug, values in overrides.items():
        path = f"/etc/rayrack/models/{slug}.override.env"
        lines = "".join(f"RAYRACK_{name.upper()}='{json.dumps(value)}'\n" for name, value in (values or {}).items())
        rack.lab.ssh(rack.head, f"cat >{path} <<'END'\n{lines}END\n" if values else f"rm -f {path}")


def seconds_without(rack: DeployedRack, slug: str) -> float:
    """How long the last restart of a model's unit was without it: from its stop to its first answer."""
    shown = rack.lab.read(
        rack.head,
        f"systemctl show -p ActiveExitTimestampMonotonic -p ActiveEnterTimestampMonotonic rayrack-model@{slug}",
    )
    times = dict(line.split("=") for line in shown.splitlines())
    return (int(times["ActiveEnterTimestampMonotonic"]) - int(times["ActiveExitTimestampMonotonic"])) / 1e6


def disagreements(rack: DeployedRack, each: Round, document: object, directory: Path, tell: Tell) -> list[str]:
    """Tell what a deploy will do, do it, and compare."""
    models_file, path = directory / "models.yaml", inventory(each, directory)
    models_file.write_text(yaml.safe_dump(document))
    put_overrides(rack, each.overrides)
    told = plan(rack, path, models_file)
    before, starts_before = replicas(applications(rack)), unit_starts(rack)
    # Some of these models cannot be served here; the deploy says so, and the comparison is the same.
    deployed = rack.lab.deploy("--data", f"models_file={models_file}", inventory=path, check=False, timeout_s=1500)
    after = settled_after(rack, told, before)
    wrong = [
        f"{change}: replicas {before.get(change.slug, set())} became {after.get(change.slug, set())}"
        for change in told.models
        if not model_agrees(change, before.get(change.slug, set()), after.get(change.slug, set()))
    ]
    for (host, part), start in unit_starts(rack).items():
        unit = told.of(host, part)
        if (unit.kind in ("restart", "start")) is (start == starts_before[host, part]):
            wrong.append(f"{unit}: start {starts_before[host, part]} became {start}")
    again = plan(rack, path, models_file)
    reloaded = told.of(rack.head, "gateway").kind == "reload"
    if reloaded is (gateway_config(again, rack.head) == gateway_config(told, rack.head)):
        wrong.append(f"{told.of(rack.head, 'gateway')}: the gateway's configuration says otherwise")
    for change in told.models:
        if change.kind == "restart" and change.fields and after.get(change.slug):
            took = seconds_without(rack, change.slug)
            tell(f"plan: {change.slug}: told {change.seconds_without} s without it, took {took:.0f} s with its queue")
    wrong += [f"{change}: its load was not measured" for change in told.models if unmeasured(again, change, after)]
    if wrong and deployed.returncode:
        wrong.append("the deploy said: " + "\n".join(deployed.stdout.splitlines()[-15:]))
    return [*wrong, *(f"still to be done after the deploy: {each}" for each in again.pending)]


def unmeasured(again: Plan, change: ModelChange, after: Mapping[str, set[str]]) -> bool:
    """Whether a model that its unit has started has no time by which the next plan could tell how long that takes."""
    started = change.kind == "start" or (change.kind == "restart" and change.fields)
    found = next(found.models for found in again.found.values() if found and found.models is not None)
    return bool(started and after.get(change.slug)) and found[change.slug].load is None


def gateway_config(told: Plan, head: str) -> str | None:
    found = told.found[head]
    return found.gateway.loaded_config if found and found.gateway else None


def settled_after(rack: DeployedRack, told: Plan, before: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The replicas when nothing moves any more. Serve takes a while to notice that a node has gone."""
    lost = [change.slug for change in told.models if change.kind == "restart"]

    def noticed() -> bool:
        now = replicas(applications(rack))
        return all(before.get(slug, set()) - now.get(slug, set()) for slug in lost)

    with suppress(LabError):  # the comparison will say it with names
        wait_until(noticed, "the replicas of restarted models have gone", NOTICED_WITHIN_S, every_s=2)
    wait_until(lambda: is_settled(applications(rack)), "every application runs", SETTLED_WITHIN_S, every_s=2)
    return replicas(applications(rack))


@pytest.mark.long
def test_what_a_plan_tells_is_what_a_deploy_does(rack: DeployedRack, tmp_path: Path, tell: Tell) -> None:
    for host in (rack.head, rack.worker):
        rack.lab.ssh(host, f"umask 077; echo a-secret >{SECRET}")
    wrong: list[str] = []
    try:
        for number, (each, document) in enumerate(zip(ROUNDS, documents(), strict=True), 1):
            found = disagreements(rack, each, document, tmp_path, tell)
            tell(f"plan: round {number} of {len(ROUNDS)}: {len(found)} disagreements")
            wrong += [f"round {number}: {line}" for line in found]
    finally:
        for host in (rack.head, rack.worker):
            rack.lab.ssh(host, f"rm -f {SECRET}")
        put_overrides(rack, {A: None, B: None, EMBED: None})
        rack.lab.deploy(timeout_s=1500)
    assert wrong == []
