"""Which arguments of pyinfra are replaced, and which programs are left alone."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PACKAGING = Path(__file__).parents[2] / "packaging"
MODULE = PACKAGING / "rayrack_deploy_directory.py"
PTH = PACKAGING / "rayrack_deploy_directory.pth"

_spec = importlib.util.spec_from_file_location("rayrack_deploy_directory_in_repo", MODULE)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
expand: Callable[[list[str]], list[str]] = _module.expand


@pytest.fixture(autouse=True)
def _in_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory with deploy files, one that means nothing to pyinfra, and what the shell's * would leave out."""
    for name in ("deploy/20_b.py", "deploy/00_a.py", "deploy/.hidden.py", "deploy/inputs/x.py", "deploy/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)


def typed(line: str) -> str:
    """What pyinfra sees of a command line."""
    return " ".join(expand(line.split()))


def test_a_directory_becomes_its_python_files_in_name_order_as_the_shell_would_list_them() -> None:
    shell = subprocess.check_output(["sh", "-c", "echo pyinfra inventory.py deploy/*.py"], text=True).strip()
    assert typed("pyinfra inventory.py deploy/") == typed("pyinfra inventory.py deploy") == shell
    assert shell.split()[2:] == ["deploy/00_a.py", "deploy/20_b.py"]


@pytest.mark.parametrize(
    "line",
    [
        "pyinfra -y inventory.py deploy/",
        "pyinfra inventory.py deploy/ -y --dry --diff",
        "pyinfra --limit h1 inventory.py deploy/ --data key=value --json",
        "pyinfra --limit=h1 inventory.py --data models_file=deploy deploy/",
        "pyinfra @local deploy/",
    ],
)
def test_options_may_stand_anywhere(line: str) -> None:
    assert typed(line) == line.replace("deploy/", "deploy/00_a.py deploy/20_b.py")


def test_a_directory_may_stand_beside_files() -> None:
    assert typed("pyinfra i.py before.py deploy/") == "pyinfra i.py before.py deploy/00_a.py deploy/20_b.py"


@pytest.mark.parametrize(
    "line",
    [
        "pyinfra i.py deploy.py --limit deploy",
        "pyinfra i.py deploy.py --group-data deploy/",
        "pyinfra i.py --chdir deploy 00_a.py",
        "pyinfra i.py exec -- ls deploy/",
        "pyinfra i.py files.directory deploy/",
        "pyinfra i.py fact files.Directory deploy/",
        "pyinfra i.py empty/",
        "pyinfra i.py absent/",
        "pyinfra deploy/",
        "pyinfra --help",
        "pyinfra",
    ],
)
def test_a_directory_that_is_meant_as_something_else_stays(line: str) -> None:
    assert typed(line) == line


def test_the_options_that_take_a_value_are_those_of_this_pyinfra() -> None:
    # in a process of its own: pyinfra_cli replaces parts of the standard library when it is imported
    code = (
        "from pyinfra_cli.main import cli\n"
        "for parameter in cli.params:\n"
        "    if parameter.opts[0].startswith('-') and not (parameter.is_flag or parameter.count):\n"
        "        print(*parameter.opts)"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60)
    assert set(printed.split()) == set(_module.OPTIONS_WITH_VALUE)


def start_python(site_directory: Path, program: str) -> "subprocess.CompletedProcess[str]":
    """What a program of this name sees of its arguments where these ``.pth`` files are installed."""
    argv = [str(site_directory / program), "i.py", "deploy/"]
    code = f"import sys, site; sys.argv = {argv}; site.addsitedir({str(site_directory)!r}); print(*sys.argv[1:])"
    # -S: without the site-packages of the environment that runs the tests, where rayrack is installed already
    return subprocess.run([sys.executable, "-ISc", code], capture_output=True, text=True, check=True, timeout=60)


@pytest.fixture
def site_directory(tmp_path: Path) -> Path:
    directory = tmp_path / "site"
    directory.mkdir()
    (directory / PTH.name).write_text(PTH.read_text())
    return directory


def test_only_the_program_named_pyinfra_is_touched(site_directory: Path) -> None:
    (site_directory / MODULE.name).write_text(MODULE.read_text())
    assert start_python(site_directory, "pyinfra").stdout == "i.py deploy/00_a.py deploy/20_b.py\n"
    assert start_python(site_directory, "pyinfra-other").stdout == "i.py deploy/\n"


@pytest.mark.parametrize("module", [None, "raise RuntimeError", "not python", "raise SystemError"])
def test_python_starts_in_silence_when_the_module_is_gone_or_broken(site_directory: Path, module: str | None) -> None:
    if module is not None:
        (site_directory / MODULE.name).write_text(module)
    result = start_python(site_directory, "pyinfra")
    assert (result.stdout, result.stderr) == ("i.py deploy/\n", "")


def test_the_pth_file_is_one_line_that_python_executes() -> None:
    (line,) = PTH.read_text().splitlines()
    assert line.startswith("import "), "site runs only lines that start so, and takes others for directories"
