"""Puts a secret on a host: through stdin, so that it is in no process list, no temporary file and no output."""

import base64
import shlex
from collections.abc import Generator, Sequence

from pyinfra.api.arguments import ConnectorArguments
from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.api.deploy import deploy
from pyinfra.api.host import Host
from pyinfra.api.operation import operation
from pyinfra.api.state import State
from pyinfra.context import host

from roles.quiet import failed, quietly
from roles.secrets.facts import SecretFiles, line_of, salt
from roles.secrets.secret_file import SecretFile

# The line after the secret. Without it the connection broke, and half a secret must not take a whole one's place.
_END = "."


@deploy("Secrets")
def install(*, files: Sequence[SecretFile]) -> None:
    """The secrets that come from the operator's side. Their directories and groups are there; other files stay."""
    put(name="Secrets from the operator's side", files=files)


@operation()
def put(files: Sequence[SecretFile]) -> Generator[PyinfraCommand, None, None]:
    """Put the files that the host does not have as they are to be.

    + files: what to put where; pyinfra shows none of it
    """
    found = host.get_fact(SecretFiles, paths=[file.path for file in files], _stdin=salt()) if files else {}
    due = [file for file in files if found.get(file.path) != line_of(file)]
    if not due:
        host.noop("these secrets are there")
    for file in due:
        yield WriteSecret(file)


class WriteSecret(PyinfraCommand):
    """Writes one file, whole or not at all; pyinfra's file operations would show its text with ``--diff``."""

    def __init__(self, file: SecretFile) -> None:
        super().__init__()
        self.path = file.path
        self.command = write_command(file)
        self._content = file.content

    def __repr__(self) -> str:
        return f"WriteSecret({self.path})"

    def execute(self, state: State, host: Host, connector_arguments: ConnectorArguments) -> bool:  # noqa: ARG002
        text = base64.b64encode(self._content.get_secret_value().encode()).decode()
        arguments = {**connector_arguments, "_stdin": [text, _END]}
        written, output = quietly(host, StringCommand(self.command), arguments)
        return written or failed(host, f"cannot write {self.path}: {output.stderr.strip() or 'the connection broke'}")


def write_command(file: SecretFile) -> str:
    """The shell command that writes what comes by stdin: one line of base64, and the line that says that it was all."""
    at, new = shlex.quote(file.path), shlex.quote(f"{file.path}.new")
    # `printf` is the shell's own, so the secret is no process's argument.
    return (
        f"umask 077; IFS= read -r content; IFS= read -r end; rm -f {new}; "
        f'if [ "$end" = {_END} ]; then printf %s "$content" | base64 -d >{new}; else false; fi && '
        f"chown {file.user}:{file.group} {new} && chmod {file.mode} {new} && mv -f {new} {at}"
    )
