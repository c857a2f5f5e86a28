"""The literal production command: inventories/prod.py, its host names resolved to hosts of the lab by ~/.ssh/config."""

from pathlib import Path

import pytest

from tests.lab.entrance import open_gateway
from tests.lab.lab import Lab, Result

PROD = "inventories/prod.py"
# The lab's disk is smaller than what production asks for.
SMALL_DISK = [f"--data={name}=1" for name in ("min_free_gib_ray", "min_free_gib_runtime", "min_free_gib_weights")]
NAMES = {"gpu-01.example.com": "h1", "gpu-02.example.com": "h2", "gpu-03.example.com": "h3"}


@pytest.fixture
def home(lab: Lab, tmp_path: Path) -> Path:
    """A home directory whose SSH settings lead production's names to the lab's hosts."""
    return home_of("root", lab, tmp_path)


@pytest.fixture
def home_of_ops(lab: Lab, tmp_path: Path) -> Path:
    """The same for an ordinary user with sudo."""
    return home_of("ops", lab, tmp_path)


def home_of(user: str, lab: Lab, directory: Path) -> Path:
    entries = (
        f"Host {name}\n  HostName {lab.address(host)}\n  User {user}\n  IdentityFile {lab.directory}/id\n"
        f"  UserKnownHostsFile {lab.directory}/known_hosts\n"
        for name, host in NAMES.items()
    )
    (directory / ".ssh").mkdir()
    (directory / ".ssh/config").write_text("".join(entries))
    return directory


def prod(lab: Lab, home: Path, *arguments: str, check: bool = True) -> Result:
    return lab.pyinfra("deploy/", *arguments, inventory=PROD, check=check, env={"HOME": str(home)})


# The lab's two hosts stand for the head and one worker, and may have the lab's models, none of them in the example.
TWO_HOSTS = ["--limit", "gpu-01.example.com", "--limit", "gpu-02.example.com", "--data", "remove_all=true"]


def test_dry_as_it_stands_tells_that_the_head_has_no_gpus(lab: Lab, home: Path) -> None:
    result = prod(lab, home, "--dry", *SMALL_DISK, *TWO_HOSTS, check=False)
    assert result.returncode == 1
    assert "gpu-01.example.com: blocked by the health gate" in result.stdout
    assert "0 GPUs on the PCI bus, 4 declared" in result.stdout
    assert "Traceback" not in result.stdout


def test_dry_looks_at_every_host_when_the_health_gate_is_overridden(lab: Lab, home: Path) -> None:
    override = """gpu_health_override={"reason": "a lab host has no GPUs"}"""
    result = prod(lab, home, "--dry", *SMALL_DISK, *TWO_HOSTS, "--data", override)
    assert "Ray head | rayrack-head.service runs with these" in result.stdout
    assert "Ray worker | rayrack-worker.service runs with these" in result.stdout
    assert "Beginning operation run" not in result.stdout


@pytest.mark.long
@pytest.mark.parametrize("blank_lab", [3], indirect=True)
def test_an_ordinary_user_deploys_the_whole_example_on_blank_hosts_behind_a_proxy(
    blank_lab: Lab, home_of_ops: Path
) -> None:
    lab = blank_lab
    for host in NAMES.values():  # what the lab gives its hosts, the setting has to give
        lab.ssh(host, "rm /etc/apt/apt.conf.d/90lab")
    arguments = ["-y", "--data", "models_file=inventories/models/lab.yaml", "--data", "runtime=cpu"]
    arguments += ["--data", "runtime_wheelhouse=/srv/wheelhouse", "--data", "object_store_memory_mib=200"]
    arguments += ["--data", f"http_proxy={lab.proxy}"]
    prod(lab, home_of_ops, *arguments, *SMALL_DISK, "--data", "num_cpus=8")
    assert lab.read("h1", "stat -c '%U %a' /var/lib/rayrack/ray") == "root 770"
    for host, unit in (("h1", "rayrack-head"), ("h2", "rayrack-worker"), ("h3", "rayrack-worker")):
        assert lab.read(host, f"systemctl is-active {unit}") == "active"
    listed = open_gateway(lab).client().models.list()
    assert "tiny-embed" in {model.id for model in listed}
