"""The cluster's token: made on the head, brought to the workers, and shown to nobody, whatever the verbosity."""

from collections.abc import Generator
from typing import Any

from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, ConnectorArguments, pop_global_arguments
from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.api.host import Host
from pyinfra.api.operation import operation
from pyinfra.api.state import State
from pyinfra.context import host as this_host

from roles.quiet import failed, quietly
from roles.ray_cluster.facts import TOKEN, TokenDigest

# A file of root alone from its first byte on, and never half a token under its name.
_INTO_PLACE = f"test -s {TOKEN}.new && mv -f {TOKEN}.new {TOKEN}"
MAKE = f"umask 277; rm -f {TOKEN}.new; od -An -v -tx1 -N32 /dev/urandom | tr -d ' \\n' >{TOKEN}.new && {_INTO_PLACE}"
WRITE = f"umask 277; rm -f {TOKEN}.new; tr -d '\\n' >{TOKEN}.new && {_INTO_PLACE}"


@operation()
def made(instead_of: str | None = None) -> Generator[str, None, None]:
    """Make the token where there is none: 32 random bytes in hexadecimal.

    + instead_of: the digest of a token that is replaced; any other one that is there stays
    """
    there = this_host.get_fact(TokenDigest)
    if there is None or there == instead_of:
        yield MAKE
    else:
        this_host.noop("there is a token")


@operation()
def copied_from(head: Host, instead_of: str | None = None) -> Generator[PyinfraCommand, None, None]:
    """Give this host the token of the head.

    + head: the cluster's head; pyinfra connects to it when it is not part of the run
    + instead_of: the digest of a token that the head replaces in this run
    """
    wanted = head.get_fact(TokenDigest)
    # Before the run the head still has the old one, and that this will be a change is to be seen in the plan.
    if wanted and wanted != instead_of and wanted == this_host.get_fact(TokenDigest):
        this_host.noop("the token is the head's")
    else:
        yield CopyToken(head)


class CopyToken(PyinfraCommand):
    """From host to host through this process's memory: pyinfra's file operations would show a text with ``--diff``."""

    def __init__(self, head: Host) -> None:
        super().__init__()
        self.head = head

    def __repr__(self) -> str:
        return f"CopyToken({self.head.name})"

    def execute(self, state: State, host: Host, connector_arguments: ConnectorArguments) -> bool:
        found, output = quietly(self.head, StringCommand("cat", TOKEN), _arguments_for(state, self.head))
        if not found or not output.stdout:
            return failed(host, f"{self.head.name} has no token at {TOKEN}: deploy the head first")
        written, _ = quietly(host, StringCommand(WRITE), {**connector_arguments, "_stdin": output.stdout})
        return written or failed(host, f"cannot write {TOKEN}")


def _arguments_for(state: State, host: Host) -> dict[str, Any]:
    """How commands run on a host that is not this operation's own: with its sudo, its shell."""
    arguments, _ = pop_global_arguments(state, host, {})
    return {key: value for key, value in arguments.items() if key in CONNECTOR_ARGUMENT_KEYS}
