"""The disposable hosts for tests: `lab` is two blank ones, `rack` the same two with everything deployed.

One lab, one runtime installation and one Ray cluster serve a whole run. Tests that use them are lab tests without
saying so; those marked `destructive` come last. RAYRACK_KEEP_LAB=1 leaves the lab up and the next run uses it again.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from tests.lab.entrance import Entrance, open_gateway
from tests.lab.lab import DEFAULT_DIRECTORY, INVENTORY, Lab, Tell

if TYPE_CHECKING:
    import openai

# `make verify` does without what only developers need.
with contextlib.suppress(ImportError):
    import hypothesis

    # The same examples at each run; and how long one takes says nothing on machines whose cores are shared.
    hypothesis.settings.register_profile(
        "rayrack",
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile("rayrack")

# Beside a demo's lab, which may be up: other directory, network and bridge, same cache.
TEST_LAB = Lab(
    directory=Path(os.environ.get("TEST_LAB_DIR", "/var/tmp/rayrack-test")),
    net=os.environ.get("TEST_LAB_NET", "10.78.0"),
    bridge=os.environ.get("TEST_LAB_BRIDGE", "lab1"),
    cache=Path(os.environ.get("LAB_CACHE", DEFAULT_DIRECTORY / "cache")),
    loops=True,
)
LAB_FIXTURES = frozenset({"lab", "blank_lab", "rack", "client"})


@dataclass(frozen=True)
class DeployedRack:
    """Two lab hosts with the models of inventories/models/lab.yaml: the head h1 and the worker h2."""

    lab: Lab
    inventory: str = INVENTORY
    head: str = "h1"
    worker: str = "h2"

    @property
    def base_url(self) -> str:
        """Where the API of route prefix /v1 is."""
        return f"{self.entrance.url}/v1"

    @property
    def entrance(self) -> Entrance:
        """The gateway, with a key to it that is made once."""
        return open_gateway(self.lab, self.head)

    def client(self, base_url: str | None = None) -> openai.OpenAI:
        """The official client, without retries: a test sees the first answer."""
        return self.entrance.client(base_url)


def pytest_configure(config: pytest.Config) -> None:
    # A cancelled CI job sends SIGTERM; without this the hosts would outlive it.
    def stop(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and LAB_FIXTURES & set(item.fixturenames):
            item.add_marker(pytest.mark.lab)
    # Quick ones first; last those that leave a host in a state others should not see, and those that make the lab anew.
    # The sort is stable.
    items.sort(
        key=lambda item: (makes_lab_anew(item), *(marked(item, name) for name in ("destructive", "lab", "long")))
    )


def makes_lab_anew(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and "blank_lab" in item.fixturenames


def marked(item: pytest.Item, name: str) -> bool:
    return item.get_closest_marker(name) is not None


@pytest.fixture(scope="session")
def tell(pytestconfig: pytest.Config) -> Tell:
    """Show a line at once, past pytest's capture: a fixture may take minutes."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def show(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n    {line}", end="", flush=True)

    return show


@pytest.fixture(scope="session")
def lab(tell: Tell) -> Iterator[Lab]:
    """Two hosts; blank unless RAYRACK_KEEP_LAB=1 and the last run has left some."""
    keep = os.environ.get("RAYRACK_KEEP_LAB") == "1"
    if not keep:
        TEST_LAB.down(keep_cache=True)
    try:
        TEST_LAB.up(2, tell)
        yield TEST_LAB
    finally:
        if not keep:
            TEST_LAB.down(keep_cache=True)


@pytest.fixture
def blank_lab(lab: Lab, tell: Tell, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The lab made again with as many blank hosts as the test's parameter says. `rack` is gone after it."""
    lab.down(keep_cache=True)
    lab.up(request.param, tell)
    yield lab
    lab.down(keep_cache=True)


@pytest.fixture(scope="session")
def rack(lab: Lab, tell: Tell) -> DeployedRack:
    """Two hosts, deployed by the command an operator types."""
    lab.deploy_and_tell(tell)
    # A lab that was kept may have another key and certificate by now.
    open_gateway(lab, again=True)
    return DeployedRack(lab)


@pytest.fixture
def client(rack: DeployedRack) -> openai.OpenAI:
    """The official OpenAI client, pointed at the rack."""
    return rack.client()
