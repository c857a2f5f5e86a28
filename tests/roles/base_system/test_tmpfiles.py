import pytest
from pyinfra.api.exceptions import PyinfraError

from roles.base_system import tmpfiles
from tests.roles.fake_host import changes

CONF = "/etc/tmpfiles.d/rayrack.conf"
AS_DECLARED = ["wanted /opt/rayrack 0755 root root", "found /opt/rayrack 755 root root"]
MISSING = ["wanted /opt/rayrack 0755 root root"]


def test_directories_as_declared_are_left_alone() -> None:
    assert changes(tmpfiles.applied, {CONF: AS_DECLARED}, path=CONF) == {}


def test_a_directory_that_cannot_be_made_fails_the_run() -> None:
    blocked = {"systemd-tmpfiles": "", "false": {"success": False}, CONF: MISSING}
    with pytest.raises(PyinfraError):
        changes(tmpfiles.applied, blocked, path=CONF)
