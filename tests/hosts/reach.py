"""From an inventory to hosts that testinfra can ask: the same inventory, read and reached as pyinfra does it."""

import json
import shlex
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import testinfra.host
from testinfra.backend.base import CommandResult
from testinfra.backend.ssh import SshBackend

from deploy.inputs.rack import Rack, RackHost
from roles.errors import InputError
from tests.hosts.inventory import read_inventory

PROGRAMS = Path(__file__).parent / "programs"
SSH_CONNECT_LIMIT_S = 10
# A host that goes silent in the middle of a command is given up after three unanswered signs of life.
SSH_ALIVE_INTERVAL_S = 10


def expect(truth: bool, problem: str, then: str) -> None:
    """Fail the check with what is wrong and the next command to type, and without a traceback."""
    if not truth:
        pytest.fail(f"{problem}\n  next: {then}", pytrace=False)


def last_line(text: str) -> str:
    """Where programs say what went wrong."""
    return (text.strip().splitlines() or ["no reason given"])[-1]


@dataclass(frozen=True, eq=False)
class CheckedHost:
    """A host of the inventory, what is set for it, and the way to it. Equal to itself alone: answers are kept by it."""

    rack_host: RackHost
    remote: testinfra.host.Host
    inventory: str
    address: str
    """What ssh is told to connect to."""

    def __str__(self) -> str:
        return self.rack_host.name

    @property
    def deploy_again(self) -> str:
        """The command that repairs what a deploy sets."""
        return f"pyinfra {self.inventory} deploy/ --limit {self}"

    @cached_property
    def _refusal(self) -> tuple[str, str] | None:
        """Why the host cannot be asked as root, and what to do; kept, so that a dead host costs one time limit."""
        try:
            uid = self.remote.run("id -u")
        except RuntimeError as error:  # testinfra's, when ssh itself ends with 255; it holds the result
            said = error.args[0].stderr.strip()
            return f"{self}: not reached: {said}", "ssh to this host by hand, with the same user and key"
        self.remote.backend.sudo = uid.stdout.strip() != "0"
        allowed = self.remote.run("true")
        if allowed.rc == 0:
            return None
        return (
            f"{self}: sudo is refused: {last_line(allowed.stderr)}",
            f"on {self}: let this user use sudo without a password; pyinfra needs it, too",
        )

    @property
    def as_root(self) -> testinfra.host.Host:
        """The host, asked as root: with sudo where the login is an ordinary user."""
        if self._refusal:
            expect(False, *self._refusal)
        return self.remote

    def run(self, command: str, *args: str) -> CommandResult:
        """Run a command as root; each ``%s`` is one quoted argument."""
        return self.as_root.run(command, *args)

    def run_program(self, name: str, *args: str, python: str = "python3") -> Any:
        """Run ``programs/<name>.py`` on the host and return the JSON it prints. It is sent along, not written there."""
        source = (PROGRAMS / f"{name}.py").read_text()
        result = self.run(" ".join([python, "-IB", "-c", *["%s"] * (1 + len(args))]), source, *args)
        expect(
            result.rc == 0, f"{self}: programs/{name}.py failed there: {last_line(result.stderr)}", self.deploy_again
        )
        return json.loads(result.stdout)


@dataclass(frozen=True)
class CheckedRack:
    rack: Rack
    hosts: tuple[CheckedHost, ...]

    @property
    def head(self) -> CheckedHost:
        return next(host for host in self.hosts if host.rack_host.is_head)


@contextmanager
def open_rack(path: str, data: Iterable[str], environ: Mapping[str, str]) -> Iterator[CheckedRack]:
    """The rack of the inventory at ``path``, with ``--data KEY=VALUE`` overrides.

    Hosts are connected to when they are first asked, once, and left at the end.

    Raises:
        InputError: the inventory, a setting or the model list is wrong.
    """
    read = read_inventory(path, data, environ)
    # Not below $TMPDIR, which may be deep: the path of a socket may have 107 bytes only.
    with tempfile.TemporaryDirectory(prefix="rayrack-", dir="/tmp") as directory:
        sockets = [Path(directory) / str(number) for number in range(len(read.rack.hosts))]
        hosts = [
            CheckedHost(
                host,
                remote_of(host.name, read.data[host.name], socket),
                path,
                address_of(host.name, read.data[host.name]),
            )
            for host, socket in zip(read.rack.hosts, sockets, strict=True)
        ]
        try:
            yield CheckedRack(read.rack, tuple(hosts))
        finally:
            for socket in sockets:
                if socket.exists():
                    leave = ["ssh", "-O", "exit", "-o", f"ControlPath={socket}", "-"]
                    subprocess.run(leave, capture_output=True, check=False, timeout=10)


def remote_of(name: str, data: Mapping[str, Any], socket: Path) -> testinfra.host.Host:
    """The way to a host of the inventory; nothing is connected yet.

    Raises:
        InputError: pyinfra would reach it by a connector that the checks have no counterpart for.
    """
    if name == "@local":
        return testinfra.host.Host.get_host("local://")
    if name.startswith("@") and not name.startswith("@ssh/"):
        raise InputError(f"{name}: the checks reach hosts over SSH or @local only")
    return testinfra.host.Host(ssh_backend(address_of(name, data), data, socket))


def address_of(name: str, data: Mapping[str, Any]) -> str:
    """The address of a host of the inventory, or the name that ssh knows it by."""
    if name == "@local":
        return "localhost"
    return str(data.get("ssh_hostname") or name)


def ssh_backend(address: str, data: Mapping[str, Any], socket: Path) -> SshBackend:
    """OpenSSH with what pyinfra's connector would use: its host data first, then ssh_config, then its defaults.

    pyinfra's names: https://docs.pyinfra.com/en/3.x/connectors/ssh.html. Passwords are not supported: use an agent.
    """
    options: dict[str, object] = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": data.get("ssh_strict_host_key_checking") or "accept-new",
        "ServerAliveInterval": SSH_ALIVE_INTERVAL_S,
        "ControlMaster": "auto",
        "ControlPath": socket,
        "ControlPersist": 60,
    }
    for option, name in (("User", "ssh_user"), ("Port", "ssh_port"), ("UserKnownHostsFile", "ssh_known_hosts_file")):
        if data.get(name):
            options[option] = Path(str(data[name])).expanduser() if name.endswith("_file") else data[name]
    if data.get("ssh_key"):
        options["IdentitiesOnly"] = "yes"
    return SshBackend(
        f"[{address}]",  # in brackets, a colon of an IPv6 address is not taken for a port
        ssh_config=data.get("ssh_config_file"),
        ssh_identity_file=str(Path(str(data["ssh_key"])).expanduser()) if data.get("ssh_key") else None,
        timeout=SSH_CONNECT_LIMIT_S,
        ssh_extra_args=" ".join(f"-o {option}={shlex.quote(str(value))}" for option, value in options.items()),
    )
