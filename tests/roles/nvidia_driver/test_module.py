"""Load the module, reboot, or stop: what is in the kernel decides."""

from dataclasses import replace

import pytest

from roles.nvidia_driver.info import DriverInfo
from roles.nvidia_driver.module import next_step, not_loaded, stop_before_packages, stop_before_reboot
from tests.roles.nvidia_driver.hosts import FRESH, V, at_work, version

WANTED = version(V)


@pytest.mark.parametrize(
    ("info", "step"),
    [
        (FRESH, "load"),
        (at_work(), "nothing"),
        (at_work(loaded="570.86.10"), "reboot"),
        (at_work(loaded_open=False), "reboot"),
        (at_work(loaded_open=None), "nothing"),
        (replace(FRESH, nouveau=True), "reboot"),
        (at_work(loaded="a word"), "reboot"),
    ],
)
def test_the_next_step(info: DriverInfo, step: str) -> None:
    assert next_step(info, WANTED, "open").step == step


def test_packages_are_not_changed_under_a_driver_that_runs() -> None:
    line = stop_before_packages(at_work("570.86.10"), WANTED, "open", allow_reboot=False)
    assert line is not None
    assert line.startswith("driver 570.86.10 is loaded and 580.126.20 is wanted: ")
    assert line.endswith("set allow_reboot (--data allow_reboot=true)")
    assert stop_before_packages(at_work("570.86.10"), WANTED, "open", allow_reboot=True) is None


def test_under_nouveau_nothing_can_break_so_all_but_the_reboot_is_done() -> None:
    info = replace(FRESH, nouveau=True)
    assert stop_before_packages(info, WANTED, "open", allow_reboot=False) is None
    assert stop_before_reboot(next_step(info, WANTED, "open").why) == (
        "nouveau holds the GPUs until a reboot: reboot this host and deploy again, or set allow_reboot "
        "(--data allow_reboot=true)"
    )


def test_a_module_that_does_not_come_is_told_with_where_to_look() -> None:
    line = not_loaded(FRESH, WANTED)
    assert line is not None
    assert "no driver is loaded after the installation of 580.126.20" in line
    assert "dkms status" in line
    assert not_loaded(at_work(), WANTED) is None
