"""The rack that a run is about: what an inventory must say, and every mistake in it as one line."""

from pathlib import Path

import pytest
from pyinfra.api.inventory import Inventory

from deploy.inputs.rack import load_rack, settings_of
from roles.errors import InputError

HostEntry = str | tuple[str, dict[str, object]]
ONE_MODEL = "models: [{model_id: tiny, accelerator_type: cpu}]\n"


@pytest.fixture
def models_file(tmp_path: Path) -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(ONE_MODEL)
    return path


def inventory_of(override_data: dict[str, object] | None = None, **groups: list[HostEntry]) -> Inventory:
    """An inventory as pyinfra makes it from a file with these groups."""
    entries = {entry[0]: entry for group in groups.values() for entry in map(_with_data, group)}
    names = {
        name: ([entry if isinstance(entry, str) else entry[0] for entry in group], {}) for name, group in groups.items()
    }
    return Inventory((list(entries.values()), {}), override_data=override_data, **names)


def _with_data(entry: HostEntry) -> tuple[str, dict[str, object]]:
    return (entry, {}) if isinstance(entry, str) else entry


def problems_of(inventory: Inventory, environ: dict[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        load_rack(inventory, environ or {})
    return caught.value.problems


def test_a_head_and_its_workers_make_a_rack(models_file: Path) -> None:
    inventory = inventory_of(head=[("a", {"gpus": 2, "models_file": str(models_file)})], workers=["b", "c"])
    rack = load_rack(inventory, {})
    assert [(host.name, host.is_head, host.settings.gpus) for host in rack.hosts] == [
        ("a", True, 2),
        ("b", False, 0),
        ("c", False, 0),
    ]
    assert rack.head.name == "a"
    assert [model.model_id for model in rack.models] == ["tiny"]


def test_a_head_alone_is_a_rack() -> None:
    rack = load_rack(inventory_of(head=["a"]), {"MODEL_ID": "org/one"})
    assert [model.slug for model in rack.models] == ["org-one"]


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ({"workers": ["a"]}, "inventory: the group `head` must hold exactly one host, it holds none"),
        ({"head": ["a", "b"]}, "inventory: the group `head` must hold exactly one host, it holds a, b"),
        (
            {"head": ["a"], "workers": ["a"]},
            "inventory: a is in `head` and in `workers`: leave it in `head`, a head serves models, too",
        ),
        (
            {"head": ["a"], "others": ["b"]},
            "inventory: b is in neither of the groups `head` and `workers`: put it into one",
        ),
    ],
)
def test_wrong_groups_are_named(groups: dict[str, list[HostEntry]], expected: str) -> None:
    assert problems_of(inventory_of(**groups), {"MODEL_ID": "m"}) == (expected,)


def test_every_wrong_setting_of_every_host_is_told_at_once() -> None:
    inventory = inventory_of(head=[("a", {"gatway_port": 1})], workers=[("b", {"gpus": -1, "node_ip": "nonsense"})])
    assert set(problems_of(inventory, {"MODEL_ID": "m"})) == {
        "a: gatway_port: unknown field; did you mean `gateway_port`?",
        'b: node_ip: must be an IPv4 or IPv6 address, not "nonsense"',
        "b: gpus: must be at least 0, not -1",
    }


@pytest.mark.parametrize(
    ("setting", "one", "other"),
    [
        ("gcs_port", 6379, 6400),
        ("cache_dir", "/var/cache/rayrack", "/data/cache"),
        ("direct_ingress_ports", "30000-30999", "31000-31999"),
    ],
)
def test_what_hosts_meet_each_other_with_is_the_same_on_all(setting: str, one: object, other: object) -> None:
    inventory = inventory_of(head=["a"], workers=["b", ("c", {setting: other})])
    assert problems_of(inventory, {"MODEL_ID": "m"}) == (
        f"inventory: {setting} must be the same on all hosts, it is {one} on a, b; {other} on c: set it once for all "
        "of them",
    )


def test_what_a_host_has_for_itself_may_differ() -> None:
    own = {"ray_temp_dir": "/data/ray", "weights_dir": "/data/models", "metrics_port": 7000, "runtime": "cpu"}
    assert len(load_rack(inventory_of(head=["a"], workers=[("b", own)]), {"MODEL_ID": "m"}).hosts) == 2


def test_each_host_has_an_address_of_its_own() -> None:
    inventory = inventory_of(head=[("a", {"node_ip": "10.0.0.1"})], workers=[("b", {"node_ip": "10.0.0.1"}), "c"])
    assert problems_of(inventory, {"MODEL_ID": "m"}) == (
        "inventory: node_ip 10.0.0.1 is set for a, b: each host needs an address of its own",
    )


def test_loopback_is_an_address_for_a_head_alone() -> None:
    head: list[HostEntry] = [("a", {"node_ip": "127.0.0.1"})]
    assert load_rack(inventory_of(head=head), {"MODEL_ID": "m"}).head.settings.node_ip == "127.0.0.1"
    assert problems_of(inventory_of(head=head, workers=["b"]), {"MODEL_ID": "m"}) == (
        "a: node_ip: 127.0.0.1 is loopback, where no other host reaches it; set the host's own address",
    )


def test_a_rotation_of_the_token_belongs_to_one_run_and_not_into_the_inventory() -> None:
    (problem,) = problems_of(inventory_of(head=[("a", {"rotate_ray_token": True})]), {"MODEL_ID": "x"})
    assert problem.startswith(
        "a: rotate_ray_token: in the inventory it would make a new token at every run: take it out"
    )
    once = load_rack(inventory_of({"rotate_ray_token": True}, head=["a"]), {"MODEL_ID": "x"})
    assert once.head.settings.rotate_ray_token


def test_ports_that_clash_are_named() -> None:
    with pytest.raises(InputError) as caught:
        settings_of("gpu-01", {"gateway_port": 8100})
    assert caught.value.problems == ("gpu-01: gateway_port: is 8100, and so is serve_port",)


def test_what_belongs_to_pyinfra_is_left_alone() -> None:
    assert settings_of("a", {"ssh_user": "ops", "ssh_port": 2222, "_sudo": True}).gpus == 0


def test_a_list_given_with_data_outweighs_the_inventory_and_a_variable(models_file: Path) -> None:
    inventory = inventory_of({"models_file": str(models_file)}, head=[("a", {"models_file": "missing.yaml"})])
    assert [model.model_id for model in load_rack(inventory, {"MODEL_ID": "other"}).models] == ["tiny"]


def test_a_variable_beside_the_inventorys_list_stops_the_run(models_file: Path) -> None:
    inventory = inventory_of(head=[("a", {"models_file": str(models_file)})])
    (problem,) = problems_of(inventory, {"MODELS_CONFIG": "[]"})
    assert problem.startswith("MODELS_CONFIG: set in the environment while the inventory's models_file is ")


def test_removing_every_model_must_be_said() -> None:
    (problem,) = problems_of(inventory_of(head=["a"]), {"MODELS_CONFIG": "[]"})
    assert "--data remove_all=true" in problem
    assert load_rack(inventory_of({"remove_all": True}, head=["a"]), {"MODELS_CONFIG": "[]"}).models == ()
