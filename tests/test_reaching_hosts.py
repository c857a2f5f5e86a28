"""How the checks of tests/hosts find an inventory's hosts; what they find there is tested in tests/lab."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from roles.errors import InputError
from tests.hosts.inventory import read_inventory
from tests.hosts.reach import remote_of, ssh_backend

SOCKET = Path("/tmp/socket")
INVENTORY = """
head = [("gpu-01", {"ssh_user": "ops", "gpus": 1})]
workers = ["gpu-02"]
everyone = (["gpu-01", "gpu-02"], {"models_file": "inventories/models/prod.yaml", "ssh_port": 2222, "runtime": "cuda"})
"""


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    path = tmp_path / "racks.py"
    path.write_text(INVENTORY)
    return path


def ssh_command(address: str, **data: object) -> str:
    command, arguments = ssh_backend(address, data, SOCKET)._build_ssh_command("true")
    return " ".join(command) % tuple(arguments)


def pytest_on_hosts(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "tests/hosts", "--collect-only", "-q", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_an_inventory_is_read_with_its_groups_data_and_overrides(inventory: Path) -> None:
    read = read_inventory(str(inventory), ["gpus=4", "ssh_key=/keys/id"], {})
    assert [(host.name, host.is_head, host.settings.gpus) for host in read.rack.hosts] == [
        ("gpu-01", True, 4),
        ("gpu-02", False, 4),
    ]
    assert read.data["gpu-01"]["ssh_user"] == "ops"
    assert read.data["gpu-02"]["ssh_port"] == 2222
    assert read.data["gpu-02"]["ssh_key"] == "/keys/id"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("head = [", "SyntaxError"),
        ("head = [h1]", "NameError: name 'h1' is not defined"),
        ("workers = ['gpu-02']", "the group `head` must hold exactly one host"),
    ],
)
def test_a_broken_inventory_is_one_clear_line(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(InputError, match=problem):
        read_inventory(str(path), [], {})


def test_an_inventory_that_is_not_there_is_one_clear_line() -> None:
    with pytest.raises(InputError, match=r"nowhere\.py: no such inventory"):
        read_inventory("nowhere.py", [], {})


def test_an_override_without_a_value_is_one_clear_line(inventory: Path) -> None:
    with pytest.raises(InputError, match="--data gpus: must be KEY=VALUE"):
        read_inventory(str(inventory), ["gpus"], {})


def test_ssh_goes_where_and_as_whom_pyinfra_goes(tmp_path: Path) -> None:
    command = ssh_command(
        "gpu-01", ssh_user="ops", ssh_port=2222, ssh_key="/keys/id", ssh_known_hosts_file="/keys/known"
    )
    for option in ("-o User=ops", "-o Port=2222", "-i /keys/id", "-o UserKnownHostsFile=/keys/known", " gpu-01 true"):
        assert option in command


def test_ssh_takes_new_host_keys_and_refuses_changed_ones_unless_told_otherwise() -> None:
    assert "StrictHostKeyChecking=accept-new" in ssh_command("gpu-01")
    assert "StrictHostKeyChecking=yes" in ssh_command("gpu-01", ssh_strict_host_key_checking="yes")


def test_an_ssh_config_of_the_inventory_is_used() -> None:
    assert "-F /site/ssh_config" in ssh_command("gpu-01", ssh_config_file="/site/ssh_config")


def test_an_ipv6_address_is_no_host_and_port() -> None:
    assert ssh_command("fd00::11").endswith(" fd00::11 true")


def test_a_space_in_a_path_stays_in_its_option() -> None:
    assert "UserKnownHostsFile='/my keys/known'" in ssh_command("gpu-01", ssh_known_hosts_file="/my keys/known")


def test_this_machine_is_asked_without_ssh() -> None:
    assert remote_of("@local", {}, SOCKET).backend.get_connection_type() == "local"


def test_a_connector_without_counterpart_is_refused() -> None:
    with pytest.raises(InputError, match="@docker/debian: the checks reach hosts over SSH or @local only"):
        remote_of("@docker/debian", {}, SOCKET)


def test_without_an_inventory_no_check_is_collected() -> None:
    run = pytest_on_hosts()
    assert run.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "::" not in run.stdout


def test_a_wrong_inventory_ends_in_one_line_without_a_traceback() -> None:
    run = pytest_on_hosts("--inventory", "nowhere.py")
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: nowhere.py: no such inventory" in run.stderr
    assert "Traceback" not in run.stderr + run.stdout


def test_every_check_names_its_host_and_its_unit_or_model(inventory: Path) -> None:
    run = pytest_on_hosts("--inventory", str(inventory))
    assert run.returncode == 0, run.stdout + run.stderr
    names = [line.partition("::")[2] for line in run.stdout.splitlines() if "::" in line]
    assert all("[gpu-01" in name or "[gpu-02" in name for name in names)
    assert "test_unit_is_active[gpu-02-rayrack-worker]" in names
    assert "test_model_answers[gpu-01-coder]" in names
    assert "test_path_has_its_owner_and_mode[gpu-02-/etc/rayrack/ray.env]" in names
    assert not any("gpu-02-rayrack-head" in name for name in names)


def test_a_host_that_cannot_be_reached_fails_its_checks_with_what_ssh_said(tmp_path: Path) -> None:
    path = tmp_path / "gone.py"
    # Port 1 of loopback: nobody listens there.
    path.write_text("head = [('gone', {'ssh_hostname': '127.0.0.1', 'ssh_port': 1})]\nmodels = (['gone'], {})\n")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/hosts", "--inventory", str(path), "-q", "-k", "cron"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "MODEL_ID": "a/b"},
    )
    assert run.returncode == pytest.ExitCode.TESTS_FAILED
    assert "gone: not reached: ssh: connect to host 127.0.0.1 port 1: Connection refused" in run.stdout
