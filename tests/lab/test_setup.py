"""What `make` does with environments: never to somebody's own, and `make verify` installs nothing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.lab.lab import ROOT

FAKE_PYTHON = """\
#!/bin/sh
case "$1 $2" in
  *_base_executable*) echo "$0"; exit;;
  *print*) echo 3.11; exit;;
  "-c "*) exit;;
esac
mkdir -p .venv/bin
printf '#!/bin/sh\\ntest ! -e fails\\n' > .venv/bin/pip
chmod +x .venv/bin/pip
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The scripts alone, with a Python that makes empty environments, on a Debian that has every package."""
    for name in ("tests/lab/setup.sh", "tests/hosts/verify.sh"):
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    for name, script in {
        "apt-get": "#!/bin/sh\n",
        "dpkg-query": "#!/bin/sh\necho installed\n",
        "python": FAKE_PYTHON,
    }.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(script)
        program.chmod(0o755)
    return tmp_path


def run(checkout: Path, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{checkout / 'bin'}:/usr/bin:/bin"
    return subprocess.run(
        ["bash", str(checkout / script), *arguments],
        env={"PATH": path, "PYTHON": str(checkout / "bin/python"), "HOME": os.environ.get("HOME", "/"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def tools(checkout: Path) -> subprocess.CompletedProcess[str]:
    return run(checkout, "tests/lab/setup.sh", "tools")


def test_an_environment_of_somebodys_own_is_left_as_it_is(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv/mine").touch()
    result = tools(checkout)
    assert result.returncode == 1
    assert "is left as it is: move it away (mv .venv .venv.mine)" in result.stderr
    assert [file.name for file in (checkout / ".venv").iterdir()] == ["mine"]


def test_ours_is_made_once_and_again_when_the_project_changes(checkout: Path) -> None:
    assert "virtual environment: done" in tools(checkout).stdout
    assert tools(checkout).stdout == ""
    (checkout / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert "virtual environment: done" in tools(checkout).stdout


def test_an_environment_that_was_not_finished_is_finished(checkout: Path) -> None:
    (checkout / "fails").touch()
    assert tools(checkout).returncode == 1
    (checkout / "fails").unlink()
    assert tools(checkout).returncode == 0


def test_the_checks_say_in_one_line_what_to_install(checkout: Path) -> None:
    (checkout / "bin/python3").write_text("#!/bin/sh\nexit 1\n")
    (checkout / "bin/python3").chmod(0o755)
    result = run(checkout, "tests/hosts/verify.sh", "inventories/prod.py")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "pip install -e '.[verify]'" in line
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("active", [True, False])
def test_the_checks_run_with_the_environment_that_is_there(checkout: Path, active: bool) -> None:
    program = checkout / ("elsewhere" if active else ".venv") / "bin/python"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    environment = {"VIRTUAL_ENV": str(checkout / "elsewhere")} if active else {}
    result = run(checkout, "tests/hosts/verify.sh", "inventories/prod.py", **environment)
    assert result.stdout.splitlines()[-1] == "-m pytest tests/hosts --inventory inventories/prod.py"
