"""Commands that pyinfra shows neither input nor output of, whatever the verbosity: what they say is ours to tell."""

from typing import Any

from pyinfra import logger
from pyinfra.api.command import StringCommand
from pyinfra.api.host import Host


def quietly(host: Host, command: StringCommand, arguments: Any) -> tuple[bool, Any]:
    """Run a command on a host. The command itself must hold no secret: processes on the host can read it."""
    return host.run_shell_command(command, print_output=False, print_input=False, **arguments)


def failed(host: Host, reason: str) -> bool:
    """Tell why, as pyinfra tells of commands that it shows; False, for ``execute`` to return."""
    host.log_styled(reason, fg="red", log_func=logger.error)
    return False
