"""The checks of tests/hosts/test_driver.py on a lab host with a GPU: green at first, then the right one red.

The driver is installed once, and each test breaks one thing and mends it.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import DeployedRack
from tests.lab.driver_host import HOST, NEWEST, OLD, DriverHost, build_repository, driver_host, driver_settings
from tests.lab.lab import Lab
from tests.lab.test_checks_can_fail import Breakage, breakage, broken, outcomes, red

PACKAGES = f"test_driver_packages_have_one_version_and_are_held[{HOST}]"
KEPT = f"test_driver_is_pinned_and_kept_from_upgrades_and_nouveau_is_blacklisted[{HOST}]"
AT_WORK = f"test_driver_is_loaded_and_its_services_run[{HOST}]"
INSTALL = "apt-get -y -qq install --allow-downgrades --allow-change-held-packages"
VERSION = "/sys/module/nvidia/version"

BREAKAGES = (
    breakage(
        "a package is not held",
        HOST,
        "apt-mark unhold libcuda1",
        "apt-mark hold libcuda1",
        PACKAGES,
    ),
    breakage(
        "a library is of another driver",
        HOST,
        f"{INSTALL} libnvidia-ml1={NEWEST}-1 && apt-mark hold libnvidia-ml1",
        f"{INSTALL} libnvidia-ml1={OLD}-1 && apt-mark hold libnvidia-ml1",
        PACKAGES,
    ),
    breakage(
        "the kernel module's package is gone",
        HOST,
        "apt-get -y -qq remove --allow-change-held-packages nvidia-kernel-open-dkms",
        f"{INSTALL} nvidia-kernel-open-dkms={OLD}-1 && apt-mark hold nvidia-kernel-open-dkms",
        PACKAGES,
    ),
    *(
        breakage(f"{what} is gone", HOST, f"mv {path} /root/away", f"mv /root/away {path}", KEPT)
        for what, path in (
            ("the pin", "/etc/apt/preferences.d/rayrack-nvidia"),
            ("what keeps unattended upgrades away", "/etc/apt/apt.conf.d/52rayrack-nvidia"),
            ("the blacklist of nouveau", "/etc/modprobe.d/rayrack-nvidia.conf"),
        )
    ),
    breakage(
        "the pin is of another version",
        HOST,
        f"sed -i.before s/{OLD}/{NEWEST}/ /etc/apt/preferences.d/rayrack-nvidia",
        "mv /etc/apt/preferences.d/rayrack-nvidia.before /etc/apt/preferences.d/rayrack-nvidia",
        KEPT,
    ),
    breakage(
        "another driver is loaded",
        HOST,
        f"echo {NEWEST} >{VERSION}",
        f"echo {OLD} >{VERSION}",
        AT_WORK,
    ),
    breakage(
        "no driver is loaded",
        HOST,
        f"rm {VERSION}",
        f"echo {OLD} >{VERSION}",
        AT_WORK,
    ),
    breakage(
        "nouveau is loaded",
        HOST,
        "mkdir /sys/module/nouveau",
        "rmdir /sys/module/nouveau",
        AT_WORK,
    ),
    breakage(
        "the persistence daemon is stopped",
        HOST,
        "systemctl stop nvidia-persistenced",
        "systemctl start nvidia-persistenced",
        AT_WORK,
    ),
)

pytestmark = [pytest.mark.destructive, pytest.mark.long]


@pytest.fixture(scope="module")
def driven(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DriverHost]:
    """A host whose driver a deploy has just installed."""
    repository = build_repository(lab, tmp_path_factory.mktemp("apt") / "repository")
    with driver_host(lab, repository) as host:
        host.deploy(OLD)
        yield host


def checks(version: str) -> tuple[str, ...]:
    """The arguments that select the checks of the driver, with this version in the inventory."""
    data = (argument for setting in driver_settings(version) for argument in ("--data", setting))
    return ("-k", f"test_driver and {HOST}", *data)


def test_every_check_is_green_after_a_deploy(driven: DriverHost, tmp_path: Path) -> None:
    seen = outcomes(DeployedRack(driven.lab), tmp_path / "report.xml", *checks(OLD))
    assert seen == {PACKAGES: True, KEPT: True, AT_WORK: True}


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.what)
def test_only_the_right_check_turns_red_when(driven: DriverHost, tmp_path: Path, breakage: Breakage) -> None:
    rack = DeployedRack(driven.lab)
    with broken(rack, breakage):
        assert red(rack, tmp_path / "report.xml", *checks(OLD)) == breakage.red


def test_a_version_that_was_set_and_not_deployed_turns_every_check_red(driven: DriverHost, tmp_path: Path) -> None:
    assert red(DeployedRack(driven.lab), tmp_path / "report.xml", *checks(NEWEST)) == {PACKAGES, KEPT, AT_WORK}


def test_every_check_is_green_again_after_the_repairs(driven: DriverHost, tmp_path: Path) -> None:
    assert red(DeployedRack(driven.lab), tmp_path / "report.xml", *checks(OLD)) == set()
