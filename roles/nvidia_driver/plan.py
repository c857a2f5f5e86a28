"""From what is set and what was found on a host to what the role does there. Pure: no pyinfra."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from roles.errors import InputError
from roles.nvidia_driver.info import DriverInfo, Package
from roles.nvidia_driver.packages import DriverPackages, Modules, Source, driver_packages, headers
from roles.nvidia_driver.versions import DriverVersion
from roles.settings import Settings

NVIDIA_REPOSITORIES = "https://developer.download.nvidia.com/compute/cuda/repos"
# File name and fingerprint of the key that signs each of NVIDIA's repositories.
_OLD_KEY = ("3bf863cc.pub", "EB693B3035CD5710E231E123A4B469963BF863CC")
NVIDIA_KEYS = {
    "debian12": _OLD_KEY,
    "debian13": ("8793F200.pub", "02182E60104FCDC26EAE1B8597A5D4CB8793F200"),
    "ubuntu2404": _OLD_KEY,
}
# What `uname -m` says: NVIDIA's name and Debian's.
MACHINES = {"x86_64": ("x86_64", "amd64"), "aarch64": ("sbsa", "arm64")}


# The versions that apt knows, by package, newest first.
Known = dict[str, list[str]]


@dataclass(frozen=True)
class Driver:
    """The driver that the settings ask for."""

    version: DriverVersion
    modules: Modules
    source: Source
    repository: str | None
    """A mirror of NVIDIA's repository; None: NVIDIA's own."""
    repository_key: str | None
    """The armored keys that sign the mirror; None: NVIDIA's."""
    fabric_manager: bool | None
    """None: where NVSwitches are."""
    cuda: str | None
    """What the runtime needs of it; None: nothing."""
    min_free_gib: float

    @classmethod
    def from_settings(cls, settings: Settings, cuda: str | None) -> "Driver | None":
        """None when the settings leave the driver alone.

        Raises:
            InputError: the mirror's key cannot be read.
        """
        version = settings.nvidia_driver_version and DriverVersion.parse(settings.nvidia_driver_version)
        if not version:
            return None
        return cls(
            version=version,
            modules=settings.nvidia_kernel_modules,
            source=settings.nvidia_driver_source,
            repository=settings.nvidia_driver_repository,
            repository_key=read_key(settings.nvidia_driver_repository_key),
            fabric_manager=settings.nvidia_fabric_manager,
            cuda=None if settings.lab_skip_cuda_check else cuda,
            min_free_gib=settings.min_free_gib_driver,
        )


@dataclass(frozen=True)
class Repository:
    """An apt repository without suites, and how its key is known."""

    uri: str
    architecture: str
    key_url: str
    fingerprint: str
    key: str | None
    """The key itself, when the operator has it; then neither URL nor fingerprint counts."""


@dataclass(frozen=True)
class Plan:
    """What a GPU host gets."""

    version: DriverVersion
    modules: Modules
    packages: DriverPackages
    headers: tuple[str, ...]
    repository: Repository | None
    """None: the distribution's own, which the host has."""


def read_key(path: str | None) -> str | None:
    """The key file on the operator's machine, named by ``nvidia_driver_repository_key``."""
    if path is None:
        return None
    try:
        text = Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not armored (gpg --armor --export)"
        raise InputError(f"nvidia_driver_repository_key: cannot read {path}: {reason}") from None
    if "BEGIN PGP PUBLIC KEY BLOCK" not in text:
        raise InputError(f"nvidia_driver_repository_key: {path} is no armored public key (gpg --armor --export)")
    return text


def repository_of(info: DriverInfo, driver: Driver) -> Repository | None:
    if driver.source == "distribution":
        return None
    theirs, debians = MACHINES[info.machine]
    uri = (driver.repository or f"{NVIDIA_REPOSITORIES}/{info.distribution}/{theirs}").rstrip("/") + "/"
    key_file, fingerprint = NVIDIA_KEYS[info.distribution]
    return Repository(uri, debians, f"{uri}{key_file}", fingerprint, driver.repository_key)


def wants_fabric_manager(info: DriverInfo, driver: Driver) -> bool:
    return info.has_nvswitch if driver.fabric_manager is None else driver.fabric_manager


def plan(info: DriverInfo, driver: Driver | None) -> Plan | None:
    """None where there is nothing to do: no NVIDIA GPU on the PCI bus, or no driver is asked for.

    What forbids to go on is told by :mod:`roles.nvidia_driver.rules`, before this counts.
    """
    if driver is None or not info.gpus:
        return None
    wants_fabric = wants_fabric_manager(info, driver)
    return Plan(
        version=driver.version,
        modules=driver.modules,
        packages=driver_packages(
            info.distribution, driver.source, driver.modules, driver.version.branch, fabric_manager=wants_fabric
        ),
        headers=headers(info.kernel, info.kernel_packages),
        repository=repository_of(info, driver),
    )


def is_installed(installed: Mapping[str, Package], entry: str, version: DriverVersion | None) -> bool:
    """Whether one of ``a | b`` is there, at this version if one is given."""
    there = [installed[name] for name in entry.split(" | ") if name in installed]
    return any(version is None or DriverVersion.of_package(each.version) == version for each in there)


def strays(installed: Mapping[str, Package], version: DriverVersion) -> list[str]:
    """Packages of another driver: a library that an upgrade has moved away from the module, say."""
    found = {name: DriverVersion.of_package(package.version) for name, package in installed.items()}
    return sorted(name for name, other in found.items() if other is not None and other != version)


def complete(installed: Mapping[str, Package], wanted: Plan) -> bool:
    """Whether every package of the plan is installed as it should be."""
    return (
        all(is_installed(installed, entry, wanted.version) for entry in wanted.packages.exact)
        and all(is_installed(installed, entry, None) for entry in wanted.packages.others)
        and not any(name in installed for name in wanted.packages.unwanted)
    )


def missing_headers(info: DriverInfo, wanted: Plan) -> list[str]:
    """Packages of kernel headers that are to be installed, if apt knows them."""
    running, *metas = wanted.headers
    return [*([] if info.headers else [running]), *(name for name in metas if name not in info.kernel_packages)]


@dataclass(frozen=True)
class Selection:
    """What to tell apt-get install, or what the repository lacks."""

    arguments: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def nothing(self) -> bool:
        return not self.arguments and self.problem is None


def select(wanted: Plan, installed: Mapping[str, Package], known: Known) -> Selection:
    """What is missing, each with its full version (``libcuda1=580.95.05-1``), and ``name-`` for what must go."""
    exact = {
        entry: _at_version(entry.split(" | "), wanted.version, known)
        for entry in wanted.packages.exact
        if not is_installed(installed, entry, wanted.version)
    }
    others = {
        entry: next((name for name in entry.split(" | ") if known.get(name)), None)
        for entry in wanted.packages.others
        if not is_installed(installed, entry, None)
    }
    chosen = {**exact, **others}
    if lacking := [entry for entry, choice in chosen.items() if choice is None]:
        return Selection(problem=_lacks(wanted, lacking[0], known))
    unwanted = [name for name in wanted.packages.unwanted if name in installed]
    back = [_at_version([name], wanted.version, known) for name in strays(installed, wanted.version)]
    arguments = dict.fromkeys(choice for choice in (*chosen.values(), *back) if choice)
    kept = (choice for choice in arguments if choice.partition("=")[0] not in unwanted)
    return Selection((*kept, *(f"{name}-" for name in unwanted)))


def _at_version(names: Sequence[str], version: DriverVersion, known: Known) -> str | None:
    for name in names:
        for each in known.get(name, ()):
            if DriverVersion.of_package(each) == version:
                return f"{name}={each}"
    return None


def _lacks(wanted: Plan, entry: str, known: Known) -> str:
    where = wanted.repository.uri if wanted.repository else "the distribution's repositories"
    has = dict.fromkeys(version for name in entry.split(" | ") for version in known.get(name, ()))
    offer = f"it has {', '.join(list(has)[:8])}" if has else "it has none at all"
    remedy = "set another nvidia_driver_version"
    if not has and wanted.repository is None:
        remedy = "enable the components contrib and non-free (Debian) or restricted (Ubuntu), or set the source nvidia"
    return f"driver {wanted.version}: {where} has no {entry} of this version, {offer}; {remedy}"


def known_versions(madison: Sequence[str]) -> Known:
    """What ``apt-cache madison`` lists (apt-cache(8)), newest first as it does."""
    known: Known = {}
    for line in madison:
        match = re.match(r"\s*(\S+) \| (\S+) \| ", line)
        if match:
            known.setdefault(match.group(1), []).append(match.group(2))
    return known
