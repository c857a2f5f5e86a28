"""What a plan says of each host: that it is what the roles will do, once they have put their files."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import node_config
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api.util import get_template

from roles.firewall.addresses import HostNetwork
from roles.firewall.rules import CONFIRMED, TEMPLATE, Rules
from roles.gateway import activation as gateway_activation
from roles.gateway import facts as gateway_facts
from roles.gateway import steps as gateway_steps
from roles.gateway.config import CONFIG_TEMPLATE, Gateway, GatewayConfig, GatewayModel
from roles.model_serving import steps as model_steps
from roles.nvidia_driver.info import DriverInfo
from roles.planner.changes import hosts as planner
from roles.planner.changes.hosts import (
    DriverInputs,
    HostChange,
    HostFound,
    HostInputs,
    Part,
    host_changes,
    nodes_down,
    stops_at_driver,
)
from roles.planner.changes.models import NodeDown
from roles.ray_cluster import activation
from roles.ray_cluster import steps as ray_steps
from roles.ray_cluster.activation import TARGET, UNITS, NodeState
from roles.ray_cluster.node import NodeConfig, Role
from roles.settings import Settings
from roles.unit_state import UnitState
from tests.roles.fake_host import changes as changes_on_a_fake_host
from tests.roles.nvidia_driver.hosts import FRESH, V, at_work, planned
from tests.roles.ray_cluster.test_steps import BLANK

RAY_ENV, UNIT_DIR = "/etc/rayrack/ray.env", "/etc/systemd/system"
DIGEST, OTHER_DIGEST = "0123456789abcdef", "fedcba9876543210"
RUNS = UnitState(active=True, enabled=True, file_changed=False, exists=True, start_s=20.0)
ABSENT = UnitState(active=False, enabled=False, file_changed=False, exists=False)
CONFIG = GatewayConfig(bind="*", port=8000, serve_port=8100, maxconn=500, max_body_kib=4032, metrics_port=9102)
GATEWAY = Gateway.of([GatewayModel("/v1", "a", "a")], CONFIG)
OTHER_GATEWAY = Gateway.of([GatewayModel("/v1", "a", "a"), GatewayModel("/v1", "b", "b")], CONFIG)


def node(role: Role, **settings: Any) -> NodeConfig:
    own = "10.0.0.1" if role == "head" else "10.0.0.2"
    return NodeConfig.from_settings(
        Settings(runtime="cpu", **settings), role=role, node_ip=own, head_ip="10.0.0.1", alone=False
    )


HEAD = HostInputs("gpu-01", node("head"), DIGEST, GATEWAY, start_order="")
WORKER = HostInputs("gpu-02", node("worker"), DIGEST)


def firewall(**peers: str) -> Rules:
    let_in = {name.replace("_", "-"): (address,) for name, address in peers.items()}
    return Rules.of(Settings(), HostNetwork(), let_in, [])


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def deployed(host: HostInputs) -> HostFound:
    """A host on which this has been deployed already and runs."""
    role = host.node.role
    files = {path: sha256(text) for path, text in planner._rendered_files(host).items()}
    programs = {f"{planner.LIB}/{name}": f"root:root 644 {digest}" for name, digest in planner._host_programs().items()}
    applied = {
        **{path: digest for path, digest in files.items() if path in (RAY_ENV, f"{UNIT_DIR}/{host.node.unit}")},
        **{path: line.split()[-1] for path, line in programs.items() if Path(path).stem in planner.NODE_PROGRAMS},
        "/etc/rayrack/ray.override.env": "absent",
        "Ray's token": "ab12",
        "/opt/rayrack/current": f"/opt/rayrack/runtime/{host.runtime_digest}",
    }
    gateway = None
    if host.gateway:
        gateway = gateway_activation.State(
            True, True, False, False, False, host.gateway.config_digest, host.gateway.unit_digest
        )
    return HostFound(
        node=NodeState({**dict.fromkeys(UNITS.values(), ABSENT), UNITS[role]: RUNS, TARGET: RUNS}, (), applied),
        programs=programs,
        files=files,
        runtime=host.runtime_digest,
        runtime_path=f"/opt/rayrack/runtime/{host.runtime_digest}",
        token="ab12",
        gateway=gateway,
    )


def told(host: HostInputs, found: HostFound | None) -> dict[Part, HostChange]:
    """What is said of this host, by part. Its head is as it was deployed."""
    hosts = [host] if host.node.role == "head" else [HEAD, host]
    all_found = {HEAD.name: deployed(HEAD), host.name: found}
    return {change.part: change for change in host_changes(hosts, all_found) if change.host == host.name}


def kinds(host: HostInputs, found: HostFound | None) -> dict[Part, str]:
    return {part: change.kind for part, change in told(host, found).items() if change.kind != "unchanged"}


def test_keys_and_certificates_are_told_by_their_names_and_interrupt_nothing() -> None:
    map_file, key_file = "/etc/rayrack/gateway/keys/declared.map", "/etc/rayrack/gateway/tls.pem.key"
    host = replace(HEAD, secrets={map_file: "root:g 640 new", key_file: "root:g 640 same"})
    before = replace(deployed(host), secrets={map_file: "root:g 640 old", key_file: "root:g 640 same"})
    assert told(host, before)["keys"] == HostChange("gpu-01", "keys", "write", (map_file,), seconds=0.0)
    assert told(host, replace(before, secrets=host.secrets))["keys"].kind == "unchanged"
    assert told(host, deployed(host))["keys"].inputs == (map_file, key_file)
    assert kinds(host, before) == {"keys": "write"}  # the gateway is told, and not reloaded


def test_a_certificate_that_comes_with_the_run_reloads_the_gateway() -> None:
    chain = gateway_facts.CERTIFICATE
    host = replace(HEAD, secrets={chain: "root:g 640 new"})
    before = replace(deployed(host), secrets={chain: "root:g 640 old"})
    assert kinds(host, before) == {"keys": "write", "gateway": "reload"}
    assert told(host, before)["gateway"].inputs == (chain,)


@pytest.mark.parametrize("host", [HEAD, WORKER], ids=["head", "worker"])
def test_a_host_that_has_it_all_already_is_unchanged_in_every_part(host: HostInputs) -> None:
    parts = {"files", "programs", "runtime", "node"} | ({"gateway"} if host is HEAD else set())
    assert kinds(host, deployed(host)) == {}
    assert set(told(host, deployed(host))) == parts


def test_a_host_that_was_not_looked_at_is_unknown_and_never_unchanged() -> None:
    assert kinds(WORKER, None) == {"host": "unknown"}
    assert {change.kind for change in host_changes([HEAD, WORKER], {})} == {"unknown"}


def test_a_node_of_which_systemd_tells_nothing_is_unknown() -> None:
    assert kinds(WORKER, replace(deployed(WORKER), node=NodeState({}, ()))) == {"node": "unknown"}


def test_a_plan_goes_to_json() -> None:
    (change,) = host_changes([WORKER], {})
    assert json.loads(json.dumps(asdict(change)))["kind"] == "unknown"


def test_a_blank_host_gets_everything_and_nothing_of_it_is_a_restart() -> None:
    nothing = NodeState(dict.fromkeys((*UNITS.values(), TARGET), ABSENT), ("no record of a start",))
    blank = gateway_activation.State(False, False, False, False, True, None, None)
    found = HostFound(nothing, {}, {}, runtime=None, runtime_path="/opt/rayrack/current", token=None, gateway=blank)
    started = {"node": "start", "gateway": "start"}
    assert kinds(HEAD, found) == {"files": "write", "programs": "install", "runtime": "install", **started}


def test_the_files_are_those_that_the_roles_put_there() -> None:
    put: dict[str, str] = {}
    for steps, arguments in (
        (ray_steps.install_head, {"node": HEAD.node}),
        (model_steps.install, {"models": ()}),
        (gateway_steps.install, {"models": GATEWAY.models, "gateway": CONFIG}),
    ):
        done: Any = changes_on_a_fake_host(steps, {**BLANK, "uname -s": "Linux"}, **arguments)
        put |= {path: text for change in done.values() for path, text in change.files.items()}
    put[gateway_activation.CONFIG] = put.pop(gateway_activation.CANDIDATE)
    ours = {path: text for path, text in put.items() if not path.startswith(("/opt/", "/tmp/"))}
    assert ours == planner._rendered_files(HEAD)


@given(st.builds(GatewayModel, st.just("/v1"), st.from_regex(r"[a-z0-9]{1,9}", fullmatch=True), st.just("a")))
def test_a_template_has_the_text_that_pyinfra_makes_of_it(model: GatewayModel) -> None:
    gateway = Gateway.of([model], CONFIG)
    assert planner.rendered(CONFIG_TEMPLATE, gateway=gateway) == get_template(CONFIG_TEMPLATE).render(gateway=gateway)


def test_a_host_that_is_to_be_let_in_is_a_change_of_the_firewall_that_cuts_nobody_off() -> None:
    rules = firewall(gpu_01="10.0.0.1")
    digest = sha256(planner.rendered(TEMPLATE, rules=rules))
    found = replace(deployed(WORKER), files={**deployed(WORKER).files, CONFIRMED: digest})
    assert told(replace(WORKER, firewall=rules), found)["firewall"].kind == "unchanged"
    more = replace(WORKER, firewall=firewall(gpu_01="10.0.0.1", gpu_02="10.0.0.2"))
    assert kinds(more, found) == {"firewall": "reload"}
    assert told(more, found)["firewall"].seconds == 0
    assert nodes_down([HEAD, more], host_changes([HEAD, more], {HEAD.name: deployed(HEAD), more.name: found})) == ()


def test_a_host_without_a_firewall_gets_one() -> None:
    assert kinds(replace(WORKER, firewall=firewall()), deployed(WORKER)) == {"firewall": "start"}


@pytest.mark.parametrize("host", [HEAD, WORKER], ids=["head", "worker"])
def test_the_inputs_of_a_node_are_those_that_the_node_writes_down(host: HostInputs, tmp_path: Path) -> None:
    digests = {path: sha256(text) for path, text in planner._rendered_files(host).items()}
    known = planner._node_inputs(host, deployed(host), digests, token="ab12")
    assert known == deployed(host).node.applied
    assert set(known) == set(node_config.fingerprint(host.node.role, tmp_path / "ray.token"))


@pytest.mark.parametrize(
    "setting",
    [
        {"num_cpus": 4},
        {"object_store_memory_mib": 300},
        {"gpus": 2, "runtime": "cuda"},
        {"gcs_port": 6400},
        {"ray_temp_dir": "/var/lib/rayrack/ray"},
        {"worker_ports": "21000-21999"},
    ],
    ids=str,
)
def test_a_setting_of_ray_restarts_the_node_for_as_long_as_it_took_to_start(setting: dict[str, Any]) -> None:
    new = replace(WORKER, node=node("worker", **setting) if "runtime" not in setting else cuda_worker())
    change = told(new, deployed(WORKER))["node"]
    assert change.kind == "restart"
    assert RAY_ENV in change.inputs
    assert change.seconds == 20 + planner.NODE_STOP_S


def cuda_worker() -> NodeConfig:
    return NodeConfig.from_settings(
        Settings(runtime="cuda", gpus=2), role="worker", node_ip="10.0.0.2", head_ip="10.0.0.1", alone=False
    )


def test_a_limit_in_the_unit_file_alone_restarts_it_too() -> None:
    change = told(replace(WORKER, node=node("worker", limit_nofile=65536)), deployed(WORKER))["node"]
    assert (change.kind, change.inputs) == ("restart", (f"{UNIT_DIR}/rayrack-worker.service",))


def test_a_node_that_takes_unknown_time_to_start_is_away_for_an_unknown_time() -> None:
    found = deployed(WORKER)
    units = {**found.node.units, UNITS["worker"]: replace(RUNS, start_s=None)}
    changed = replace(WORKER, node=node("worker", num_cpus=4))
    assert told(changed, replace(found, node=replace(found.node, units=units)))["node"].seconds is None


def test_an_override_that_was_not_applied_yet_restarts_the_node() -> None:
    found = deployed(WORKER)
    late = replace(found, files={**found.files, "/etc/rayrack/ray.override.env": "new"})
    assert told(WORKER, late)["node"].inputs == ("/etc/rayrack/ray.override.env",)


def test_what_was_changed_by_hand_and_is_put_right_by_this_run_restarts_nothing() -> None:
    found = deployed(WORKER)
    by_hand = replace(found, files={**found.files, RAY_ENV: "other"})
    assert kinds(WORKER, by_hand) == {"files": "write"}


def test_a_program_of_the_node_restarts_it_and_any_other_does_not() -> None:
    found = deployed(WORKER)
    ray_node, clean_ray = (f"{planner.LIB}/{name}.py" for name in ("ray_node", "clean_ray"))
    applied = {**(found.node.applied or {}), ray_node: "old"}
    old = replace(found, programs={**found.programs, ray_node: "root:root 755 old"}, node=with_applied(found, applied))
    assert kinds(WORKER, old) == {"programs": "install", "node": "restart"}
    old = replace(found, programs={**found.programs, clean_ray: "root:root 755 old"})
    assert kinds(WORKER, old) == {"programs": "install"}
    assert told(WORKER, old)["programs"].inputs == (clean_ray,)


def with_applied(found: HostFound, applied: dict[str, str]) -> NodeState:
    return replace(found.node, applied=applied)


def test_a_new_runtime_is_installed_and_restarts_the_node() -> None:
    new = replace(WORKER, runtime_digest=OTHER_DIGEST)
    assert kinds(new, deployed(WORKER)) == {"runtime": "install", "node": "restart"}
    assert told(new, deployed(WORKER))["node"].inputs == ("/opt/rayrack/current",)


def test_a_runtime_that_was_rolled_back_by_hand_and_is_put_back_restarts_nothing() -> None:
    rolled_back = replace(deployed(WORKER), runtime=OTHER_DIGEST, runtime_path=f"/opt/rayrack/runtime/{OTHER_DIGEST}")
    assert kinds(WORKER, rolled_back) == {"runtime": "install"}


def test_runtimes_on_another_disk_are_where_the_host_says() -> None:
    found = deployed(WORKER)
    path = f"/data/rayrack/runtime/{DIGEST}"
    linked = replace(
        found, runtime_path=path, node=with_applied(found, {**(found.node.applied or {}), "/opt/rayrack/current": path})
    )
    assert kinds(WORKER, linked) == {}
    assert kinds(replace(WORKER, runtime_digest=OTHER_DIGEST), linked)["node"] == "restart"


def test_a_node_without_a_record_of_its_start_is_started_anew() -> None:
    found = deployed(WORKER)
    lost = replace(found, node=replace(found.node, applied=None, outdated=("no record of a start",)))
    change = told(WORKER, lost)["node"]
    assert (change.kind, change.inputs) == ("restart", ("no record of a start",))


def test_a_worker_gets_its_heads_token_and_restarts_with_it() -> None:
    found = deployed(WORKER)
    other = replace(found, node=replace(found.node, applied={**(found.node.applied or {}), "Ray's token": "cd34"}))
    assert told(WORKER, other)["node"].inputs == ("Ray's token",)


def test_a_new_token_restarts_every_node_and_tells_for_how_long() -> None:
    found = {each.name: deployed(each) for each in (HEAD, WORKER)}
    changes = host_changes([HEAD, WORKER], found, new_token=True)
    nodes = [change for change in changes if change.part == "node"]
    assert [(node.host, node.kind, node.inputs, node.seconds) for node in nodes] == [
        (each.name, "restart", ("Ray's token",), 30.0) for each in (HEAD, WORKER)
    ]
    assert {change.kind for change in changes if change.part != "node"} == {"unchanged"}
    assert [node.is_head for node in nodes_down([HEAD, WORKER], changes)] == [True, False]


def test_a_host_that_changes_its_role_restarts() -> None:
    was_head = deployed(replace(HEAD, name="gpu-02"))
    found = replace(was_head, node=replace(was_head.node, applied=None))
    assert told(WORKER, found)["node"].kind == "restart"


@given(
    st.fixed_dictionaries({name: st.booleans() for name in ("active", "enabled", "file_changed")}),
    st.lists(st.sampled_from([RAY_ENV, "/etc/rayrack/ray.override.env"]), unique=True),
)
def test_a_node_restarts_in_the_plan_when_it_does_in_the_run(unit: dict[str, bool], outdated: list[str]) -> None:
    """Where the files are there already, what the run finds is what the plan has found."""
    found = deployed(WORKER)
    applied = {**(found.node.applied or {}), **dict.fromkeys(outdated, "old")}
    units = {**found.node.units, UNITS["worker"]: replace(RUNS, **unit)}
    state = NodeState(units, tuple(outdated), applied)
    commands = list(activation.commands(state, "worker"))
    will = any("systemctl restart" in command for command in commands)
    assert (told(WORKER, replace(found, node=state))["node"].kind != "unchanged") is will


def test_a_head_that_restarts_restarts_the_nodes_of_its_workers() -> None:
    new = replace(HEAD, node=node("head", num_cpus=4))
    found: dict[str, HostFound | None] = {"gpu-01": deployed(HEAD), "gpu-02": deployed(WORKER)}
    changes = host_changes([new, WORKER], found)
    (worker,) = (change for change in changes if (change.host, change.part) == ("gpu-02", "node"))
    assert (worker.kind, worker.why) == ("restart", "the head starts a new cluster")
    assert nodes_down([new, WORKER], changes) == (
        NodeDown("gpu-01", "10.0.0.1", is_head=True, seconds=30.0),
        NodeDown("gpu-02", "10.0.0.2", is_head=False, seconds=30.0),
    )


def test_a_worker_that_restarts_leaves_its_head_alone() -> None:
    new = replace(WORKER, node=node("worker", num_cpus=4))
    changes = host_changes([HEAD, new], {"gpu-01": deployed(HEAD), "gpu-02": deployed(WORKER)})
    assert [down.host for down in nodes_down([HEAD, new], changes)] == ["gpu-02"]


def test_nothing_goes_down_where_nothing_changes_or_nothing_is_known() -> None:
    found: dict[str, HostFound | None] = {"gpu-01": deployed(HEAD), "gpu-02": None}
    assert nodes_down([HEAD, WORKER], host_changes([HEAD, WORKER], found)) == ()


def test_another_list_of_models_reloads_the_gateway() -> None:
    new = replace(HEAD, gateway=OTHER_GATEWAY)
    assert kinds(new, deployed(HEAD)) == {"files": "write", "gateway": "reload"}
    assert told(new, deployed(HEAD))["gateway"].seconds == 0.0


GATEWAYS = st.builds(
    gateway_activation.State,
    *[st.booleans()] * 5,
    st.sampled_from([None, "old", GATEWAY.config_digest]),
    st.sampled_from([None, "old", GATEWAY.unit_digest]),
)


@given(GATEWAYS)
def test_the_gateway_does_in_the_plan_what_it_does_in_the_run(state: gateway_activation.State) -> None:
    """Where the files are there already, but for a candidate that an interrupted run has left."""
    found = deployed(HEAD)
    files = {**found.files, **({gateway_activation.CONFIG: "old"} if state.candidate_differs else {})}
    kind = told(HEAD, replace(found, gateway=state, files=files))["gateway"].kind
    commands = " ".join(gateway_activation.commands(state, GATEWAY))
    verbs = [verb for verb in ("restart", "reload") if f"systemctl {verb} " in commands]
    assert [kind] == (verbs or ["unchanged"] if state.active else ["start"])


def driven(info: DriverInfo, *, allow_reboot: bool) -> HostInputs:
    return replace(WORKER, driver=DriverInputs(planned(info), info, allow_reboot))


def test_a_driver_that_is_loaded_is_unchanged() -> None:
    assert kinds(driven(at_work(), allow_reboot=False), deployed(WORKER)) == {}


def test_a_driver_on_a_fresh_host_is_installed_without_a_reboot() -> None:
    assert kinds(driven(FRESH, allow_reboot=False), deployed(WORKER)) == {"driver": "install"}


def test_another_driver_reboots_the_host_and_takes_its_node_down() -> None:
    host = driven(at_work("570.86.10"), allow_reboot=True)
    assert kinds(host, deployed(WORKER)) == {"driver": "reboot", "node": "restart"}
    changes = host_changes([host], {"gpu-02": deployed(WORKER)})
    assert changes[0].why == f"driver 570.86.10 is loaded and {V} is wanted"
    assert nodes_down([host], changes) == (NodeDown("gpu-02", "10.0.0.2", is_head=False, seconds=None),)


def test_a_reboot_that_is_not_allowed_keeps_the_rest_from_the_host() -> None:
    host = driven(at_work("570.86.10"), allow_reboot=False)
    assert kinds(replace(host, runtime_digest=OTHER_DIGEST), deployed(WORKER)) == {"driver": "blocked"}
    assert "set allow_reboot" in told(host, deployed(WORKER))["driver"].why
    changes = host_changes([host], {"gpu-02": deployed(WORKER)})
    assert stops_at_driver("gpu-02", changes)
    assert not stops_at_driver("gpu-01", changes)
    assert nodes_down([host], host_changes([host], {"gpu-02": deployed(WORKER)})) == ()


def test_a_head_that_reboots_restarts_its_gateway() -> None:
    host = replace(HEAD, driver=DriverInputs(planned(), replace(FRESH, nouveau=True), allow_reboot=True))
    assert kinds(host, deployed(HEAD)) == {"driver": "reboot", "node": "restart", "gateway": "restart"}


def test_every_part_of_a_host_is_looked_for_in_the_paths_that_are_asked_for() -> None:
    override = "/etc/rayrack/ray.override.env"
    assert set(planner.paths(HEAD)) == {*deployed(HEAD).files, override, CONFIRMED}
    units = {f"{UNIT_DIR}/rayrack-worker.service", f"{UNIT_DIR}/{TARGET}"}
    assert set(planner.paths(WORKER)) == {RAY_ENV, override, CONFIRMED, *units}
