"""Versions of drivers and packages, and which CUDA a driver runs."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.nvidia_driver.versions import DriverVersion, cuda_of_lock, too_old_for, upstream
from roles.serving_runtime.lock import LOCKS

numbers = st.tuples(st.integers(100, 999), st.integers(0, 999), st.integers(0, 99))


def text(parts: tuple[int, int, int]) -> str:
    return f"{parts[0]}.{parts[1]}.{parts[2]:02}"


def parsed(value: str) -> DriverVersion:
    version = DriverVersion.parse(value)
    assert version is not None
    return version


@given(numbers, numbers)
def test_versions_are_ordered_as_numbers(a: tuple[int, int, int], b: tuple[int, int, int]) -> None:
    assert (parsed(text(a)) < parsed(text(b))) == (a < b)
    assert (parsed(text(a)) == parsed(text(b))) == (a == b)


@given(numbers, st.sampled_from(["", "1:", "2:"]), st.from_regex(r"-[0-9a-z.~+]{1,12}", fullmatch=True))
def test_a_package_tells_its_driver_whatever_its_epoch_and_revision(
    parts: tuple[int, int, int], epoch: str, revision: str
) -> None:
    assert str(DriverVersion.of_package(f"{epoch}{text(parts)}{revision}")) == text(parts)


@given(st.text(max_size=20))
def test_no_text_breaks_the_reading_of_a_version(value: str) -> None:
    version = DriverVersion.parse(value)
    assert version is None or str(version) == value


@pytest.mark.parametrize(
    ("package_version", "expected"),
    [
        ("580.126.20-1ubuntu1", "580.126.20"),
        ("535.261.03-1~deb12u1", "535.261.03"),
        ("580.142-0ubuntu0.24.04.1", "580.142"),
        ("20220217+3~deb12u1", "20220217+3~deb12u1"),
        ("1.17.8-1", "1.17.8"),
    ],
)
def test_the_upstream_part_of_a_debian_version(package_version: str, expected: str) -> None:
    assert upstream(package_version) == expected


@pytest.mark.parametrize("package_version", ["20220217+3~deb12u1", "1.17.8-1", "1.2.1-1"])
def test_packages_with_versions_of_their_own_belong_to_no_driver(package_version: str) -> None:
    assert DriverVersion.of_package(package_version) is None


@pytest.mark.parametrize("lock", sorted(LOCKS.glob("cuda-linux-*.txt")), ids=lambda path: path.stem)
def test_every_cuda_lock_tells_its_cuda(lock: Path) -> None:
    assert cuda_of_lock(lock.read_text()) == "13.0"


def test_the_cpu_lock_has_no_cuda() -> None:
    (lock,) = LOCKS.glob("cpu-linux-*py311.txt")
    assert cuda_of_lock(lock.read_text()) is None


def test_the_lock_of_an_older_cuda_has_it_in_the_name() -> None:
    assert cuda_of_lock("torch==2.7\nnvidia-cuda-runtime-cu12==12.8.90 \\\n") == "12.8"


@pytest.mark.parametrize(
    ("driver", "cuda", "needed"),
    [
        ("580.65.06", "13.0", None),
        ("575.64.05", "13.0", 580),
        ("535.261.03", "13.0", 580),
        ("535.261.03", "12.8", None),
        ("470.256.02", "12.8", 525),
        ("450.51.05", "11.8", None),
        ("580.65.06", "14.0", None),
        ("575.64.05", "14.0", 580),
    ],
)
def test_a_driver_is_too_old_by_nvidias_table(driver: str, cuda: str, needed: int | None) -> None:
    assert too_old_for(parsed(driver), cuda) == needed
