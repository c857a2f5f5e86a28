"""What the preflight reads from a host: everything in one round trip."""

import ipaddress
import shlex
from collections.abc import Sequence
from pathlib import Path

from pyinfra.api.facts import FactBase

from roles.preflight.info import HostInfo
from roles.storage import facts as storage

PROGRAM = Path(__file__).parent / "host" / "host_info.py"
NO_PYTHON = "no python3"
# Asks the routing table which address this host would leave from; a UDP connect sends nothing. 192.0.2.1 is no host's
# address (RFC 5737), so the default route answers.
_ADDRESS_OF_DEFAULT_ROUTE = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    try:
        probe.connect(("192.0.2.1", 9))
        print(probe.getsockname()[0])
    except OSError:
        print("127.0.0.1")
"""


class HostFacts(FactBase[HostInfo]):
    """The distribution, the machine, who listens on which port, the disks of ``paths``, and what is installed.

    ``weights_dir``, ``cache_dir``: where downloaded weights and compile caches are looked for.
    """

    def command(self, paths: Sequence[str], weights_dir: str, cache_dir: str) -> str:
        look = f"{storage.PYTHON} -ISc {shlex.quote(PROGRAM.read_text())} {shlex.join([weights_dir, cache_dir])}"
        return (
            f"[ -x {storage.PYTHON} ] || {{ echo {shlex.quote(NO_PYTHON)}; exit 0; }}; "
            f"{storage.command(paths)} && {storage.bounded(look)}"
        )

    @staticmethod
    def default() -> HostInfo:
        return HostInfo(failure="could not be looked at (the reason stands above)")

    def process(self, output: Sequence[str]) -> HostInfo:
        if output[-1] == NO_PYTHON:
            return HostInfo(failure=f"has no {storage.PYTHON}, which host programs need; apt-get install python3")
        disks, info = output[-2:]
        return HostInfo.parse(info, storage.parse(disks))


class UserId(FactBase[int | None]):
    """Of the user that commands run as; pyinfra's own fact trusts $USER, which root may lack. None: not known."""

    def command(self) -> str:
        return "id -u"

    @staticmethod
    def default() -> int | None:
        return None

    def process(self, output: Sequence[str]) -> int:
        return int(output[-1])


class ReachedAddress(FactBase[str]):
    """The host's own address of the SSH connection; without one, or over loopback, that of its default route.

    Read it with ``_sudo=False``: sudo does not pass SSH_CONNECTION on.
    """

    def command(self) -> str:
        return f'echo "ssh $SSH_CONNECTION"; {storage.PYTHON} -ISc {shlex.quote(_ADDRESS_OF_DEFAULT_ROUTE)}'

    @staticmethod
    def default() -> str:
        return "127.0.0.1"

    def process(self, output: Sequence[str]) -> str:
        connection, default_route = output[-2:]
        fields = connection.split()  # "ssh", client address, client port, server address, server port (sshd(8))
        if len(fields) == 5 and not ipaddress.ip_address(fields[3]).is_loopback:
            return fields[3]
        return default_route
