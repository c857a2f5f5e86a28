"""The host program with real uv and tiny wheels. What it installs here is no runtime, so the import check is left out:
the lab installs the real one."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import install_runtime
import lock_wheels
import pytest
import uv
from install_runtime import Installation, read_source
from package_tools import Source
from runtimes import RuntimeProblem, Runtimes

from tests.roles.serving_runtime.tiny_wheels import lock_text, make_wheel

PROGRAM = Path(install_runtime.__file__)


@pytest.fixture
def wheelhouse(tmp_path: Path) -> Path:
    """Two wheels, and a lock of them beside the directory."""
    wheels = [make_wheel(tmp_path / "wheelhouse", name) for name in ("tiny", "other")]
    (tmp_path / "lock.txt").write_text(lock_text(wheels))
    return tmp_path / "wheelhouse"


def installation(wheelhouse: Path) -> Installation:
    lock = wheelhouse.parent / "lock.txt"
    text = lock.read_text()
    runtimes = Runtimes(wheelhouse.parent / "rayrack")
    found = Installation(
        lock_wheels.digest(text), lock, lock_wheels.read_lock(text), Source(wheelhouse=str(wheelhouse)), runtimes, 0
    )
    found.work.mkdir(parents=True)
    return found


def test_the_venv_is_of_the_hosts_python_with_byte_code_and_without_a_second_copy_of_the_files(
    wheelhouse: Path,
) -> None:
    made = installation(wheelhouse)
    made.make_venv(Path(uv.find_uv_bin()))
    assert (made.venv / "bin/python").resolve() == Path(install_runtime.PYTHON).resolve()
    (module,) = made.venv.glob("lib/python3.*/site-packages/tiny/__init__.py")
    assert list(module.parent.glob("__pycache__/*.pyc"))
    assert module.stat().st_nlink == 2, "one in the cache, one here"
    assert made.progress() == "(2 of 2 unpacked, compiling byte code)"


def test_a_venv_left_half_made_is_made_anew(wheelhouse: Path) -> None:
    made = installation(wheelhouse)
    made.make_venv(Path(uv.find_uv_bin()))
    (module,) = made.venv.glob("lib/python3.*/site-packages/tiny/__init__.py")
    module.unlink()
    (made.venv / "leftover").touch()
    made.make_venv(Path(uv.find_uv_bin()))
    assert module.is_file()
    assert not (made.venv / "leftover").exists()


def test_uv_refuses_a_wheel_that_the_lock_does_not_pin(wheelhouse: Path) -> None:
    made = installation(wheelhouse)
    with zipfile.ZipFile(wheelhouse / "tiny-1.0-py3-none-any.whl", "a") as archive:
        archive.writestr("tiny/extra.py", "")
    with pytest.raises(RuntimeProblem, match=r"^installing packages: hash mismatch: .*tiny==1.0"):
        made.make_venv(Path(uv.find_uv_bin()))


def test_a_missing_wheel_is_one_line_before_anything_is_unpacked(wheelhouse: Path) -> None:
    (wheelhouse / "other-1.0-py3-none-any.whl").unlink()
    made = installation(wheelhouse)
    with pytest.raises(RuntimeProblem) as problem:
        made.check_wheelhouse(wheelhouse)
    assert (
        str(problem.value) == f"{wheelhouse}: missing wheel: other==1.0; fill it with roles.serving_runtime.wheelhouse"
    )
    assert not made.venv.exists()


def test_a_directory_full_of_other_wheels_is_one_line_and_not_two_hundred(wheelhouse: Path, tmp_path: Path) -> None:
    pins = [lock_wheels.Pin(f"p{number}", "1", frozenset({"0" * 64})) for number in range(200)]
    (tmp_path / "lock.txt").write_text("\n".join(pin.requirement() for pin in pins))
    with pytest.raises(RuntimeProblem, match=r"missing wheel: p0==1; .*p1==1; .*p2==1 and 197 more; fill it with"):
        installation(wheelhouse).check_wheelhouse(wheelhouse)


def test_a_wheelhouse_that_is_not_there_is_one_line(wheelhouse: Path) -> None:
    with pytest.raises(RuntimeProblem, match=r"^no directory /nowhere on this host: mount the wheelhouse there"):
        installation(wheelhouse).check_wheelhouse(Path("/nowhere"))


def test_too_little_room_is_one_line_before_anything_is_unpacked(
    wheelhouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install_runtime, "ROOM_FOR_BYTE_CODE", 1e12)
    with pytest.raises(RuntimeProblem, match=r"^disk full: the runtime needs .* GiB in .*, .* GiB are free; make room"):
        installation(wheelhouse).check_wheelhouse(wheelhouse)


def test_uv_comes_out_of_its_wheel(tmp_path: Path) -> None:
    wheel = tmp_path / "wheelhouse" / "uv-1.0-py3-none-manylinux_2_17_x86_64.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("uv-1.0.data/scripts/uvx", "wrong")
        archive.writestr("uv-1.0.data/scripts/uv", "#!/bin/sh\necho uv 1.0\n")
    (tmp_path / "lock.txt").write_text(lock_text([wheel]))
    program = installation(wheel.parent).uv_program()
    assert subprocess.check_output([program], text=True) == "uv 1.0\n"


@pytest.mark.parametrize("text", ['{"wheelhose": "/srv"}', "{", "[1]", '"x"'])
def test_a_source_that_is_not_one_is_one_line(text: str) -> None:
    with pytest.raises(
        RuntimeProblem, match=r"^standard input must be a JSON object with some of wheelhouse, index_url"
    ):
        read_source(text)


def test_a_source_has_all_its_settings() -> None:
    assert read_source(json.dumps({"wheelhouse": "/srv", "no_proxy": None})) == Source(wheelhouse="/srv")
    assert read_source("") == Source()


def test_the_program_fails_with_one_line_and_no_traceback(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-EsB", PROGRAM, tmp_path / "absent.txt"],
        input="{}",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 1
    assert result.stderr == f"install_runtime.py: No such file or directory ({tmp_path}/absent.txt)\n"


def test_a_finished_runtime_is_switched_to_without_its_wheels(
    wheelhouse: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Going back to an older lock needs no download while its runtime is still there."""
    made = installation(wheelhouse)
    made.venv.mkdir()
    made.runtimes.mark_complete(made.digest, {})
    install_runtime.install(made.lock_path, Source(wheelhouse="/nowhere"), made.runtimes)
    assert made.runtimes.linked("current") == made.digest
    assert capsys.readouterr().out.splitlines()[0] == f"runtime {made.digest} is in use"


def test_the_program_uses_nothing_but_the_standard_library() -> None:
    code = "import sys; sys.path[0:0] = [sys.argv[1]]; import install_runtime"
    subprocess.run([install_runtime.PYTHON, "-EsSB", "-c", code, PROGRAM.parent], check=True, timeout=60)
