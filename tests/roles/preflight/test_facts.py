"""The facts' commands, run by a real shell."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from roles.preflight.facts import HostFacts, ReachedAddress, UserId
from roles.storage import facts as storage

# The kernel's limit of one argument (MAX_ARG_STRLEN): `sh -c COMMAND` is one.
LONGEST_ARGUMENT_BYTES = 131_072


@pytest.fixture(autouse=True)
def _this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's distribution may have no Python of its own."""
    monkeypatch.setattr(storage, "PYTHON", sys.executable)


def output(command: str, **environment: str) -> list[str]:
    result = subprocess.run(
        ["/bin/sh", "-c", command],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
        env={"PATH": "/usr/bin:/bin", **environment},
    )
    return result.stdout.splitlines()


def test_this_machine_is_described_in_one_go(tmp_path: Path) -> None:
    command = HostFacts().command(paths=[str(tmp_path)], weights_dir=str(tmp_path), cache_dir=str(tmp_path))
    info = HostFacts().process(output(command))
    assert info.failure is None
    assert info.machine == platform.machine()
    assert info.cpus == len(os.sched_getaffinity(0))
    assert info.memory_mib > 100
    assert info.os_id
    assert info.python_version.startswith("3.")
    assert [disk.path for disk in info.disks] == [str(tmp_path)]


def test_a_host_without_python_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PYTHON", "/nonexistent/python3")
    info = HostFacts().process(output(HostFacts().command(paths=["/"], weights_dir="/", cache_dir="/c")))
    assert info.failure == "has no /nonexistent/python3, which host programs need; apt-get install python3"


def test_a_fact_that_failed_is_a_failure_and_not_an_empty_host() -> None:
    assert HostFacts.default().failure


def test_the_command_fits_into_an_argument_with_room_to_spare() -> None:
    command = HostFacts().command(
        paths=["/tmp/ray", "/opt/rayrack/runtime", "/var/lib/rayrack/models"], weights_dir="/w", cache_dir="/c"
    )
    assert len(command) < LONGEST_ARGUMENT_BYTES / 4


def test_who_runs_commands_is_asked_of_the_kernel_and_not_of_a_variable() -> None:
    assert UserId().process(output(UserId().command())) == os.geteuid()
    assert UserId().process(output(UserId().command(), USER="nobody")) == os.geteuid()


@pytest.mark.parametrize("address", ["10.0.0.11", "fd00::11"])
def test_the_address_a_host_was_reached_at_is_its_own_side_of_the_ssh_connection(address: str) -> None:
    lines = output(ReachedAddress().command(), SSH_CONNECTION=f"10.0.0.1 50000 {address} 22")
    assert ReachedAddress().process(lines) == address


@pytest.mark.parametrize("connection", ["", "127.0.0.1 50000 127.0.0.1 22"])
def test_without_ssh_or_over_loopback_the_default_route_tells_the_address(connection: str) -> None:
    lines = output(ReachedAddress().command(), SSH_CONNECTION=connection)
    assert ReachedAddress().process(lines) == lines[-1]
    assert lines[-1].count(".") == 3
