"""`pyinfra INVENTORY deploy/` in environments into which pip and uv have just installed the project.

A console script of our own named pyinfra would race with pyinfra's: uv let it lose four times out of five. Nothing
races with a ``.pth`` file; one environment proves that badly, so the long test makes five of each kind.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import uv

REPOSITORY = Path(__file__).parents[2]
# All that the wheel is built from: roles/ and deploy/ are used from the checkout.
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "packaging")
# The program itself: `python -m uv` would install into the environment that runs this test.
UV = uv.find_uv_bin()


def run(*command: str | Path, cwd: Path | None = None, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=cwd, env={**clean_environment(), **variables}, capture_output=True, text=True, timeout=300
    )


def clean_environment() -> dict[str, str]:
    """Without the environment that runs this test."""
    return {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}


def must(*command: str | Path, cwd: Path | None = None, **variables: str) -> None:
    result = run(*command, cwd=cwd, **variables)
    assert result.returncode == 0, f"{command}:\n{result.stdout}{result.stderr}"


def pip(*options: str) -> Callable[[Path, Path], None]:
    def install(environment: Path, project: Path) -> None:
        # The pip that is here, into an environment that has none: installing pip itself takes as long as the rest.
        must(sys.executable, "-m", "venv", "--without-pip", environment)
        pip_there = (sys.executable, "-m", "pip", "--python", environment)
        must(*pip_there, "install", "--quiet", "--no-compile", *options, project)

    return install


def uv_pip(*options: str) -> Callable[[Path, Path], None]:
    def install(environment: Path, project: Path) -> None:
        must(UV, "venv", "--quiet", "--python", sys.executable, environment)
        must(UV, "pip", "install", "--quiet", "--python", environment / "bin/python", *options, project)

    return install


def uv_sync(environment: Path, project: Path) -> None:
    must(UV, "sync", "--quiet", "--python", sys.executable, cwd=project, UV_PROJECT_ENVIRONMENT=str(environment))


INSTALLERS = {
    "pip install": pip(),
    "pip install -e": pip("-e"),
    "uv pip install": uv_pip(),
    "uv pip install -e": uv_pip("-e"),
    "uv sync": uv_sync,
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what is installed, so that no installer writes into the checkout."""
    directory = tmp_path / "project"
    directory.mkdir()
    for name in BUILT_FROM:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, directory / name)
        else:
            shutil.copy(source, directory)
    return directory


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory to type the command in: two deploy files for this machine, each with one harmless operation."""
    directory = tmp_path / "checkout"
    (directory / "deploy").mkdir(parents=True)
    for name in ("10_first", "20_second"):
        (directory / "deploy" / f"{name}.py").write_text(
            "from pyinfra.context import host\nfrom pyinfra.operations import server\n"
            f"server.shell(name=f'{name} {{host.data.get(\"word\")}}', commands=['true'])\n"
        )
    return directory


def check_the_literal_command(environment: Path, checkout: Path) -> None:
    """Both files run, in order, for the limited hosts, with the data; and pyinfra's own answers stay as they are."""
    pyinfra = environment / "bin/pyinfra"
    result = run(
        pyinfra, "@local", "deploy/", "--dry", "--json", "--limit", "@local", "--data", "word=given", cwd=checkout
    )
    assert result.returncode == 0, result.stderr
    assert [planned["name"] for planned in json.loads(result.stdout)["plan"]] == ["10_first given", "20_second given"]
    assert "Invalid operations" in run(pyinfra, "@local", "nowhere/", "--dry", cwd=checkout).stderr


@pytest.mark.install
@pytest.mark.parametrize("installer", ["pip install", "uv pip install"])
def test_the_literal_command_works_after(installer: str, tmp_path: Path, project: Path, checkout: Path) -> None:
    INSTALLERS[installer](tmp_path / "environment", project)
    check_the_literal_command(tmp_path / "environment", checkout)


@pytest.mark.install
@pytest.mark.long
@pytest.mark.parametrize("attempt", range(5))
@pytest.mark.parametrize("installer", INSTALLERS)
def test_the_literal_command_works_in_each_of_five_fresh_environments_after(
    installer: str, attempt: int, tmp_path: Path, project: Path, checkout: Path
) -> None:
    INSTALLERS[installer](tmp_path / "environment", project)
    check_the_literal_command(tmp_path / "environment", checkout)
