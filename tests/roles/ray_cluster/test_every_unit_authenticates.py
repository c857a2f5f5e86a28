"""Unset, Ray decides by whether a token file happens to exist: so whatever has Ray's token also says that it counts."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PATH, MODE = "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"
UNITS = sorted(path for path in (ROOT / "templates").rglob("*.service.j2") if PATH in path.read_text())
# They read the file themselves, or name where the unit puts it, and start no Ray.
READERS = {"node_config.py", "model_host.py", "model_units.py"}


def test_the_units_with_a_token_are_the_nodes_and_the_models() -> None:
    assert [unit.name for unit in UNITS] == ["rayrack-model@.service.j2", "node.service.j2"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_with_a_token_switches_authentication_on(unit: Path) -> None:
    lines = unit.read_text().splitlines()
    assert f"Environment={MODE}=token" in lines
    assert f"Environment={PATH}=%d/ray.token" in lines
    assert "LoadCredential=ray.token:/etc/rayrack/secrets/ray.token" in lines


def test_no_program_takes_a_token_elsewhere_or_starts_ray_without_one() -> None:
    programs = sorted((ROOT / "roles").glob("*/host/**/*.py"))
    assert {program.name for program in programs if PATH in program.read_text()} == READERS
    starts_ray = [each.name for each in programs if re.search(r'"ray"\), "start"|ray\.init\(', each.read_text())]
    assert starts_ray == ["node_config.py"]


def test_nothing_switches_it_off() -> None:
    off = [
        path
        for folder in ("roles", "templates", "deploy", "inventories")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".j2", ".sh", ".yaml")
        if re.search(rf"{MODE}\W+(disabled|none|off)|unset {MODE}", path.read_text(), re.IGNORECASE)
    ]
    assert off == []
