"""Debian 13: every deploy file that needs no serving runtime, on a blank host with a GPU that is not there.

A lab of its own (LAB_DEBIAN) with the machine's loop devices. There is no CPU runtime for Python 3.13, so no Ray and no
model; the units that would run them are shown to this systemd all the same.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest

from tests.conftest import TEST_LAB, DeployedRack
from tests.lab import fake_gpu, fake_nvml, nvidia_packages
from tests.lab.apt_repository import AptRepository
from tests.lab.lab import ROOT, Lab, Result, Tell, wait_until
from tests.lab.test_deploy_again import changes

pytestmark = [pytest.mark.lab, pytest.mark.long]

TRIXIE = Lab(
    Path(f"{TEST_LAB.directory}-4"),
    f"{TEST_LAB.net.rpartition('.')[0]}.7",
    f"{TEST_LAB.bridge}z",
    TEST_LAB.cache,
    loops=True,
)
HOST = "h1"
RAY = "/var/lib/rayrack/ray"
MOUNT_UNIT = "var-lib-rayrack-ray.mount"
DRIVER = "580.95.05"
REPOSITORY, NVML = "/srv/nvidia", "/srv/nvml"
LOOK = ("deploy/00_preflight.py", "deploy/05_verdict.py")
FILES = (
    *LOOK,
    "deploy/10_host.py",
    "deploy/15_gpu_host.py",
    "deploy/16_gpu_health.py",
    "deploy/18_firewall.py",
    "tests/lab/ray_cleanup_alone.py",
    "deploy/40_gateway.py",
)
# The lab's own list is for hosts without GPUs.
MODELS = """\
defaults: {{share_gpu: true, gpu_memory_utilization: 0.3, weights_gib: 0.1}}
models: [{{model_id: tiny-a}}, {{model_id: tiny-b, route_prefix: {prefix}}}]
"""
# cron looks for changed entries once a minute, and starts its jobs at the next.
CRON_S = 150
DEAD = "session_2020-01-01_00-00-00_000000_1"
EVERY_MINUTE = "/etc/cron.d/rayrack-clean-every-minute"


@dataclass(frozen=True)
class Host:
    """The host, and the repository its driver comes from."""

    lab: Lab
    repository: AptRepository
    models: Path

    def deploy(self, *data: str, files: tuple[str, ...] = FILES, check: bool = True) -> Result:
        settings = (
            f"ray_temp_dir={RAY}",
            "dev_shm_mib=500",
            f"models_file={self.models}",
            "runtime=cuda",
            "gpus=1",
            "gpu_model=H100",
            f"nvidia_driver_version={DRIVER}",
            f"nvidia_driver_repository=file:{REPOSITORY}",
            f"nvidia_driver_repository_key={self.repository.key}",
            "min_free_gib_driver=0.1",
            # nouveau holds the GPU since the host was stopped and started.
            "allow_reboot=true",
            *data,
        )
        arguments = [argument for setting in settings for argument in ("--data", setting)]
        return self.lab.pyinfra(*files, "-y", "--limit", HOST, *arguments, check=check)

    def ssh(self, command: str, *, check: bool = True) -> Result:
        return self.lab.ssh(HOST, command, check=check)

    def read(self, command: str) -> str:
        return self.lab.read(HOST, command)

    def verified(self, *units: str) -> tuple[int, str]:
        """What systemd says of these units."""
        result = self.ssh(f"systemd-analyze verify --man=no {' '.join(units)} 2>&1", check=False)
        return result.returncode, result.stdout


@pytest.fixture(scope="module")
def blank(tell: Tell, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A blank host with one H100 on its bus, the answers of its NVML, and NVIDIA's repository."""
    TRIXIE.down(keep_cache=True)
    try:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("LAB_DEBIAN", "trixie")
            TRIXIE.up(1, tell)
        packages = nvidia_packages.repository((DRIVER,), TRIXIE.read(HOST, "uname -r"))
        repository = AptRepository.build(tmp_path_factory.mktemp("apt") / "repository", packages)
        fake_gpu.send(TRIXIE, HOST, repository.directory, REPOSITORY)
        plug_in_h100(tmp_path_factory.mktemp("nvml"))
        yield Host(TRIXIE, repository, models_list(tmp_path_factory.mktemp("models"), "/v1"))
    finally:
        TRIXIE.down(keep_cache=True)


def models_list(directory: Path, prefix_of_tiny_b: str) -> Path:
    path = directory / "models.yaml"
    path.write_text(MODELS.format(prefix=prefix_of_tiny_b))
    return path


def plug_in_h100(directory: Path) -> None:
    fake_gpu.plug_in(TRIXIE, HOST, fake_gpu.H100)
    fake_nvml.build(directory)
    address = fake_gpu.H100[0].removesuffix(".0")
    (directory / "answers").write_text(fake_nvml.answers(1, {"gpu.0.pci": address, "driver": DRIVER}))
    fake_gpu.send(TRIXIE, HOST, directory, NVML)
    TRIXIE.ssh(
        HOST,
        f"mv {NVML}/answers /etc/fake_nvml; mv {NVML}/{fake_nvml.LIBRARY} /usr/lib/x86_64-linux-gnu/; ldconfig; "
        f"dpkg -i {REPOSITORY}/linux-headers-*.deb",
    )


@pytest.fixture(scope="module")
def host(blank: Host) -> Host:
    """The host after a deploy."""
    blank.deploy()
    return blank


def test_a_host_of_the_lab_is_debian_13_and_stays_it_whatever_the_next_lab_is_made_of(blank: Host) -> None:
    assert 'VERSION_ID="13"' in blank.read("cat /etc/os-release")
    blank.lab.stop(HOST)
    blank.lab.command("start", HOST, LAB_DEBIAN="bookworm")
    assert 'VERSION_ID="13"' in blank.read("cat /etc/os-release")
    wait_until(lambda: blank.read("systemctl is-system-running || true") == "running", "it has booted", 30)


def test_the_default_place_of_rays_files_is_refused_as_it_is_memory_here(blank: Host) -> None:
    refused = blank.deploy("ray_temp_dir=/tmp/ray", files=LOOK, check=False)
    assert refused.returncode == 1
    lines = refused.stdout.split("the run stops here and no host was changed:\n")[1].splitlines()
    assert [line.strip() for line in lines if line.startswith("    ")] == [
        "h1: /tmp/ray: is a tmpfs, which is memory and empty after a reboot, and /tmp/ray must be on a disk; set "
        "another ray_temp_dir, or mount a disk there"
    ]


def test_a_second_run_changes_nothing(host: Host) -> None:
    assert changes(host.deploy()) == set()


def test_directories_and_shared_memory_are_as_declared(host: Host) -> None:
    assert host.read(f"stat -c '%a %U %G' /etc/rayrack/secrets {RAY}").splitlines() == [
        "700 root root",
        "770 root rayrack",
    ]
    assert host.read("df --output=size -BM /dev/shm | tail -1 | tr -d ' M'") == "500"


def test_the_driver_is_of_exactly_its_version_held_and_loaded(host: Host) -> None:
    state = "dpkg-query -W -f '${db:Status-Abbrev}${Version}\\n' libcuda1 libnvidia-ml1 nvidia-kernel-open-dkms"
    assert host.read(f"{state} | sort -u") == f"hi {DRIVER}-1"
    assert host.read("cat /sys/module/nvidia/version; systemctl is-active nvidia-persistenced") == f"{DRIVER}\nactive"


def test_cron_looks_at_the_gpus_and_cleans_up_what_a_dead_ray_has_left(host: Host) -> None:
    logs = f"{RAY}/{DEAD}/logs"
    host.ssh(f"install -d -o rayrack -g rayrack {RAY}/{DEAD} {logs}; echo x > {logs}/raylet.out")
    host.ssh(f"find {RAY}/{DEAD} -exec touch -d '2 days ago' {{}} +; rm -f /var/lib/rayrack/gpu_health.json")
    assert f"would remove {DEAD}" in host.read(f"/opt/rayrack/bin/clean_ray --dir {RAY} --report")
    host.ssh(f"sed 's#^\\*/5#*#' /etc/cron.d/rayrack-clean > {EVERY_MINUTE}")
    try:
        wait_until(lambda: host.read(f"ls {RAY}") == "", "cron has removed the dead session", CRON_S, every_s=2)
    finally:
        host.ssh(f"rm {EVERY_MINUTE}")
    said = "journalctl -t rayrack-clean -o cat -n 20"
    wait_until(lambda: f"{RAY}: removed 1 sessions" in host.read(said), "the journal tells of it", 10)
    wait_until(lambda: gpus_found(host) == [fake_nvml.H100["name"]], "cron has looked at the GPU", CRON_S)


def gpus_found(host: Host) -> list[str]:
    """What the GPUs' health was when cron last looked."""
    text = host.read("cat /var/lib/rayrack/gpu_health.json 2>/dev/null || true")
    return [gpu["name"] for gpu in json.loads(text)["gpus"]] if text else []


def test_the_gateway_refuses_as_openai_does(host: Host) -> None:
    client = DeployedRack(host.lab).client()
    assert list(client.models.list()) == []
    with pytest.raises(openai.NotFoundError) as unknown:
        client.completions.create(model="none", prompt="x")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.InternalServerError) as down:
        client.completions.create(model="tiny-a", prompt="x")
    assert (down.value.status_code, down.value.code) == (503, "model_not_up")


def test_a_changed_model_list_is_loaded_by_the_running_gateway(host: Host, tmp_path: Path) -> None:
    main_pid = "systemctl show -P MainPID rayrack-gateway"
    before = host.read(main_pid)
    models = models_list(tmp_path, "/other/v1")
    assert changes(host.deploy(f"models_file={models}", files=("deploy/40_gateway.py",))) == {
        "Gateway | Gateway configuration",
        "Gateway | The gateway runs this configuration",
    }
    assert host.read(main_pid) == before
    rack = DeployedRack(host.lab)
    other = rack.client(rack.base_url.replace("/v1", "/other/v1"))
    with pytest.raises(openai.InternalServerError):
        other.completions.create(model="tiny-b", prompt="x")
    host.deploy(files=("deploy/40_gateway.py",))


def test_systemd_finds_nothing_to_say_about_the_units(host: Host, tmp_path: Path) -> None:
    golden, units = ROOT / "tests/roles/ray_cluster/golden", tmp_path / "units"
    units.mkdir()
    for name in ("rayrack-head.service", "rayrack-worker.service", "rayrack.target"):
        (units / name).write_text((golden / name).read_text())
    template = ROOT / "templates/model_serving/etc/systemd/system/rayrack-model@.service.j2"
    (units / "rayrack-model@.service").write_text(template.read_text())
    fake_gpu.send(host.lab, HOST, units, "/run/systemd/system")
    programs = "/opt/rayrack/bin/ray_node /opt/rayrack/bin/model_unit"
    host.ssh(f"for program in {programs}; do install -m 755 /bin/true $program; done; systemctl daemon-reload")
    try:
        names = ("rayrack-head.service", "rayrack-worker.service", "rayrack-model@tiny-a.service", "rayrack.target")
        assert host.verified("rayrack-gateway.service", *names) == (0, "")
    finally:
        host.ssh(f"rm -f /run/systemd/system/rayrack* {programs}; systemctl daemon-reload")


def test_rays_own_file_system_is_made_and_a_reboot_brings_all_back(host: Host) -> None:
    host.deploy("ray_temp_size_gib=1")
    assert host.read(f"findmnt -no FSTYPE {RAY}") == "ext4"
    assert host.verified(MOUNT_UNIT) == (0, "")
    host.lab.reboot(HOST)
    assert host.read(f"systemctl is-active {MOUNT_UNIT}; stat -c '%U %a' {RAY}") == "active\nroot 770"
    assert host.read("stat -c '%a %U' /run/rayrack/haproxy; cat /sys/module/nvidia/version") == f"700 rayrack\n{DRIVER}"
    # The gateway belongs to rayrack.target, which comes with Ray.
    host.ssh("systemctl start rayrack-gateway")
    assert changes(host.deploy("ray_temp_size_gib=1")) == set()
