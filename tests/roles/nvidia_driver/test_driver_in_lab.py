"""The driver on real hosts with real apt and systemd; the PCI device and the kernel's modules are files.

The hosts are the rack's, and they reboot here.
"""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from roles.nvidia_driver.versions import upstream
from tests.lab import fake_gpu
from tests.lab.apt_repository import AptRepository, Deb
from tests.lab.driver_host import (
    FILES,
    HOST,
    INITRD,
    NEW,
    NEWEST,
    OLD,
    REPOSITORY,
    SOURCES,
    STAND_INS,
    DriverHost,
    build_repository,
    driver_host,
    held,
)
from tests.lab.lab import Lab
from tests.lab.test_deploy_again import changes

OTHER = "h1"
NVIDIA_FILES = "/etc/apt/sources.list.d/rayrack-nvidia.sources /etc/apt/preferences.d/rayrack-nvidia"

pytestmark = [pytest.mark.destructive, pytest.mark.long]


@pytest.fixture(scope="module")
def repository(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> AptRepository:
    return build_repository(lab, tmp_path_factory.mktemp("apt") / "repository")


@pytest.fixture
def gpu_host(lab: Lab, repository: AptRepository) -> Iterator[DriverHost]:
    with driver_host(lab, repository) as host:
        yield host


def test_a_host_without_gpu_gets_nothing(lab: Lab) -> None:
    lab.pyinfra(*FILES, "-y", "--limit", OTHER)
    assert (
        lab.read(
            OTHER, f"ls {NVIDIA_FILES} 2>/dev/null; dpkg-query -W -f '${{Package}}\\n' '*nvidia*' 2>/dev/null || true"
        )
        == ""
    )


def test_a_fresh_host_gets_exactly_this_version_held_and_at_work_and_a_second_run_changes_nothing(
    gpu_host: DriverHost,
) -> None:
    gpu_host.deploy(OLD)
    assert gpu_host.packages() == held(OLD)
    assert gpu_host.loaded() == OLD
    lab = gpu_host.lab
    assert (
        lab.read(HOST, "systemctl is-active nvidia-persistenced; systemctl is-enabled nvidia-persistenced")
        == "active\nenabled"
    )
    assert "blacklist nouveau" in lab.read(HOST, "cat /etc/modprobe.d/rayrack-nvidia.conf")
    assert lab.read(HOST, f"find {INITRD} -newer /etc/modprobe.d/rayrack-nvidia.conf") == INITRD
    assert "nvidia" in lab.read(HOST, "apt-config dump Unattended-Upgrade::Package-Blacklist")
    assert changes(gpu_host.deploy(OLD)) == set()


def test_upgrades_leave_the_driver_where_it_is(gpu_host: DriverHost) -> None:
    gpu_host.deploy(OLD)
    moved = "apt-get -s dist-upgrade | grep -E '^(Inst|Remv) .*(nvidia|libcuda1)' || true"
    assert gpu_host.lab.read(HOST, moved, timeout_s=300) == ""
    # Without the pin the holds alone keep it.
    assert gpu_host.lab.read(HOST, f"rm /etc/apt/preferences.d/rayrack-nvidia; {moved}", timeout_s=300) == ""


def test_a_library_that_was_moved_away_is_brought_back(gpu_host: DriverHost) -> None:
    gpu_host.deploy(OLD)
    gpu_host.lab.ssh(HOST, f"apt-get -y -qq install --allow-change-held-packages libnvidia-ml1={NEWEST}-1")
    gpu_host.lab.ssh(HOST, "apt-mark unhold libnvidia-ml1")
    gpu_host.deploy(OLD)
    assert gpu_host.packages() == held(OLD)


def test_another_version_needs_leave_to_reboot_and_then_the_run_goes_on_by_itself(gpu_host: DriverHost) -> None:
    gpu_host.deploy(OLD)
    before = gpu_host.boot()
    stopped = gpu_host.deploy(NEW, check=False)
    assert stopped.returncode == 1
    assert f"driver {OLD} is loaded and {NEW} is wanted" in stopped.stdout
    assert "Traceback" not in stopped.stdout
    assert (gpu_host.packages(), gpu_host.boot()) == (held(OLD), before)
    gpu_host.deploy(NEW, "allow_reboot=true")
    assert gpu_host.boot() != before
    assert (gpu_host.packages(), gpu_host.loaded()) == (held(NEW), NEW)
    assert changes(gpu_host.deploy(NEW)) == set()


def test_nouveau_is_driven_out_by_a_reboot(gpu_host: DriverHost) -> None:
    gpu_host.lab.ssh(HOST, "mkdir /sys/module/nouveau")
    stopped = gpu_host.deploy(OLD, check=False)
    assert stopped.returncode == 1
    assert "nouveau holds the GPUs until a reboot" in stopped.stdout
    assert gpu_host.packages() == held(OLD)
    gpu_host.deploy(OLD, "allow_reboot=true")
    assert gpu_host.loaded() == OLD


def test_nvswitches_bring_the_fabric_manager_of_the_drivers_version(gpu_host: DriverHost) -> None:
    fake_gpu.plug_in(gpu_host.lab, HOST, fake_gpu.H100, fake_gpu.NVSWITCH)
    gpu_host.deploy(OLD)
    assert gpu_host.packages() == held(OLD, "nvidia-fabricmanager")
    assert gpu_host.lab.read(HOST, "systemctl is-active nvidia-fabricmanager") == "active"
    # A version without fabric manager is refused, and nothing has moved.
    stopped = gpu_host.deploy(NEWEST, "allow_reboot=true", check=False)
    assert stopped.returncode == 1
    assert "has no nvidia-fabricmanager" in stopped.stdout
    assert gpu_host.packages() == held(OLD, "nvidia-fabricmanager")


def test_proprietary_modules_take_the_place_of_the_open_ones(gpu_host: DriverHost) -> None:
    gpu_host.deploy(OLD)
    gpu_host.deploy(OLD, "nvidia_kernel_modules=proprietary")
    found = gpu_host.packages()
    assert "nvidia-kernel-open-dkms" not in found
    assert found["nvidia-kernel-dkms"] == f"{OLD}-1 held"


def refused(gpu_host: DriverHost, version: str, *data: str) -> str:
    """What a deploy says that ends without a package changed."""
    result = gpu_host.deploy(version, *data, check=False)
    assert result.returncode == 1, result.stdout
    assert "Traceback" not in result.stdout
    assert gpu_host.packages() == {}
    return result.stdout


def test_refusals_come_before_any_package(gpu_host: DriverHost) -> None:
    lab = gpu_host.lab
    assert f"it has {NEWEST}-1, {NEW}-1, {OLD}-1" in refused(gpu_host, "580.99.99")
    assert "too old for the runtime's CUDA 13.0" in refused(gpu_host, "535.261.03", "runtime=cuda")
    assert "must be an exact driver version" in refused(gpu_host, "newest")
    assert "min_free_gib_driver" in refused(gpu_host, OLD, "min_free_gib_driver=100000")
    lab.ssh(HOST, "touch /usr/bin/nvidia-uninstall")
    assert "from NVIDIA's .run file" in refused(gpu_host, OLD)
    lab.ssh(HOST, "rm /usr/bin/nvidia-uninstall")
    lab.ssh(HOST, f"echo 'deb [trusted=yes] file:{REPOSITORY} /' >/etc/apt/sources.list.d/cuda.list")
    try:
        assert "apt refuses a repository with two keys" in refused(gpu_host, OLD)
    finally:
        lab.ssh(HOST, "rm /etc/apt/sources.list.d/cuda.list")


def test_secure_boot_without_a_key_is_refused(gpu_host: DriverHost) -> None:
    variable = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    with fake_gpu.firmware(gpu_host.lab, HOST, variable, r"\006\000\000\000\001"):
        assert "Secure Boot is on" in refused(gpu_host, OLD)


def test_debians_own_packages_with_the_check_of_cuda_waived(gpu_host: DriverHost, tmp_path: Path) -> None:
    lab = gpu_host.lab
    # dkms would build the module for a kernel whose headers nobody has here; everything else is Debian's.
    common, program = "/usr/lib/dkms/common.postinst", "/usr/sbin/dkms"
    files = dict.fromkeys((common, program), "#!/bin/sh\nexit 0\n")
    Deb("dkms", "99", files=files, scripts={"postinst": f"chmod 755 {common} {program}"}).build(tmp_path)
    fake_gpu.send(lab, HOST, tmp_path, STAND_INS)
    sleeping = "[Service]\nType=simple\nUser=root\nExecStart=\nExecStart=/bin/sleep infinity\nExecStopPost=\n"
    fake_gpu.put(lab, HOST, "/etc/systemd/system/nvidia-persistenced.service.d/lab.conf", sleeping)
    components = "main contrib non-free non-free-firmware"
    lab.ssh(HOST, f"dpkg -i {STAND_INS}/*.deb; sed -i.before 's/ main$/ {components}/' {SOURCES}")
    lab.ssh(HOST, "apt-get -qq update", timeout_s=300)
    candidate = lab.read(HOST, "apt-cache policy libcuda1 | awk '/Candidate/ { print $2 }'")
    version = upstream(candidate)
    assert version.startswith("535.")
    # The lab's models need the runtime `cpu`.
    (tmp_path / "none.yaml").write_text("models: []\n")
    no_models = [f"models_file={tmp_path}/none.yaml", "remove_all=true"]
    data = ["nvidia_driver_source=distribution", "runtime=cuda", *no_models]
    assert "too old for the runtime's CUDA 13.0" in refused(gpu_host, version, *data)
    gpu_host.deploy(version, *data, "lab_skip_cuda_check=true")
    found = gpu_host.packages()
    assert found["libcuda1"] == f"{candidate} held"
    assert found["nvidia-open-kernel-dkms"].startswith(version)
    assert all(each.endswith(" held") for each in found.values())
    assert changes(gpu_host.deploy(version, *data, "lab_skip_cuda_check=true")) == set()
    assert shlex.split(lab.read(HOST, "apt-get -s dist-upgrade | grep -c '^Inst.*nvidia' || true")) == ["0"]
