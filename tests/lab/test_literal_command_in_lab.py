"""`pyinfra INVENTORY deploy/` on deployed hosts, with the options pyinfra's users know, and with a stock pyinfra."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import uv

from tests.conftest import DeployedRack
from tests.lab.lab import INVENTORY, ROOT, program
from tests.lab.test_deploy_again import changes

CHANGED = ("--data", "gateway_maxconn=321")
OPERATOR = ("pyinfra==3.10.0", "pydantic", "jinja2", "pyyaml", "nvidia-ml-py>=13.580,<14")


def pyinfra(rack: DeployedRack, *arguments: str, command: str = "") -> subprocess.CompletedProcess[str]:
    """As typed in a shell; what goes to stdout and what to stderr stays apart."""
    return subprocess.run(
        [command or program("pyinfra"), INVENTORY, *arguments],
        cwd=ROOT,
        env=rack.lab.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_diff_shows_the_line_that_a_change_would_alter_and_alters_nothing(rack: DeployedRack) -> None:
    shown = pyinfra(rack, "deploy/", "--dry", "--diff", *CHANGED)
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"\+ *maxconn 321$", shown.stdout + shown.stderr, re.MULTILINE), shown.stderr
    assert "maxconn 321" not in rack.lab.read(rack.head, "cat /etc/rayrack/gateway/haproxy.cfg")


def test_json_is_all_that_stands_on_stdout(rack: DeployedRack) -> None:
    planned = pyinfra(rack, "deploy/", "--dry", "--json", *CHANGED)
    assert planned.returncode == 0, planned.stderr
    names = [operation["name"] for operation in json.loads(planned.stdout)["plan"]]
    assert any(name.startswith("Gateway | ") for name in names)


def test_limit_leaves_the_other_hosts_out(rack: DeployedRack) -> None:
    limited = pyinfra(rack, "deploy/", "-y", "--limit", rack.worker)
    assert limited.returncode == 0, limited.stderr
    assert f"[{rack.worker}]" in limited.stderr + limited.stdout
    assert f"[{rack.head}] Ready" not in limited.stderr + limited.stdout


@pytest.mark.long
def test_a_stock_pyinfra_takes_the_files_one_by_one(rack: DeployedRack, tmp_path: Path) -> None:
    """One that never saw this project: as the shell expands `deploy/*.py`."""
    subprocess.run([uv.find_uv_bin(), "venv", "-q", "--python", sys.executable, tmp_path / "stock"], check=True)
    install = [uv.find_uv_bin(), "pip", "install", "-q", "--python", tmp_path / "stock/bin/python", *OPERATOR]
    subprocess.run(install, check=True, timeout=300)
    files = [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("deploy/*.py"))]
    deployed = pyinfra(rack, *files, "-y", command=str(tmp_path / "stock/bin/pyinfra"))
    assert deployed.returncode == 0, deployed.stderr
    whole = subprocess.CompletedProcess(deployed.args, 0, deployed.stdout + deployed.stderr, "")
    assert changes(whole) == set()
