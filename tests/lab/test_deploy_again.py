"""A deploy on a rack that is already deployed: it changes what was changed in the inputs, and nothing else notices."""

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.conftest import DeployedRack
from tests.lab.entrance import open_gateway
from tests.lab.lab import ROOT, Result

MODELS = ROOT / "inventories/models/lab.yaml"


def changes(result: Result) -> set[str]:
    """The operations that changed something, from pyinfra's table of results."""
    table = result.stdout.split("--> Results:")[1]
    rows = re.findall(r"^ +(\S.*?) {2,}\d+ +(\d+|-) +(\d+|-) +(?:\d+|-) *$", table, re.MULTILINE)
    return {name for name, success, error in rows if (success, error) != ("-", "-") and name != "Grand total"}


def replicas(rack: DeployedRack) -> dict[str, set[str]]:
    """The ids of each model's replicas."""
    token = '-H "Authorization: Bearer $(cat /etc/rayrack/secrets/ray.token)"'
    applications = json.loads(
        rack.lab.read(rack.head, f"curl -s {token} http://127.0.0.1:8265/api/serve/applications/")
    )["applications"]
    return {
        name.removeprefix("m-"): {
            replica["replica_id"]
            for deployment in application["deployments"].values()
            for replica in deployment["replicas"]
        }
        for name, application in applications.items()
    }


def unit_starts(rack: DeployedRack) -> set[tuple[str, str]]:
    """When each unit of rayrack's was started, on both hosts; those of a timer come and go, and are never active."""
    show = "systemctl show -p Id,ActiveEnterTimestampMonotonic 'rayrack-*'"
    found = {(host, unit) for host in (rack.head, rack.worker) for unit in rack.lab.read(host, show).split("\n\n")}
    return {(host, unit) for host, unit in found if not unit.endswith("Monotonic=0")}


def test_a_second_deploy_changes_nothing(rack: DeployedRack) -> None:
    before = unit_starts(rack), replicas(rack)
    assert changes(rack.lab.deploy()) == set()
    assert (unit_starts(rack), replicas(rack)) == before


def test_a_deploy_takes_back_the_key_that_it_has_asked_with(rack: DeployedRack) -> None:
    maps = "cd /etc/rayrack/gateway/keys && sha256sum *.map"
    before = rack.lab.read(rack.head, maps)
    result = rack.lab.deploy()
    assert "no API key yet" not in result.stdout
    assert rack.lab.read(rack.head, maps) == before


def test_a_rack_without_a_key_says_how_to_make_one_and_that_works(rack: DeployedRack) -> None:
    # Every key: a demo may have left its own, which is made anew when it is shown again.
    names = "sed 's/^[^ ]* //; s/|.*//' /etc/rayrack/gateway/keys/made.map"
    rack.lab.ssh(rack.head, f"for name in $({names}); do /opt/rayrack/bin/api_keys revoke $name; done")
    try:
        result = rack.lab.deploy()
        assert changes(result) == set()
        (line,) = re.findall(r"^ *no API key yet: (ssh .+)$", result.stdout, re.MULTILINE)
        known_hosts = f"-o UserKnownHostsFile={rack.lab.directory}/known_hosts"
        command = line.replace("ssh ", f"ssh {known_hosts} ", 1).replace("NAME", "first")
        made = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True).stdout
        first = replace(rack.entrance, key=made.strip())
        assert {model.id for model in first.client().models.list()} == {"tiny-a", "tiny-b", "tiny-embed"}
    finally:
        rack.lab.ssh(rack.head, "/opt/rayrack/bin/api_keys revoke first", check=False)
        open_gateway(rack.lab, again=True)


def test_a_ray_address_in_the_environment_changes_nothing(rack: DeployedRack) -> None:
    rack.lab.ssh(rack.head, "echo RAY_ADDRESS=192.0.2.1:6379 >>/etc/environment")
    try:
        result = rack.lab.pyinfra("deploy/", "-y", env={"RAY_ADDRESS": "192.0.2.1:6379"})
    finally:
        rack.lab.ssh(rack.head, "sed -i /^RAY_ADDRESS/d /etc/environment")
    assert changes(result) == set()


def test_an_ordinary_user_with_sudo_deploys_as_well_as_root(rack: DeployedRack) -> None:
    assert changes(rack.lab.deploy("--ssh-user", "ops")) == set()


def test_dry_shows_a_change_and_makes_none(rack: DeployedRack, tmp_path: Path) -> None:
    models = changed_list(tmp_path, "tiny-b", target_ongoing_requests=5)
    result = rack.lab.pyinfra("deploy/", "--dry", "--data", f"models_file={models}")
    assert re.search(r"Model units match the model list +1 ", result.stdout)
    assert rack.lab.read(rack.head, "grep TARGET_ONGOING /etc/rayrack/models/tiny-b.env").endswith("'8'")


def test_a_change_of_replica_numbers_reloads_that_model_in_place(rack: DeployedRack, tmp_path: Path) -> None:
    before = replicas(rack)
    models = changed_list(tmp_path, "tiny-b", target_ongoing_requests=5)
    try:
        assert changes(rack.lab.deploy("--data", f"models_file={models}")) == {
            "Model serving | Model units match the model list"
        }
        assert replicas(rack) == before
    finally:
        rack.lab.deploy()


def test_a_change_of_one_models_environment_restarts_that_model_only(rack: DeployedRack, tmp_path: Path) -> None:
    before = replicas(rack)
    models = changed_list(tmp_path, "tiny-b", env={"VLLM_CPU_KVCACHE_SPACE": "1", "SOME_VARIABLE": "new"})
    rack.lab.deploy("--data", f"models_file={models}")
    after = replicas(rack)
    assert not after["tiny-b"] & before["tiny-b"]
    assert (after["tiny-a"], after["tiny-embed"]) == (before["tiny-a"], before["tiny-embed"])
    assert rack.client().completions.create(model="tiny-b", prompt="x", max_tokens=2).choices[0].text


def test_a_model_taken_off_the_list_is_stopped_and_leaves_nothing(rack: DeployedRack, tmp_path: Path) -> None:
    before = replicas(rack)
    document = yaml.safe_load(MODELS.read_text())
    document["models"] = [model for model in document["models"] if model["model_id"] != "tiny-b"]
    models = tmp_path / "without.yaml"
    models.write_text(yaml.safe_dump(document))
    rack.lab.deploy("--data", f"models_file={models}")
    after = replicas(rack)
    assert "tiny-b" not in after
    assert (after["tiny-a"], after["tiny-embed"]) == (before["tiny-a"], before["tiny-embed"])
    assert rack.lab.read(
        rack.head, "ls /etc/rayrack/models; systemctl list-units --all --plain '*tiny-b*' --no-legend"
    ).split() == [
        "tiny-a.env",
        "tiny-embed.env",
    ]
    assert {model.id for model in rack.client().models.list()} == {"tiny-a", "tiny-embed"}
    rack.lab.deploy()
    assert {model.id for model in rack.client().models.list()} == {"tiny-a", "tiny-b", "tiny-embed"}


@pytest.mark.long
def test_a_rebooted_rack_serves_again_by_itself(rack: DeployedRack) -> None:
    rack.lab.reboot(rack.worker)
    rack.lab.reboot(rack.head)
    rack.lab.ssh(rack.head, "timeout 500 /opt/rayrack/bin/model_units wait tiny-a tiny-b tiny-embed", timeout_s=520)
    assert rack.client().completions.create(model="tiny-a", prompt="x", max_tokens=2).choices[0].text
    assert changes(rack.lab.deploy()) == set()


def changed_list(directory: Path, model_id: str, **fields: object) -> Path:
    """The lab's model list with other values for one model."""
    document = yaml.safe_load(MODELS.read_text())
    (model,) = (model for model in document["models"] if model["model_id"] == model_id)
    model.update(fields)
    path = directory / "changed.yaml"
    path.write_text(yaml.safe_dump(document))
    return path
