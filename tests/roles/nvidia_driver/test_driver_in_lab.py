"""The driver on real hosts with real apt and systemd; the PCI device and the kernel's modules are files.

The hosts are the rack's, and they reboot here.
"""

import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from roles.nvidia_driver.versions import upstream
from tests.lab import fake_gpu, nvidia_packages
from tests.lab.apt_repository import AptRepository, Deb
from tests.lab.lab import ROOT, Lab, Result
from tests.lab.test_deploy_again import changes

HOST, OTHER = "h2", "h1"
OLD, NEW, NEWEST = "580.95.05", "580.126.20", "610.57.04"
FILES = ("deploy/00_preflight.py", "deploy/05_verdict.py", "deploy/10_host.py", "deploy/15_gpu_host.py")
REPOSITORY, STAND_INS = "/srv/nvidia", "/srv/stand-ins"
NAMES = ("nvidia-kernel-open-dkms", "nvidia-driver-cuda", "libcuda1", "libnvidia-ml1", "nvidia-smi")
INITRD = "/boot/initrd.img-test"
SOURCES = "/etc/apt/sources.list"
SOURCES_BACK = f"[ ! -e {SOURCES}.before ] || {{ mv {SOURCES}.before {SOURCES}; apt-get -qq update; }}"
LEFT = (
    REPOSITORY,
    STAND_INS,
    INITRD,
    "/etc/apt/*/rayrack-nvidia*",
    "/etc/apt/apt.conf.d/52rayrack-nvidia",
    "/etc/modprobe.d/rayrack-nvidia.conf",
    "/etc/systemd/system/nvidia-persistenced.service.d",
    "/usr/local/sbin/update-initramfs",
    "/usr/bin/nvidia-uninstall",
)
NVIDIA_FILES = "/etc/apt/sources.list.d/rayrack-nvidia.sources /etc/apt/preferences.d/rayrack-nvidia"

pytestmark = [pytest.mark.destructive, pytest.mark.long]


@dataclass(frozen=True)
class GpuHost:
    """A host with a GPU, and the repository its driver comes from."""

    lab: Lab
    repository: AptRepository

    def deploy(self, version: str, *data: str, check: bool = True) -> Result:
        settings = (
            f"nvidia_driver_version={version}",
            f"nvidia_driver_repository=file:{REPOSITORY}",
            f"nvidia_driver_repository_key={self.repository.key}",
            "min_free_gib_driver=0.1",
            *data,
        )
        arguments = [argument for setting in settings for argument in ("--data", setting)]
        return self.lab.pyinfra(*FILES, "-y", "--limit", HOST, *arguments, check=check)

    def packages(self) -> dict[str, str]:
        """Version and hold of every package of NVIDIA's: ``580.95.05-1 held``."""
        fields = "'${db:Status-Abbrev}|${Package}|${Version}\\n'"
        listing = self.lab.read(HOST, f"dpkg-query -W -f {fields} '*nvidia*' libcuda1 2>/dev/null || true")
        found = (line.split("|") for line in listing.splitlines())
        return {
            name: f"{version} held" if state[0] == "h" else version for state, name, version in found if state[1] == "i"
        }

    def loaded(self) -> str:
        return self.lab.ssh(HOST, "cat /sys/module/nvidia/version", check=False).stdout.strip()

    def boot(self) -> str:
        return self.lab.read(HOST, "cat /proc/sys/kernel/random/boot_id")


def held(version: str, *more: str) -> dict[str, str]:
    return dict.fromkeys((*NAMES, "nvidia-persistenced", *more), f"{version}-1 held")


def send(lab: Lab, directory: Path, to: str) -> None:
    """Copy a directory to the host, readable for apt's own user."""
    unpack = f"mkdir -p {to} && tar -C {to} -x && chmod -R a+rX {to}"
    ssh = ["ssh", "-F", str(lab.directory / "ssh_config"), HOST, unpack]
    with subprocess.Popen(["tar", "-C", str(directory), "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(ssh, stdin=tar.stdout, check=True, timeout=60)


def clean(lab: Lab) -> None:
    """The host as it was: no package, no file, no device."""
    fake_gpu.unplug(lab, HOST)
    names = "dpkg-query -W -f '${Package}\\n' '*nvidia*' libcuda1 'linux-headers-*' dkms 2>/dev/null"
    purge = "xargs -r apt-get -y -qq purge --allow-change-held-packages >/dev/null; apt-get -y -qq autoremove --purge"
    lab.ssh(HOST, f"{names} | {purge}; rm -rf {' '.join(LEFT)}; {SOURCES_BACK}", timeout_s=300)


@pytest.fixture(scope="module")
def repository(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> AptRepository:
    kernel = lab.read(HOST, "uname -r")
    packages = nvidia_packages.repository((OLD, NEW, NEWEST), kernel)
    return AptRepository.build(tmp_path_factory.mktemp("apt") / "repository", packages)


@pytest.fixture
def gpu_host(lab: Lab, repository: AptRepository) -> Iterator[GpuHost]:
    """A host with one H100 and an initial RAM disk, without a driver."""
    fake_gpu.plug_in(lab, HOST, fake_gpu.H100)
    send(lab, repository.directory, REPOSITORY)
    fake_gpu.put(lab, HOST, "/usr/local/sbin/update-initramfs", f"#!/bin/sh\ntouch {INITRD}\n", "755")
    # The headers of this machine's kernel are in no repository that the host has at first.
    lab.ssh(HOST, f"touch -d 2020-01-01 {INITRD}; dpkg -i {REPOSITORY}/linux-headers-*.deb")
    try:
        yield GpuHost(lab, repository)
    finally:
        clean(lab)


def test_a_host_without_gpu_gets_nothing(lab: Lab) -> None:
    lab.pyinfra(*FILES, "-y", "--limit", OTHER)
    assert (
        lab.read(
            OTHER, f"ls {NVIDIA_FILES} 2>/dev/null; dpkg-query -W -f '${{Package}}\\n' '*nvidia*' 2>/dev/null || true"
        )
        == ""
    )


def test_a_fresh_host_gets_exactly_this_version_held_and_at_work_and_a_second_run_changes_nothing(
    gpu_host: GpuHost,
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


def test_the_checks_of_make_verify_are_green_for_the_driver(gpu_host: GpuHost) -> None:
    gpu_host.deploy(OLD)
    data = [f"--data=nvidia_driver_version={OLD}", f"--data=nvidia_driver_repository=file:{REPOSITORY}"]
    command = [str(ROOT / ".venv/bin/python"), "-m", "pytest", "-q", "tests/hosts/test_driver.py"]
    checks = subprocess.run(
        [*command, "--inventory", "inventories/lab.py", "-k", HOST, *data],
        cwd=ROOT,
        env=gpu_host.lab.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert checks.returncode == 0, checks.stdout


def test_upgrades_leave_the_driver_where_it_is(gpu_host: GpuHost) -> None:
    gpu_host.deploy(OLD)
    moved = "apt-get -s dist-upgrade | grep -E '^(Inst|Remv) .*(nvidia|libcuda1)' || true"
    assert gpu_host.lab.read(HOST, moved, timeout_s=300) == ""
    # Without the pin the holds alone keep it.
    assert gpu_host.lab.read(HOST, f"rm /etc/apt/preferences.d/rayrack-nvidia; {moved}", timeout_s=300) == ""


def test_a_library_that_was_moved_away_is_brought_back(gpu_host: GpuHost) -> None:
    gpu_host.deploy(OLD)
    gpu_host.lab.ssh(HOST, f"apt-get -y -qq install --allow-change-held-packages libnvidia-ml1={NEWEST}-1")
    gpu_host.lab.ssh(HOST, "apt-mark unhold libnvidia-ml1")
    gpu_host.deploy(OLD)
    assert gpu_host.packages() == held(OLD)


def test_another_version_needs_leave_to_reboot_and_then_the_run_goes_on_by_itself(gpu_host: GpuHost) -> None:
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


def test_nouveau_is_driven_out_by_a_reboot(gpu_host: GpuHost) -> None:
    gpu_host.lab.ssh(HOST, "mkdir /sys/module/nouveau")
    stopped = gpu_host.deploy(OLD, check=False)
    assert stopped.returncode == 1
    assert "nouveau holds the GPUs until a reboot" in stopped.stdout
    assert gpu_host.packages() == held(OLD)
    gpu_host.deploy(OLD, "allow_reboot=true")
    assert gpu_host.loaded() == OLD


def test_nvswitches_bring_the_fabric_manager_of_the_drivers_version(gpu_host: GpuHost) -> None:
    fake_gpu.plug_in(gpu_host.lab, HOST, fake_gpu.H100, fake_gpu.NVSWITCH)
    gpu_host.deploy(OLD)
    assert gpu_host.packages() == held(OLD, "nvidia-fabricmanager")
    assert gpu_host.lab.read(HOST, "systemctl is-active nvidia-fabricmanager") == "active"
    # A version without fabric manager is refused, and nothing has moved.
    stopped = gpu_host.deploy(NEWEST, "allow_reboot=true", check=False)
    assert stopped.returncode == 1
    assert "has no nvidia-fabricmanager" in stopped.stdout
    assert gpu_host.packages() == held(OLD, "nvidia-fabricmanager")


def test_proprietary_modules_take_the_place_of_the_open_ones(gpu_host: GpuHost) -> None:
    gpu_host.deploy(OLD)
    gpu_host.deploy(OLD, "nvidia_kernel_modules=proprietary")
    found = gpu_host.packages()
    assert "nvidia-kernel-open-dkms" not in found
    assert found["nvidia-kernel-dkms"] == f"{OLD}-1 held"


def refused(gpu_host: GpuHost, version: str, *data: str) -> str:
    """What a deploy says that ends without a package changed."""
    result = gpu_host.deploy(version, *data, check=False)
    assert result.returncode == 1, result.stdout
    assert "Traceback" not in result.stdout
    assert gpu_host.packages() == {}
    return result.stdout


def test_refusals_come_before_any_package(gpu_host: GpuHost) -> None:
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


def test_secure_boot_without_a_key_is_refused(gpu_host: GpuHost) -> None:
    variable = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    with fake_gpu.firmware(gpu_host.lab, HOST, variable, r"\006\000\000\000\001"):
        assert "Secure Boot is on" in refused(gpu_host, OLD)


def test_debians_own_packages_with_the_check_of_cuda_waived(gpu_host: GpuHost, tmp_path: Path) -> None:
    lab = gpu_host.lab
    # dkms would build the module for a kernel whose headers nobody has here; everything else is Debian's.
    common, program = "/usr/lib/dkms/common.postinst", "/usr/sbin/dkms"
    files = dict.fromkeys((common, program), "#!/bin/sh\nexit 0\n")
    Deb("dkms", "99", files=files, scripts={"postinst": f"chmod 755 {common} {program}"}).build(tmp_path)
    send(lab, tmp_path, STAND_INS)
    sleeping = "[Service]\nType=simple\nUser=root\nExecStart=\nExecStart=/bin/sleep infinity\nExecStopPost=\n"
    fake_gpu.put(lab, HOST, "/etc/systemd/system/nvidia-persistenced.service.d/lab.conf", sleeping)
    components = "main contrib non-free non-free-firmware"
    lab.ssh(HOST, f"dpkg -i {STAND_INS}/*.deb; sed -i.before 's/ main$/ {components}/' {SOURCES}")
    lab.ssh(HOST, "apt-get -qq update", timeout_s=300)
    candidate = lab.read(HOST, "apt-cache policy libcuda1 | awk '/Candidate/ { print $2 }'")
    version = upstream(candidate)
    assert version.startswith("535.")
    data = ["nvidia_driver_source=distribution", "runtime=cuda"]
    assert "too old for the runtime's CUDA 13.0" in refused(gpu_host, version, *data)
    gpu_host.deploy(version, *data, "lab_skip_cuda_check=true")
    found = gpu_host.packages()
    assert found["libcuda1"] == f"{candidate} held"
    assert found["nvidia-open-kernel-dkms"].startswith(version)
    assert all(each.endswith(" held") for each in found.values())
    assert changes(gpu_host.deploy(version, *data, "lab_skip_cuda_check=true")) == set()
    assert shlex.split(lab.read(HOST, "apt-get -s dist-upgrade | grep -c '^Inst.*nvidia' || true")) == ["0"]
