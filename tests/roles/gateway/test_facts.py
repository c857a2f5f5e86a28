"""What the fact's command prints, read back. The outputs are those of systemd 252."""

import re
import subprocess
from pathlib import Path

import pytest

from roles.gateway.activation import State
from roles.gateway.facts import CertificateWell, GatewayPlaces, GatewayState, GatewayUnit

DOWN = """
ActiveState=inactive
Id=haproxy.service
NeedDaemonReload=no
UnitFileState=masked
"""
UP = """ActiveState=active
Id=rayrack-gateway.service
NeedDaemonReload=no
UnitFileState=enabled
"""


def read(text: str) -> State:
    return GatewayState().process(text.splitlines())


def test_a_running_gateway_is_read_with_what_it_says_of_itself() -> None:
    state = read(UP + DOWN + '{"status":"ok","config":"abc","unit":"def"}')
    assert state == State(
        active=True,
        enabled=True,
        unit_file_changed=False,
        distribution_service_active=False,
        candidate_differs=False,
        loaded_config="abc",
        loaded_unit="def",
    )


def test_a_blank_host_has_nothing() -> None:
    blank = UP.replace("=active", "=inactive").replace("=enabled", "=")
    state = read(blank + DOWN + "CandidateDiffers=yes")
    assert (state.active, state.enabled, state.candidate_differs) == (False, False, True)
    assert (state.loaded_config, state.loaded_unit) == (None, None)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("CandidateDiffers=yes", "candidate_differs"),
        ("CertificateDiffers=yes", "certificate_differs"),
        ("KeysDiffer=yes", "keys_differ"),
    ],
)
def test_each_difference_is_read_as_what_it_is(line: str, field: str) -> None:
    state = read(UP + DOWN + f'{line}\n{{"status":"ok","config":"abc","unit":"def"}}')
    fields = ("candidate_differs", "certificate_differs", "keys_differ")
    assert [name for name in fields if getattr(state, name)] == [field]
    assert state.loaded_config == "abc"


def test_what_is_there_is_read_with_its_owner(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.touch(0o640)
    command = GatewayPlaces().command([str(there), str(tmp_path / "missing")])
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20, check=True)
    found = GatewayPlaces().process(done.stdout.splitlines())
    assert found == {str(there): "root:root 640"}


def test_a_host_that_has_nothing_yet_is_read_as_such() -> None:
    places = GatewayPlaces().command(["/nowhere"])
    well = CertificateWell().command(["gpu-01"])
    for command in (places, well):
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20, check=False)
        assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("said", "there"),
    [
        (["active", "enabled"], True),
        (["inactive", "enabled"], True),
        (["active", "disabled"], True),
        (["failed", "disabled"], False),
        (["inactive"], False),
        ([], False),
    ],
)
def test_a_gateway_is_there_when_it_runs_or_would_at_the_next_boot(said: list[str], there: bool) -> None:
    assert GatewayUnit().process(said) is there


def test_a_changed_unit_file_is_seen() -> None:
    assert read(UP.replace("NeedDaemonReload=no", "NeedDaemonReload=yes") + DOWN).unit_file_changed


def test_the_distributions_service_is_not_taken_for_ours() -> None:
    state = read(UP.replace("=active", "=failed") + DOWN.replace("=inactive", "=activating"))
    assert (state.active, state.distribution_service_active) == (False, True)


def test_what_another_program_says_on_the_port_is_no_configuration_of_ours() -> None:
    for said in ("{oops", '{"config": 1}', "<html>"):
        assert read(UP + DOWN + said).loaded_config is None


def test_the_command_succeeds_where_nothing_is_installed() -> None:
    command = GatewayState().command("http://127.0.0.1:1/healthz")
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0
    assert "CandidateDiffers=yes" in done.stdout


def test_every_difference_that_the_command_tells_is_understood() -> None:
    told = re.findall(r"echo (\w+=yes)", GatewayState().command("https://127.0.0.1:8000/healthz"))
    state = GatewayState().process(told)
    assert len(told) == 3
    assert (state.candidate_differs, state.certificate_differs, state.keys_differ) == (True, True, True)
