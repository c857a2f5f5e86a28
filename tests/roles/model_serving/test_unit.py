"""The models' unit as it is rendered; test_units_in_lab.py has it under a real systemd."""

import re
from pathlib import Path

import pytest
from pyinfra.api.util import get_template

from tests.roles.exposure import THRESHOLD, exposure

# They need a mount namespace (systemd.exec(5)), and in one systemd 252 hides the credentials from ExecStop=.
MOUNTING = re.compile(
    r"^(ProtectSystem|ProtectHome|ProtectKernel\w+|ProtectControlGroups|ProtectProc|ProcSubset|Private(Tmp|Devices|Mounts|IPC)"
    r"|\w+Paths|RootDirectory|RootImage|TemporaryFileSystem|MountAPIVFS|DynamicUser)=",
    re.MULTILINE,
)


@pytest.fixture
def unit() -> str:
    text: str = get_template("templates/model_serving/etc/systemd/system/rayrack-model@.service.j2").render()
    return text


def test_its_sandbox_is_as_tight_as_systemd_can_measure(unit: str, tmp_path: Path) -> None:
    assert exposure("rayrack-model@tiny-a.service", unit, tmp_path) <= THRESHOLD / 10


def test_a_stop_and_a_reload_see_the_credentials(unit: str) -> None:
    assert not MOUNTING.search(unit)


def test_it_is_given_ray_s_token_and_no_other_secret(unit: str) -> None:
    found = re.findall(r"^LoadCredential=.*$", unit, re.MULTILINE)
    assert found == ["LoadCredential=ray.token:/etc/rayrack/secrets/ray.token"]
