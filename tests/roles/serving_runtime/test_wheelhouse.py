"""With the real pip, which finds tiny wheels in a directory instead of on an index."""

import shutil
from pathlib import Path

import pytest

from roles.errors import InputError
from roles.serving_runtime import lock, wheelhouse
from tests.roles.serving_runtime.tiny_wheels import lock_text, make_wheel


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that pip takes for its index, with three wheels, and the lock of two of them."""
    directory = tmp_path / "index"
    wanted = [make_wheel(directory, "tiny"), make_wheel(directory, "torch", "2.0+cpu")]
    make_wheel(directory, "unwanted")
    monkeypatch.setattr(lock, "LOCKS", tmp_path)
    (tmp_path / "cpu-linux-x86_64-py311.txt").write_text(lock_text(wanted))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    return directory


@pytest.fixture
def house(index: Path, tmp_path: Path) -> Path:
    """A complete wheelhouse."""
    shutil.copytree(index, tmp_path / "house", ignore=shutil.ignore_patterns("unwanted*"))
    return tmp_path / "house"


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_wheelhouse_holds_exactly_the_wheels_of_the_lock(index: Path, tmp_path: Path) -> None:
    house = tmp_path / "house"
    make_wheel(house, "tiny", "0.9")
    wheelhouse.fill("cpu", "3.11", house)
    assert names(house) == ["tiny-1.0-py3-none-any.whl", "torch-2.0+cpu-py3-none-any.whl"]


def test_a_complete_wheelhouse_is_checked_and_nothing_is_downloaded(
    house: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    wheelhouse.fill("cpu", "3.11", house)
    assert capsys.readouterr().out.splitlines() == [
        f"{house}: checking for the 2 wheels of cpu-linux-x86_64-py311.txt",
        f"{house}: complete, 2 wheels, 0 MB",
    ]


def test_a_damaged_wheel_is_downloaded_again(index: Path, house: Path) -> None:
    (house / "tiny-1.0-py3-none-any.whl").write_bytes(b"half of i")
    wheelhouse.fill("cpu", "3.11", house)
    assert (house / "tiny-1.0-py3-none-any.whl").read_bytes() == (index / "tiny-1.0-py3-none-any.whl").read_bytes()


def test_a_wheel_that_is_nowhere_is_one_line(index: Path, tmp_path: Path) -> None:
    (index / "tiny-1.0-py3-none-any.whl").unlink()
    with pytest.raises(InputError) as error:
        wheelhouse.fill("cpu", "3.11", tmp_path / "house")
    assert error.value.problems == ("pip download: No matching distribution found for tiny==1.0",)


def test_a_wheel_with_another_hash_is_refused_with_one_line(index: Path, tmp_path: Path) -> None:
    (index / "tiny-1.0-py3-none-any.whl").write_bytes((index / "unwanted-1.0-py3-none-any.whl").read_bytes())
    with pytest.raises(InputError) as error:
        wheelhouse.fill("cpu", "3.11", tmp_path / "house")
    assert error.value.problems == (
        "pip download: hash mismatch: the file found for tiny==1.0 is not the one that the lock pins",
    )


def test_a_source_package_is_refused_since_nothing_is_built_on_a_host(index: Path, tmp_path: Path) -> None:
    wheel = index / "tiny-1.0-py3-none-any.whl"
    wheel.rename(index / "tiny-1.0.tar.gz")
    with pytest.raises(InputError, match=r"No matching distribution found for tiny==1.0"):
        wheelhouse.fill("cpu", "3.11", tmp_path / "house")
