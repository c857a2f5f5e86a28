"""What is refused before any package is touched: one line each, and what to do."""

from dataclasses import replace
from typing import Any

import pytest

from roles.nvidia_driver.info import AptSource, DriverInfo, FreeSpace
from roles.nvidia_driver.rules import problems, problems_of_existing
from tests.roles.nvidia_driver.hosts import B200, FRESH, NVSWITCH, V100, at_work, driver, version


def lines(info: DriverInfo | None, **changes: Any) -> list[str]:
    return problems("gpu-01", info, driver(**changes))


def test_a_fresh_host_and_one_that_has_its_driver_are_taken() -> None:
    assert lines(FRESH) == []
    assert lines(at_work()) == []
    assert lines(replace(FRESH, devices=(*FRESH.devices, NVSWITCH))) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"secure_boot": True},
        {"run_file": ("/usr/bin/nvidia-uninstall",)},
        {"headers_candidate": False},
        {"free": (FreeSpace("/usr", "/", 0),)},
    ],
)
def test_a_host_without_gpu_is_not_asked_for_anything(changes: dict[str, Any]) -> None:
    assert lines(replace(FRESH, devices=(), **changes)) == []
    assert lines(replace(FRESH, devices=(NVSWITCH,), **changes)) == []


def test_a_host_that_could_not_be_looked_at_is_the_preflights_business() -> None:
    assert lines(None) == []


def test_a_driver_that_is_left_alone_has_no_rules() -> None:
    assert problems("gpu-01", replace(FRESH, secure_boot=True), None) == []


def test_too_old_a_driver_is_refused_with_both_versions() -> None:
    (line,) = lines(FRESH, version=version("535.261.03"))
    assert line == (
        "gpu-01: driver 535.261.03 is too old for the runtime's CUDA 13.0, which needs driver 580 or newer; "
        "set another nvidia_driver_version"
    )
    assert lines(FRESH, version=version("535.261.03"), cuda=None) == []


def test_a_driver_that_is_there_but_too_old_is_refused_as_well() -> None:
    (line,) = lines(at_work("535.261.03"), version=version("535.261.03"))
    assert "CUDA 13.0" in line


def test_a_driver_that_is_left_alone_is_refused_when_it_is_too_old() -> None:
    (line,) = problems_of_existing("gpu-01", at_work("535.183.01"), "13.0")
    assert line == (
        "gpu-01: driver 535.183.01 is loaded and too old for the runtime's CUDA 13.0, which needs driver 580 or newer; "
        "nvidia_driver_version is null, which leaves it alone: set a version, or update it yourself"
    )


@pytest.mark.parametrize(
    ("info", "cuda"),
    [
        (at_work(), "13.0"),
        (at_work("535.183.01"), "12.2"),
        (at_work("535.183.01"), None),
        (at_work("535.183.01", devices=()), "13.0"),
        (FRESH, "13.0"),
        (None, "13.0"),
    ],
    ids=["new enough", "older CUDA", "runtime without CUDA", "no GPU", "no driver", "not looked at"],
)
def test_a_driver_that_is_left_alone_is_taken_when_it_will_do(info: DriverInfo | None, cuda: str | None) -> None:
    assert problems_of_existing("gpu-01", info, cuda) == []


def test_secure_boot_without_an_enrolled_key() -> None:
    (line,) = lines(replace(FRESH, secure_boot=True))
    assert "switch it off in the firmware, or enroll dkms's key (mokutil --import /var/lib/dkms/mok.pub" in line
    assert lines(replace(FRESH, secure_boot=True, module_key_enrolled=True)) == []
    assert lines(at_work(secure_boot=True)) == []


def test_packages_without_a_loaded_module_are_not_yet_proof_against_secure_boot() -> None:
    assert len(lines(at_work(secure_boot=True, loaded=None, loaded_open=None))) == 1


def test_a_driver_of_a_run_file() -> None:
    (line,) = lines(replace(FRESH, run_file=("/usr/bin/nvidia-uninstall",), loaded="570.86.10"))
    assert "/usr/bin/nvidia-uninstall" in line
    assert line.endswith("remove it (nvidia-uninstall), reboot, deploy again")


def test_no_headers_for_the_running_kernel() -> None:
    (line,) = lines(replace(FRESH, headers_candidate=False))
    assert "linux-headers-6.1.0-39-amd64" in line
    assert "dist-upgrade, reboot" in line
    assert lines(replace(FRESH, headers_candidate=False, headers=True)) == []
    # Nothing is known yet of what apt could install.
    assert lines(replace(FRESH, headers_candidate=False, apt_lists=False)) == []


def test_too_little_space_is_told_once_for_a_file_system() -> None:
    one = tuple(FreeSpace(path, "/", 2**30) for path in ("/usr", "/var"))
    (line,) = lines(replace(FRESH, free=one))
    assert line == "gpu-01: /: 1.00 GiB free, 4 GiB needed for a driver (min_free_gib_driver); free space"
    boot = (FreeSpace("/usr", "/", 9 * 2**30), FreeSpace("/boot", "/boot", 2**26))
    (line,) = lines(replace(FRESH, free=boot))
    assert line.startswith("gpu-01: /boot: 0.06 GiB free, 0.15 GiB needed")


def test_the_same_repository_under_another_key_would_break_apt() -> None:
    uri = "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64"
    theirs = AptSource("/etc/apt/sources.list.d/cuda-debian12-x86_64.list", uri)
    (line,) = lines(replace(FRESH, apt_sources=(theirs,)))
    assert "cuda-debian12-x86_64.list" in line
    assert "apt-get purge cuda-keyring" in line
    ours = AptSource("/etc/apt/sources.list.d/rayrack-nvidia.sources", uri + "/")
    assert lines(replace(FRESH, apt_sources=(ours,))) == []
    assert lines(replace(FRESH, apt_sources=(theirs,)), source="distribution") == []


@pytest.mark.parametrize(
    ("device", "changes", "expected"),
    [
        (B200, {"modules": "proprietary"}, "needs the open kernel modules; set nvidia_kernel_modules to open"),
        (V100, {}, "which open kernel modules need; set nvidia_kernel_modules to proprietary"),
        (
            V100,
            {"version": version("590.48.01"), "modules": "proprietary"},
            "580 is the last branch for it, not 590.48.01",
        ),
        (
            FRESH.devices[0],
            {"version": version("620.10.01"), "modules": "proprietary"},
            "set nvidia_kernel_modules to open",
        ),
    ],
)
def test_modules_and_branch_fit_the_gpus_generation(device: Any, changes: dict[str, Any], expected: str) -> None:
    (line,) = lines(replace(FRESH, devices=(device, device)), **changes)
    assert expected in line


def test_an_old_gpu_takes_the_proprietary_modules_and_a_new_one_the_open() -> None:
    assert lines(replace(FRESH, devices=(V100,)), modules="proprietary") == []
    assert lines(replace(FRESH, devices=(B200,))) == []


def test_all_problems_of_a_host_are_told_together() -> None:
    bad = replace(FRESH, secure_boot=True, run_file=("/usr/bin/nvidia-uninstall",), headers_candidate=False)
    assert len(lines(bad, version=version("535.261.03"))) == 4
