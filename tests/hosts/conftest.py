"""Which inventory is checked, and a test per host, unit, path and model of it.

Without ``--inventory`` nothing here is collected, so that a plain ``pytest`` never touches a rack.
"""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest

from deploy.inputs.gpu_gate import applies
from roles.errors import InputError
from roles.model_serving.model import Model
from tests.hosts.expected import paths_of, units_of
from tests.hosts.reach import CheckedHost, CheckedRack, open_rack

CHECKED = pytest.StashKey[CheckedRack]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("rayrack")
    group.addoption("--inventory", help="check the hosts of this inventory (inventories/prod.py)")
    group.addoption(
        "--data", action="append", default=[], metavar="KEY=VALUE", help="override a setting, as pyinfra's --data does"
    )


def pytest_configure(config: pytest.Config) -> None:
    inventory = config.getoption("--inventory", default=None)
    if not inventory:
        return
    rack = ExitStack()
    config.add_cleanup(rack.close)
    try:
        config.stash[CHECKED] = rack.enter_context(open_rack(inventory, config.getoption("--data"), os.environ))
    except InputError as error:
        raise pytest.UsageError("\n".join(error.problems)) from None


def pytest_report_header(config: pytest.Config) -> str | None:
    if CHECKED not in config.stash:
        return "tests/hosts: not collected; it needs --inventory (make verify INVENTORY=inventories/prod.py)"
    rack = config.stash[CHECKED].rack
    return f"rack: {len(rack.hosts)} hosts, {len(rack.models)} models of {rack.models_source.name}"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return None if CHECKED in config.stash else True


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    checked = metafunc.config.stash[CHECKED]
    wanted = set(metafunc.fixturenames)
    if "head" in wanted and "host" not in wanted:
        metafunc.parametrize("head", [checked.head], ids=str)
    if "gpu_host" in wanted:
        metafunc.parametrize("gpu_host", [each for each in checked.hosts if applies(each.rack_host.settings)], ids=str)
    if "gateway_host" in wanted:
        metafunc.parametrize("gateway_host", [each for each in checked.hosts if each.rack_host.has_gateway], ids=str)
    # One test per host and thing, with both in its name: `test_unit_is_active[gpu-02-rayrack-worker]`.
    models = checked.rack.models
    if "unit" in wanted:
        units = [(host, unit) for host in checked.hosts for unit in units_of(host.rack_host, models)]
        names = [f"{host}-{unit.removesuffix('.service')}" for host, unit in units]
        metafunc.parametrize(("host", "unit"), units, ids=names, indirect=["host"])
    elif "path" in wanted:
        paths = [(host, path) for host in checked.hosts for path in paths_of(host.rack_host, models)]
        metafunc.parametrize(("host", "path"), paths, ids=[f"{host}-{path}" for host, path in paths], indirect=["host"])
    elif "host" in wanted:
        metafunc.parametrize("host", checked.hosts, ids=str, indirect=True)
    if "model" in wanted:
        metafunc.parametrize("model", models, ids=[model.slug for model in models])


@pytest.fixture
def host(request: pytest.FixtureRequest) -> CheckedHost:
    """One host of the inventory. It replaces testinfra's fixture of this name, which knows no pyinfra inventory."""
    return cast(CheckedHost, request.param)


@pytest.fixture
def checked(pytestconfig: pytest.Config) -> CheckedRack:
    """The whole rack that is checked."""
    return pytestconfig.stash[CHECKED]


@pytest.fixture
def head(checked: CheckedRack) -> CheckedHost:
    """The head of the rack."""
    return checked.head


@pytest.fixture
def models(checked: CheckedRack) -> tuple[Model, ...]:
    """The models of the list."""
    return checked.rack.models
