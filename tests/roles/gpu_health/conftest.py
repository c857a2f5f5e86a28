from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import fake_nvml
from tests.roles.gpu_health.simulated import SimulatedHost, install_programs


@pytest.fixture(scope="session")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a driver's NVML."""
    return fake_nvml.build(tmp_path_factory.mktemp("nvml")).parent


@pytest.fixture(scope="session")
def old_nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of a driver from before 535."""
    return fake_nvml.build(tmp_path_factory.mktemp("old_nvml"), old=True).parent


@pytest.fixture(scope="session")
def lib(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_programs(tmp_path_factory.mktemp("lib"))


@pytest.fixture
def make_host(tmp_path: Path, lib: Path) -> Callable[[Path | None], SimulatedHost]:
    """Makes a host with the NVML of this directory, or without a driver."""
    return lambda library: SimulatedHost(tmp_path / "host", lib, library)


@pytest.fixture
def host(make_host: Callable[[Path | None], SimulatedHost], nvml: Path) -> SimulatedHost:
    return make_host(nvml)
