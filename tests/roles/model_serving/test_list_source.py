"""Where the model list comes from, and which place wins."""

from pathlib import Path

import pytest
from pyinfra.api import Inventory

from roles.errors import InputError
from roles.model_serving.list_source import Source, choose_source

BOTH = {"MODELS_CONFIG": '[{"model_id": "a"}]', "MODEL_ID": "b"}


def refusal(data_override: object, inventory_file: object, environ: dict[str, str]) -> str:
    with pytest.raises(InputError) as caught:
        choose_source(data_override, inventory_file, environ)
    (line,) = caught.value.problems
    return line


def test_the_command_line_wins_over_everything() -> None:
    assert choose_source("cli.yaml", "inventory.yaml", BOTH) == Source("file", "cli.yaml")
    assert choose_source("cli.yaml", None, BOTH) == Source("file", "cli.yaml")


def test_then_comes_the_inventory() -> None:
    assert choose_source(None, "inventory.yaml", {}) == Source("file", "inventory.yaml")


def test_then_the_variable_with_a_list_and_then_the_one_with_a_name() -> None:
    assert choose_source(None, None, BOTH) == Source("array", "MODELS_CONFIG", '[{"model_id": "a"}]')
    assert choose_source(None, None, {"MODEL_ID": "b"}) == Source("single", "MODEL_ID", "b")


@pytest.mark.parametrize("variable", ["MODELS_CONFIG", "MODEL_ID"])
def test_a_variable_beside_the_inventorys_list_stops_the_run(variable: str) -> None:
    assert refusal(None, "prod.yaml", {variable: "x"}) == (
        f"{variable}: set in the environment while the inventory's models_file is prod.yaml: "
        f"unset {variable}, or choose the list with --data models_file=..."
    )
    assert "unset MODELS_CONFIG MODEL_ID," in refusal(None, "prod.yaml", BOTH)


def test_an_empty_variable_is_no_variable() -> None:
    assert choose_source(None, "prod.yaml", {"MODELS_CONFIG": "", "MODEL_ID": " \n"}) == Source("file", "prod.yaml")
    assert choose_source(None, None, {"MODELS_CONFIG": "", "MODEL_ID": "b"}) == Source("single", "MODEL_ID", "b")


def test_no_list_anywhere_is_told_with_all_the_places() -> None:
    line = refusal(None, None, {})
    assert all(place in line for place in ("inventory", "--data models_file=", "MODELS_CONFIG", "MODEL_ID"))


@pytest.mark.parametrize("value", [1, True, ["a"], {}, "", " ", "a\0b"])
def test_a_models_file_that_is_no_path_is_refused(value: object) -> None:
    assert refusal(value, None, {}).startswith("--data models_file: must be the path of a model list, not ")
    assert refusal(None, value, {}).startswith("models_file: must be the path of a model list, not ")


def test_pyinfra_tells_the_command_line_from_the_inventory() -> None:
    inventory = Inventory(
        (["gpu-01"], {"models_file": "all.yaml"}),
        override_data={"models_file": "cli.yaml"},
        rack=(["gpu-01"], {"models_file": "rack.yaml"}),
    )
    host = inventory.get_host("gpu-01")
    own = {**host.inventory.get_data(), **host.group_data, **host.host_data}
    assert host.inventory.get_override_data().get("models_file") == "cli.yaml"
    assert own.get("models_file") == "rack.yaml"


def test_an_error_names_the_value_as_it_stands_in_its_place() -> None:
    path = ("models", 2, "env", "A")
    assert Source("file", "models/lab.yaml").where(path) == "models/lab.yaml: models[2].env.A"
    assert Source("array", "MODELS_CONFIG").where(path) == "MODELS_CONFIG: [2].env.A"
    assert Source("single", "MODEL_ID").where(("models", 0, "model_id")) == "MODEL_ID"
    assert Source("single", "MODEL_ID").where(("models", 0, "slug")) == "MODEL_ID: slug"


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, reason in (("missing.yaml", "No such file or directory"), (".", "Is a directory")):
        with pytest.raises(InputError) as caught:
            Source("file", name).raw()
        assert str(caught.value) == f"{name}: cannot read the model list: {reason} (looked for it from {tmp_path})"


def test_only_the_beginning_of_a_huge_file_is_read() -> None:
    assert len(Source("file", "/dev/zero").raw()) == 256 * 1024 + 1
