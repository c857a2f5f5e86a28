"""New rules are kept only when SSH still comes in beside them: they are tried, this run connects anew, and confirms."""

from typing import Any

from gevent import Timeout
from pyinfra.api.arguments import ConnectorArguments
from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.api.exceptions import ConnectError
from pyinfra.api.host import Host
from pyinfra.api.state import State
from pyinfra.connectors.ssh import SSHConnector

from roles.firewall.activation import CANDIDATE, PROGRAM
from roles.quiet import failed, quietly

# Well within the minute that the host waits for the confirmation (TRIAL_S of host/firewall.py).
CONNECT_LIMIT_S = 40


class TryRules(PyinfraCommand):
    """Try the candidate, and confirm it over a connection that was made while it was tried."""

    def __repr__(self) -> str:
        return f"TryRules({CANDIDATE})"

    def execute(self, _state: State, host: Host, connector_arguments: ConnectorArguments) -> bool:
        tried, output = quietly(host, StringCommand(f"{PROGRAM} try {CANDIDATE}"), connector_arguments)
        if not tried or not output.stdout_lines:
            return failed(host, _last_line(output, "the rules could not be tried"))
        if problem := _connect_anew(host):
            return failed(
                host,
                f"no new SSH connection beside the new firewall rules ({problem}): they are not kept, and the host has "
                "its earlier ones again within a minute; look at the SSH port in the inventory, and at what else "
                "filters there (nft list ruleset)",
            )
        confirmed, output = quietly(
            host, StringCommand(f"{PROGRAM} confirm {output.stdout_lines[-1]}"), connector_arguments
        )
        return confirmed or failed(host, _last_line(output, "the rules could not be confirmed"))


def _connect_anew(host: Host) -> str:
    """Why no new connection came about; empty when one did, which this run then goes on with."""
    connector = host.connector
    if not isinstance(connector, SSHConnector):
        return ""  # this machine itself: no connection is needed
    former = connector.client
    try:
        with Timeout(CONNECT_LIMIT_S):
            connector.connect()
    except (ConnectError, Timeout) as error:
        connector.client = former
        return str(error.args[0] if isinstance(error, ConnectError) else f"none within {CONNECT_LIMIT_S} s")
    connector.disconnect()  # forgets the file transfers of the former connection, and closes nothing
    if former is not None:
        former.close()
    return ""


def _last_line(output: Any, otherwise: str) -> str:
    lines = [line for line in output.stderr_lines if line.strip()]
    return lines[-1] if lines else otherwise
