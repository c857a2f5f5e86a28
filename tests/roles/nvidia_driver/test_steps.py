"""What the steps do on a host, by what the host is like."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest
from pyinfra.api.exceptions import PyinfraError

from roles.nvidia_driver import activation, steps
from roles.nvidia_driver.info import DriverInfo
from roles.nvidia_driver.plan import Plan, plan
from tests.roles.fake_host import Change, changes
from tests.roles.nvidia_driver.hosts import FRESH, NVSWITCH, V, at_work, driver, installed, version
from tests.roles.nvidia_driver.hosts import NAMES as PACKAGES

# A part of each fact's command that no other has.
LOOK, MADISON, KEY = "NOT_OF_THE_DRIVER", "apt-cache madison", "PUBLIC_KEY = 6"
FINGERPRINT = "EB693B3035CD5710E231E123A4B469963BF863CC"
VERSIONS = ("580.159.04", V)
NAMES = (
    "nvidia-kernel-open-dkms",
    "nvidia-driver-cuda",
    "libcuda1",
    "nvidia-persistenced",
    "linux-headers-6.1.0-39-amd64",
)
KNOWN = [f" {name} | {version}-1 | https://example.com Packages" for name in NAMES for version in VERSIONS]
RUNNING = ["Id=nvidia-persistenced.service", "ActiveState=active", "UnitFileState=enabled"]


def run(info: DriverInfo, *, allow_reboot: bool = False, wanted: Plan | None = None, **more: Any) -> dict[str, Change]:
    """The steps on a host that stays as ``info`` says, whatever is done to it; a command that fails does not end it."""
    usual = {LOOK: json.dumps(asdict(info)), KEY: FINGERPRINT, MADISON: KNOWN, "systemctl show": RUNNING}
    plan_of_host = wanted or plan(info, driver())
    return changes(steps.install, {**usual, **more}, plan=plan_of_host, allow_reboot=allow_reboot)


def commands(changed: dict[str, Change], name: str) -> tuple[str, ...]:
    return changed[name].commands


def stop(changed: dict[str, Change], name: str) -> str:
    """The line with which an operation ends the run of a host."""
    *_, last = commands(changed, name)
    assert last.endswith(">&2; false")
    return last


def test_a_host_without_gpu_is_not_touched() -> None:
    assert changes(steps.install, {}, plan=None, allow_reboot=False) == {}


def test_the_files_a_gpu_host_gets() -> None:
    written = {path: text for change in run(at_work()).values() for path, text in change.files.items()}
    source = written["/etc/apt/sources.list.d/rayrack-nvidia.sources"]
    assert "URIs: https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/\nSuites: /\n" in source
    assert "Signed-By: /etc/apt/keyrings/rayrack-nvidia.asc\n" in source
    assert f"Pin: version {V}-*\nPin-Priority: 1001\n" in written["/etc/apt/preferences.d/rayrack-nvidia"]
    assert "blacklist nouveau\n" in written["/etc/modprobe.d/rayrack-nvidia.conf"]
    assert '".*nvidia";' in written["/etc/apt/apt.conf.d/52rayrack-nvidia"]


def test_the_blacklist_gets_its_directory_where_nothing_has_brought_kmod_yet() -> None:
    changed = run(FRESH)["Keep the kernel's own drivers away from the GPUs"]
    assert "mkdir -p /etc/modprobe.d" in changed.commands


def test_a_host_with_its_driver_at_work_gets_nothing_but_files_that_are_missing() -> None:
    changed = run(at_work())
    assert all(change.files for change in changed.values())


def test_a_fresh_host_gets_headers_exact_packages_and_its_module() -> None:
    changed = run(FRESH)
    _, install = commands(changed, "Kernel headers")
    # The package that brings headers of kernels to come is not in this repository.
    assert install.endswith("--allow-change-held-packages linux-headers-6.1.0-39-amd64")
    (install,) = commands(changed, f"Driver {V}")
    exact = f"nvidia-kernel-open-dkms={V}-1 nvidia-driver-cuda={V}-1 libcuda1={V}-1"
    assert install.endswith(f"--allow-change-held-packages {exact} nvidia-persistenced")
    load, after = commands(changed, f"Driver {V} is loaded")
    assert load == "modprobe nvidia || true"
    assert "`dkms status` tells" in after


def test_files_come_before_packages_and_packages_before_the_module() -> None:
    order = list(run(FRESH, **{"initrd.img-": "/boot/initrd.img-6.1.0-39-amd64"}))
    assert order == [
        "Kernel headers",
        "NVIDIA's repository",
        f"The repository has driver {V}",
        "Pin the driver's version",
        "Keep unattended upgrades away from the driver",
        "Keep the kernel's own drivers away from the GPUs",
        f"Driver {V}",
        "Initial RAM disks know the blacklist",
        f"Driver {V} is loaded",
    ]


def test_a_driver_that_lost_a_package_gets_just_that() -> None:
    names = ("nvidia-kernel-open-dkms", "nvidia-driver-cuda", "nvidia-persistenced")
    changed = run(at_work(packages=installed(V, names=names)))
    assert commands(changed, f"The repository has driver {V}") == ("apt-get -o DPkg::Lock::Timeout=300 update",)
    (install,) = commands(changed, f"Driver {V}")
    assert install.endswith(f"--allow-change-held-packages libcuda1={V}-1")


def test_a_version_that_the_repository_lacks_is_told_and_no_package_is_installed() -> None:
    changed = run(at_work(packages={}), **{MADISON: [line for line in KNOWN if V not in line]})
    assert "no nvidia-kernel-open-dkms of this version, it has 580.159.04-1" in stop(
        changed, f"The repository has driver {V}"
    )
    assert not [each for change in changed.values() for each in change.commands if " install " in each]


SOURCES = "/etc/apt/sources.list.d/rayrack-nvidia.sources"


def test_a_version_that_the_repository_lacks_leaves_nothing_of_the_repository_that_this_run_wrote() -> None:
    lacking = {MADISON: [line for line in KNOWN if V not in line]}
    last = stop(run(at_work(packages={}), **lacking), f"The repository has driver {V}")
    assert last.startswith(f"rm -f {SOURCES}; echo ")
    mirror = plan(at_work(packages={}), driver(repository="http://mirror/nvidia", repository_key="THE KEY\n"))
    last = stop(run(at_work(packages={}), wanted=mirror, **lacking), f"The repository has driver {V}")
    assert last.startswith(f"rm -f /etc/apt/keyrings/rayrack-nvidia.asc {SOURCES}; echo ")


def test_headers_that_no_repository_has_are_told_and_no_package_is_installed() -> None:
    changed = run(FRESH, **{MADISON: []})
    assert "no package linux-headers-6.1.0-39-amd64 for the running kernel" in stop(changed, "Kernel headers")


def test_packages_that_are_not_held_are_held() -> None:
    changed = run(at_work(packages=installed(V, held=False)))
    assert commands(changed, "Hold the driver's packages") == (
        f"apt-mark hold {' '.join(sorted(PACKAGES))} >/dev/null",
    )


def test_initial_ram_disks_older_than_the_blacklist_are_written_anew() -> None:
    changed = run(at_work(), **{"initrd.img-": "/boot/initrd.img-6.1.0-39-amd64"})
    assert commands(changed, "Initial RAM disks know the blacklist") == ("update-initramfs -u -k all",)


def test_another_driver_at_work_stops_the_host_before_its_packages_change() -> None:
    first = next(iter(run(at_work("570.86.10")).items()))
    assert first[0] == "The packages fit what runs, or a reboot is allowed"
    assert "driver 570.86.10 is loaded and 580.126.20 is wanted" in first[1].commands[0]
    assert "set allow_reboot" in first[1].commands[0]


def test_a_stop_ends_the_run_of_the_host() -> None:
    answers = {LOOK: json.dumps(asdict(at_work("570.86.10"))), ">&2; false": {"success": False}}
    with pytest.raises(PyinfraError):
        changes(steps.install, answers, plan=plan(at_work(), driver()), allow_reboot=False)


def test_without_leave_to_reboot_only_the_reboot_is_missing_under_nouveau() -> None:
    changed = run(replace(FRESH, nouveau=True))
    assert f"Driver {V}" in changed
    assert "nouveau holds the GPUs until a reboot" in stop(changed, f"Driver {V} is loaded")


def test_with_leave_the_host_reboots_and_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def reboot(reboot_timeout: int) -> Iterator[str]:
        asked.append(reboot_timeout)
        yield "reboot"

    monkeypatch.setattr(activation.server.reboot, "_inner", reboot)
    changed = run(at_work("570.86.10"), allow_reboot=True)
    assert "The packages fit what runs, or a reboot is allowed" not in changed
    rebooted, after = commands(changed, f"Driver {V} is loaded")
    assert (rebooted, set(asked)) == ("reboot", {1800})
    assert "driver 570.86.10 is loaded after the installation of 580.126.20" in after


def test_services_that_are_stopped_or_not_enabled_are_mended() -> None:
    info = at_work(devices=(*FRESH.devices, NVSWITCH))
    info = replace(info, packages={**info.packages, **installed(V, names=("nvidia-fabricmanager",))})
    states = [*RUNNING, "", "Id=nvidia-fabricmanager.service", "ActiveState=inactive", "UnitFileState=disabled"]
    changed = run(info, **{"systemctl show": states})
    enable, start = changed["The driver's services run"].commands
    assert enable == "systemctl enable --quiet nvidia-fabricmanager.service"
    assert start.startswith("systemctl restart nvidia-fabricmanager.service || {")


def test_a_key_that_is_not_nvidias_ends_the_run_before_apt_may_trust_it() -> None:
    download, check, _ = commands(run(at_work(), **{KEY: "0" * 40}), "Key of NVIDIA's repository")
    assert "/usr/lib/apt/apt-helper download-file https://developer.download.nvidia.com/" in download
    assert "3bf863cc.pub /etc/apt/keyrings/rayrack-nvidia.asc.new" in download
    assert check.startswith("rm -f /etc/apt/keyrings/rayrack-nvidia.asc.new; echo ")
    assert "not NVIDIA" in check
    assert check.endswith(">&2; false")


def test_a_mirrors_own_key_is_written_as_it_is() -> None:
    wanted = plan(at_work(), driver(repository="http://mirror/nvidia", repository_key="THE KEY\n"))
    changed = run(at_work(), wanted=wanted)
    assert changed["Key of NVIDIA's repository"].files == {"/etc/apt/keyrings/rayrack-nvidia.asc": "THE KEY\n"}


def test_the_distributions_packages_need_no_repository_of_ours() -> None:
    info = at_work(
        "535.261.03",
        packages=installed(
            "535.261.03", names=("nvidia-open-kernel-dkms", "nvidia-smi", "libcuda1", "nvidia-persistenced")
        ),
    )
    wish = driver(source="distribution", cuda=None, version=version("535.261.03"))
    changed = run(info, wanted=plan(info, wish))
    assert not [path for change in changed.values() for path in change.files if "sources" in path or "keyrings" in path]
