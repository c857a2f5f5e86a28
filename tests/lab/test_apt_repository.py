"""The repository of the driver's tests, used by the real apt in a directory of its own; and the pin, proved with it."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from jinja2 import Environment, StrictUndefined
from openpgp_keys import fingerprints

from roles.nvidia_driver.plan import known_versions
from roles.nvidia_driver.versions import DriverVersion
from tests.lab import nvidia_packages
from tests.lab.apt_repository import AptRepository
from tests.lab.lab import ROOT

VERSIONS = ("580.95.05", "580.126.20", "610.57.04")
PIN = ROOT / "templates/nvidia_driver/etc/apt/preferences.d/rayrack-nvidia.j2"
SOURCE = ROOT / "templates/nvidia_driver/etc/apt/sources.list.d/rayrack-nvidia.sources.j2"
UNATTENDED = ROOT / "templates/nvidia_driver/etc/apt/apt.conf.d/52rayrack-nvidia.j2"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> AptRepository:
    return AptRepository.build(
        tmp_path_factory.mktemp("apt") / "repository", nvidia_packages.repository(VERSIONS, "6.1.0-test")
    )


class Apt:
    """apt with every directory of its own below one, and nothing installed but what a test says."""

    def __init__(self, root: Path, repository: AptRepository) -> None:
        self.root = root
        for directory in (
            "etc/apt/sources.list.d",
            "etc/apt/preferences.d",
            "etc/apt/apt.conf.d",
            "state/lists",
            "cache",
        ):
            (root / directory).mkdir(parents=True)
        (root / "status").touch()
        source = {"uri": f"file:{repository.directory}/", "architecture": "amd64"}
        text = render(SOURCE, repository=source, keyring=repository.key)
        (root / "etc/apt/sources.list.d/test.sources").write_text(text)

    def run(self, *command: str) -> str:
        conf = self.root / "apt.conf"
        conf.write_text(
            f'Dir "{self.root}"; Dir::Etc "{self.root}/etc/apt"; Dir::State "{self.root}/state"; '
            f'Dir::State::status "{self.root}/status"; Dir::Cache "{self.root}/cache"; APT::Architecture "amd64"; '
            'APT::Sandbox::User ""; Acquire::Languages "none";'
        )
        return subprocess.run(
            command,
            env={**os.environ, "APT_CONFIG": str(conf), "LC_ALL": "C"},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=True,
        ).stdout

    def installs(self, *packages: str) -> dict[str, str]:
        """What an installation would bring, by name."""
        lines = self.run("apt-get", "--simulate", "--allow-downgrades", "install", *packages).splitlines()
        found = (line.split() for line in lines if line.startswith("Inst "))
        return {words[1]: next(word for word in words[2:] if word.startswith("(")).lstrip("(") for words in found}


def render(template: Path, **values: object) -> str:
    return Environment(undefined=StrictUndefined, autoescape=False).from_string(template.read_text()).render(**values)


@pytest.fixture
def apt(tmp_path: Path, repository: AptRepository) -> Apt:
    apt = Apt(tmp_path, repository)
    apt.run("apt-get", "update")
    return apt


def pin(apt: Apt, version: str) -> None:
    driver = {"version": DriverVersion.parse(version)}
    (apt.root / "etc/apt/preferences.d/rayrack-nvidia").write_text(render(PIN, driver=driver))


def test_apt_takes_the_repository_by_its_signature_and_knows_every_version(apt: Apt) -> None:
    known = known_versions(apt.run("apt-cache", "madison", "libcuda1", "nvidia-fabricmanager").splitlines())
    assert known == {
        "libcuda1": ["610.57.04-1", "580.126.20-1", "580.95.05-1"],
        "nvidia-fabricmanager": ["580.126.20-1", "580.95.05-1"],
    }


def test_another_key_is_not_accepted(tmp_path: Path, repository: AptRepository) -> None:
    stranger = AptRepository.build(tmp_path / "stranger", [])
    apt = Apt(tmp_path / "apt", AptRepository(repository.directory, stranger.key))
    with pytest.raises(subprocess.CalledProcessError) as refused:
        apt.run("apt-get", "update")
    assert "NO_PUBKEY" in refused.value.stdout


def test_the_key_has_the_fingerprint_that_gpg_tells(repository: AptRepository) -> None:
    listing = subprocess.run(
        ["gpg", "--with-colons", "--show-keys", str(repository.key)], capture_output=True, text=True, check=True
    ).stdout
    told = [line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr:")]
    assert fingerprints(repository.key.read_bytes()) == told[:1]


def test_without_a_pin_one_package_of_a_version_brings_libraries_of_another(apt: Apt) -> None:
    assert apt.installs("nvidia-driver-cuda=580.95.05-1")["libcuda1"] == "610.57.04-1"


@pytest.mark.parametrize("version", VERSIONS[:2])
def test_with_the_pin_every_package_has_the_drivers_version(apt: Apt, version: str) -> None:
    pin(apt, version)
    wanted: Sequence[str] = ("nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-fabricmanager")
    found = apt.installs(*wanted)
    assert set(wanted) | {"libcuda1", "libnvidia-ml1", "nvidia-smi", "nvidia-persistenced"} == set(found)
    assert set(found.values()) == {f"{version}-1"}


def test_the_pin_is_of_exactly_that_version_and_not_of_one_that_begins_so(apt: Apt) -> None:
    pin(apt, "580.95")
    assert apt.installs("libcuda1")["libcuda1"] == "610.57.04-1"


def test_the_pin_leaves_packages_with_versions_of_their_own_alone(apt: Apt) -> None:
    pin(apt, "580.95.05")
    assert apt.installs("nvidia-container-toolkit") == {"nvidia-container-toolkit": "1.17.8-1"}


def test_unattended_upgrades_read_the_list_of_what_to_leave_alone(apt: Apt) -> None:
    (apt.root / "etc/apt/apt.conf.d/52rayrack-nvidia").write_text(UNATTENDED.read_text())
    shell = apt.run("apt-config", "dump", "Unattended-Upgrade::Package-Blacklist")
    assert 'Unattended-Upgrade::Package-Blacklist:: ".*nvidia";' in shell.splitlines()
