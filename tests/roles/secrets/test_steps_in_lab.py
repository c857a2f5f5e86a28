"""Secrets over SSH, to hosts with nothing of ours on them: what came, and that nobody on either side saw it pass."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.lab import Lab
from tests.roles.secrets.test_steps import CANARY, shows

DEPLOY = """
import os
from pathlib import Path
from roles.secrets import steps
from roles.secrets.secret_file import SecretFile
from roles.secrets.source import SecretSource

secret = SecretSource(environment="CANARY").read("canary", os.environ, base=Path("/"))
steps.put(name="The canary", files=[SecretFile("/var/local/canary", secret, "root", "adm", "640")])
"""
AS_ROOT: tuple[str, ...] = ()
WITH_SUDO = ("--ssh-user", "ops", "--sudo")


@pytest.fixture
def hosts(lab: Lab) -> Iterator[Lab]:
    yield lab
    for host in ("h1", "h2"):
        lab.ssh(host, "rm -f /var/local/canary /var/local/canary.new /tmp/seen")


@pytest.mark.parametrize("options", [AS_ROOT, WITH_SUDO])
def test_a_secret_is_on_the_hosts_and_in_no_output_log_or_process_list(
    hosts: Lab, tmp_path: Path, options: tuple[str, ...]
) -> None:
    file = tmp_path / "put.py"
    file.write_text(DEPLOY)
    watch = "nohup sh -c 'until [ -e /tmp/seen.stop ]; do cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ; done' "
    hosts.ssh("h1", f"rm -f /tmp/seen.stop; {watch} >/tmp/seen 2>/dev/null </dev/null &")
    said = ""
    for _ in "ab":
        result = hosts.pyinfra(str(file), "-y", "-vvv", "--diff", "--debug", *options, env={"CANARY": CANARY})
        said += result.stdout
    hosts.ssh("h1", "touch /tmp/seen.stop")
    for host in ("h1", "h2"):
        assert hosts.read(host, "cat /var/local/canary") == CANARY
        assert hosts.read(host, "stat -c '%U:%G %a' /var/local/canary") == "root:adm 640"
        assert hosts.read(host, "ls /var/local") == "canary"
    assert "The canary" in said
    assert shows(said) == []
    assert "/var/local/canary" in hosts.read("h1", "tr '\\0' '\\n' </tmp/seen")  # the watch saw the commands pass
    assert (
        shows(hosts.ssh("h1", "cat /tmp/seen; journalctl --no-pager; cat /root/.*history 2>/dev/null; true").stdout)
        == []
    )
    found = f"grep -rlF {CANARY[8:24]} /etc /home /root /run /tmp /var --exclude-dir=lib/apt 2>/dev/null"
    assert hosts.ssh("h2", found, check=False).stdout.split() == ["/var/local/canary"]


def test_the_second_run_changes_nothing(hosts: Lab, tmp_path: Path) -> None:
    file = tmp_path / "put.py"
    file.write_text(DEPLOY)
    hosts.pyinfra(str(file), "-y", env={"CANARY": CANARY})
    written = hosts.read("h1", "stat -c %i /var/local/canary")
    hosts.pyinfra(str(file), "-y", env={"CANARY": CANARY})
    assert hosts.read("h1", "stat -c %i /var/local/canary") == written
