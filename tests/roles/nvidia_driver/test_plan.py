"""Which packages at which version, and what of them is left to do."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.errors import InputError
from roles.nvidia_driver.info import Package
from roles.nvidia_driver.packages import driver_packages, headers
from roles.nvidia_driver.plan import Driver, Known, complete, missing_headers, plan, select, strays
from roles.settings import Settings
from tests.roles.nvidia_driver.hosts import FRESH, NVSWITCH, V, at_work, driver, installed, planned, version

ALL = ("nvidia-kernel-open-dkms", "nvidia-kernel-dkms", "nvidia-driver-cuda", "libcuda1", "libnvidia-ml1")
OWN = ("nvidia-persistenced",)


def known(*versions: str, fabric: bool = False) -> Known:
    names = (*ALL, *OWN, *(("nvidia-fabricmanager",) if fabric else ()))
    return {name: [f"{each}-1" for each in versions] for name in names}


def test_a_host_without_gpu_gets_nothing() -> None:
    assert plan(replace(FRESH, devices=()), driver()) is None
    assert plan(FRESH, None) is None


def test_a_fresh_host_gets_every_package_with_its_version() -> None:
    selection = select(planned(), {}, known("610.57.04", V, "580.95.05"))
    assert selection.arguments == (
        f"nvidia-kernel-open-dkms={V}-1",
        f"nvidia-driver-cuda={V}-1",
        f"libcuda1={V}-1",
        "nvidia-persistenced",
    )


def test_a_host_with_nvswitches_gets_the_fabric_manager_of_the_same_version() -> None:
    with_switch = planned(replace(FRESH, devices=(*FRESH.devices, NVSWITCH)))
    assert f"nvidia-fabricmanager={V}-1" in select(with_switch, {}, known(V, fabric=True)).arguments
    assert with_switch.packages.services == ("nvidia-persistenced.service", "nvidia-fabricmanager.service")
    problem = select(with_switch, {}, known(V)).problem
    assert problem is not None
    assert "nvidia-fabricmanager" in problem


@pytest.mark.parametrize(
    ("wish", "found", "expected"), [(None, False, False), (True, False, True), (False, True, False)]
)
def test_a_setting_outweighs_what_the_pci_bus_shows(wish: bool | None, found: bool, expected: bool) -> None:
    info = replace(FRESH, devices=(*FRESH.devices, NVSWITCH)) if found else FRESH
    assert ("nvidia-fabricmanager.service" in planned(info, fabric_manager=wish).packages.services) is expected


def test_a_version_that_the_repository_lacks_is_named_with_those_it_has() -> None:
    problem = select(planned(), {}, known("610.57.04", "580.95.05")).problem
    assert problem == (
        f"driver {V}: https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/ has no "
        "nvidia-kernel-open-dkms of this version, it has 610.57.04-1, 580.95.05-1; set another nvidia_driver_version"
    )


def test_a_distribution_without_non_free_is_told_so() -> None:
    problem = select(planned(source="distribution"), {}, {}).problem
    assert problem is not None
    assert "enable the components contrib and non-free" in problem


def test_nothing_is_left_to_do_where_all_is_installed() -> None:
    info = at_work()
    assert complete(info.packages, planned())
    # Also when the repository has gone on and lacks the version by now.
    assert select(planned(), info.packages, known("610.57.04")).nothing


def test_a_library_that_was_upgraded_away_is_brought_back() -> None:
    moved = {**installed(V), "libnvidia-ml1": Package("580.159.03-1")}
    assert strays(moved, version(V)) == ["libnvidia-ml1"]
    assert select(planned(), moved, known("580.159.03", V)).arguments == (f"libnvidia-ml1={V}-1",)


def test_a_fabric_manager_that_moved_away_is_brought_back() -> None:
    info = at_work(devices=(*FRESH.devices, NVSWITCH))
    moved = {**info.packages, "nvidia-fabricmanager": Package("580.159.03-1")}
    selection = select(planned(info), moved, known("580.159.03", V, fabric=True))
    assert selection.arguments == (f"nvidia-fabricmanager={V}-1",)


def test_debians_own_persistenced_has_a_version_of_its_own() -> None:
    wanted = planned(source="distribution", version=version("535.261.03"))
    there = {
        **installed("535.261.03", names=("nvidia-open-kernel-dkms", "nvidia-smi", "libcuda1")),
        "nvidia-persistenced": Package("535.171.04-1~deb12u1"),
    }
    assert select(wanted, there, {"nvidia-persistenced": ["535.171.04-1~deb12u1"]}).nothing


def test_the_other_kind_of_kernel_modules_goes() -> None:
    names = ("nvidia-kernel-dkms", "nvidia-driver-cuda", "libcuda1", "nvidia-persistenced")
    selection = select(planned(), installed(V, names=names), known(V))
    assert selection.arguments == (f"nvidia-kernel-open-dkms={V}-1", "nvidia-kernel-dkms-")
    assert not complete(installed(V, names=(*names, "nvidia-kernel-open-dkms")), planned())


versions = st.sampled_from(["535.261.03", "580.95.05", "580.126.20", "580.159.04", "610.57.04"])
packages = st.dictionaries(st.sampled_from([*ALL, *OWN]), versions)


@given(installed=packages, offered=st.lists(versions, unique=True), wanted=versions)
def test_whatever_is_installed_a_selection_names_only_the_wanted_version_and_ends_complete(
    installed: dict[str, str], offered: list[str], wanted: str
) -> None:
    there = {name: Package(f"{each}-1") for name, each in installed.items()}
    plan = planned(version=version(wanted), cuda=None)
    selection = select(plan, there, known(*offered))
    if selection.problem:
        assert wanted not in offered or not offered
        return
    for argument in selection.arguments:
        name, equals, at = argument.partition("=")
        if name.endswith("-"):
            there.pop(name[:-1])
        else:
            assert (at == f"{wanted}-1") if equals else name in OWN
            there[name] = Package(at or f"{offered[0]}-1")
    assert complete(there, plan)
    if wanted in offered:
        assert set(strays(there, version(wanted))) <= set(OWN)


def test_names_follow_distribution_source_and_branch() -> None:
    ubuntu = driver_packages("ubuntu2404", "nvidia", "open", 580, fabric_manager=True)
    assert ubuntu.exact[0] == "nvidia-dkms-580-open | nvidia-dkms-open"
    assert ubuntu.exact[-1] == "nvidia-fabricmanager | nvidia-fabricmanager-580"
    assert "nvidia-compute-utils-580 | nvidia-compute-utils" in ubuntu.exact
    server = driver_packages("ubuntu2404", "distribution", "proprietary", 580, fabric_manager=False)
    assert server.exact[0] == "nvidia-dkms-580-server"
    assert server.unwanted == ("nvidia-dkms-580-server-open",)
    debian = driver_packages("debian12", "distribution", "open", 535, fabric_manager=False)
    assert debian.exact == ("nvidia-open-kernel-dkms", "nvidia-smi", "libcuda1")


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        (("linux-image-6.1.0-39-amd64", "linux-image-amd64"), ["linux-headers-amd64"]),
        (("linux-image-6.1.0-39-cloud-amd64", "linux-image-cloud-amd64"), ["linux-headers-cloud-amd64"]),
        (("linux-image-6.8.0-85-generic", "linux-image-generic-hwe-24.04"), ["linux-headers-generic-hwe-24.04"]),
        (("linux-image-unsigned-6.8.0-85-generic",), []),
        ((), []),
    ],
)
def test_kernels_to_come_bring_their_headers(installed: tuple[str, ...], expected: list[str]) -> None:
    assert headers("K", installed) == ("linux-headers-K", *expected)


def test_headers_that_are_there_are_not_missed() -> None:
    assert missing_headers(FRESH, planned()) == ["linux-headers-6.1.0-39-amd64", "linux-headers-amd64"]
    assert missing_headers(at_work(), planned(at_work())) == []


def test_a_mirror_takes_the_place_of_nvidias_repository() -> None:
    wanted = planned(repository="http://mirror/cuda/debian12/x86_64", repository_key="KEY").repository
    assert wanted is not None
    assert (wanted.uri, wanted.key) == ("http://mirror/cuda/debian12/x86_64/", "KEY")
    arm = planned(replace(FRESH, machine="aarch64", distribution="debian13")).repository
    assert arm is not None
    assert arm.uri.endswith("/debian13/sbsa/")
    assert arm.key_url.endswith("/debian13/sbsa/8793F200.pub")


def test_settings_become_a_driver(tmp_path: Path) -> None:
    key = tmp_path / "key.asc"
    key.write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n")
    settings = Settings(nvidia_driver_version=V, nvidia_driver_repository_key=str(key), lab_skip_cuda_check=True)
    found = Driver.from_settings(settings, "13.0")
    assert found is not None
    assert (found.version, found.modules, found.cuda) == (version(V), "open", None)
    assert found.repository_key == key.read_text()
    assert Driver.from_settings(Settings(), "13.0") is None


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file"), (b"\x99\x01", "armored"), (b"text", "no armored")]
)
def test_a_key_that_cannot_be_used_is_one_line(tmp_path: Path, content: bytes | None, reason: str) -> None:
    key = tmp_path / "key"
    if content is not None:
        key.write_bytes(content)
    with pytest.raises(InputError, match=reason):
        Driver.from_settings(Settings(nvidia_driver_version=V, nvidia_driver_repository_key=str(key)), None)
