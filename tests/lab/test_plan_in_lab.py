"""The plan on a rack that runs: what an operator and a script see of it before anything is changed."""

import json
from pathlib import Path

import pytest

from tests.conftest import DeployedRack
from tests.lab.lab import INVENTORY, Result, run
from tests.lab.test_deploy_again import changed_list, unit_starts


def make_plan(rack: DeployedRack, *arguments: str, inventory: str = INVENTORY) -> Result:
    command = ["make", "--no-print-directory", "plan", f"INVENTORY={inventory}", f"ARGS={' '.join(arguments)}"]
    return run(command, env=rack.lab.environment, timeout_s=120, check=False)


def test_a_rack_that_is_as_its_inputs_say_has_nothing_to_do(rack: DeployedRack, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    result = make_plan(rack, "--data", f"plan_file={file}")
    assert result.returncode == 0, result.stdout
    assert "\nplan: nothing to do\n" in result.stdout
    document = json.loads(file.read_text())
    assert document["outcome"] == "nothing"
    assert [(each["slug"], each["change"]) for each in document["models"]] == [
        ("tiny-a", "unchanged"),
        ("tiny-b", "unchanged"),
        ("tiny-embed", "unchanged"),
    ]
    assert [each["changes"] for each in document["hosts"]] == [[], []]


def test_the_plan_of_an_edit_names_the_model_the_field_and_the_time_without_it(
    rack: DeployedRack, tmp_path: Path
) -> None:
    file = tmp_path / "plan.json"
    before = unit_starts(rack)
    models = changed_list(tmp_path, "tiny-b", max_model_len=512)
    result = make_plan(rack, "--data", f"models_file={models}", "--data", f"plan_file={file}")
    assert result.returncode == 2, result.stdout
    assert "would change: Model serving | Model units match the model list (h1)" in result.stdout
    document = json.loads(file.read_text())
    changed = [each for each in document["models"] if each["change"] != "unchanged"]
    assert [(each["slug"], each["change"], each["why"]) for each in changed] == [
        ("tiny-b", "restart", ["max_model_len"])
    ]
    assert 5 < changed[0]["seconds_without"] < 600
    assert unit_starts(rack) == before


def test_the_models_files_on_the_hosts_tell_what_they_need(rack: DeployedRack, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    make_plan(rack, "--data", f"plan_file={file}")
    by_slug = {each["slug"]: each for each in json.loads(file.read_text())["models"]}
    memory = by_slug["tiny-a"]["memory"]
    assert memory["max_model_len"] == 1024
    assert memory["kv_cache_gib"] == pytest.approx(0.125)
    assert 0 < memory["weights_gib"] < 0.1


def test_a_dry_run_and_a_run_show_the_plan_before_pyinfra_s_own_changes(rack: DeployedRack) -> None:
    for arguments in (("--dry",), ("-y",)):
        shown = rack.lab.pyinfra("deploy/", *arguments).stdout
        assert 0 < shown.index("\nplan: nothing to do\n") < shown.index("Loading: deploy/10_host.py")


def test_what_a_limit_leaves_out_is_unknown(rack: DeployedRack, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    result = make_plan(rack, "--limit", "h2", "--data", f"plan_file={file}")
    assert result.returncode == 2, result.stdout
    assert "unknown: not looked at in this run" in result.stdout
    document = json.loads(file.read_text())
    assert document["outcome"] == "unknown"
    assert {each["change"] for each in document["models"]} == {"unknown"}
    assert [each["changes"] for each in document["hosts"]] == [None, []]


def test_a_list_that_cannot_be_placed_is_impossible_and_changes_nothing(rack: DeployedRack, tmp_path: Path) -> None:
    before = unit_starts(rack)
    models = changed_list(tmp_path, "tiny-a", min_replicas=7, max_replicas=7)
    result = make_plan(rack, "--data", f"models_file={models}")
    assert result.returncode == 1, result.stdout
    assert "min_replicas of all models need 18 CPUs, there are 16 on h1, h2" in result.stdout
    assert rack.lab.deploy("--data", f"models_file={models}", check=False).returncode == 1
    assert unit_starts(rack) == before


def test_a_host_that_does_not_answer_does_not_keep_the_plan_from_being_shown(
    rack: DeployedRack, tmp_path: Path
) -> None:
    inventory = tmp_path / "inventory.py"
    text = Path(INVENTORY).read_text()
    assert text.count('f"{_net}.12"') == 1
    inventory.write_text(text.replace('f"{_net}.12"', '"127.0.0.1", "ssh_port": 9'))
    result = make_plan(rack, inventory=str(inventory))
    assert result.returncode == 1, result.stdout
    assert result.stdout.index("\nplan: ") < result.stdout.index("h2: cannot be reached by SSH")
