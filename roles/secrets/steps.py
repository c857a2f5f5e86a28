"""Puts a secret on a host: through stdin, so that it is in no process list, no temporary file and no output."""

import base64
import shlex
from collections.abc import Generator, Mapping

from pydantic import SecretStr
from pyinfra.api.arguments import ConnectorArguments
from pyinfra.api.command import PyinfraCommand, StringCommand
from pyinfra.api.deploy import deploy
from pyinfra.api.host import Host
from pyinfra.api.operation import operation
from pyinfra.api.state import State
from pyinfra.context import host

from roles.secrets.facts import SecretFiles, line_of, salt
from roles.secrets.quiet import failed, quietly

DIRECTORY = "/etc/rayrack/secrets"
# The line after the secret. Without it the connection broke, and half a secret must not take a whole one's place.
_END = "."


@deploy("Secrets")
def install(*, files: Mapping[str, SecretStr]) -> None:
    """The files in /etc/rayrack/secrets that come from the operator's side; others there are left alone."""
    paths = {f"{DIRECTORY}/{name}": content for name, content in sorted(files.items())}
    put(name="Secrets from the operator's side", contents=paths, user="root", group="root", mode="400")


@operation()
def put(contents: Mapping[str, SecretStr], user: str, group: str, mode: str) -> Generator[PyinfraCommand, None, None]:
    """Put files whose content nobody may see, unless the host has them. Their directories must be there.

    + contents: by path
    + user: owner of each
    + group: group of each
    + mode: mode of each, as `400`
    """
    found = host.get_fact(SecretFiles, paths=list(contents), _stdin=salt()) if contents else {}
    due = [path for path, text in contents.items() if found.get(path) != line_of(text, user, group, mode)]
    if not due:
        host.noop("these secrets are there")
    for path in due:
        yield WriteSecret(path, contents[path], user, group, mode)


class WriteSecret(PyinfraCommand):
    """Writes one file, whole or not at all; pyinfra's file operations would show its text with ``--diff``."""

    def __init__(self, path: str, content: SecretStr, user: str, group: str, mode: str) -> None:
        super().__init__()
        self.path = path
        self.command = write_command(path, user, group, mode)
        self._content = content

    def __repr__(self) -> str:
        return f"WriteSecret({self.path})"

    def execute(self, state: State, host: Host, connector_arguments: ConnectorArguments) -> bool:  # noqa: ARG002
        text = base64.b64encode(self._content.get_secret_value().encode()).decode()
        arguments = {**connector_arguments, "_stdin": [text, _END]}
        written, output = quietly(host, StringCommand(self.command), arguments)
        return written or failed(host, f"cannot write {self.path}: {output.stderr.strip() or 'the connection broke'}")


def write_command(path: str, user: str, group: str, mode: str) -> str:
    """The shell command that writes what comes by stdin: one line of base64, and the line that says that it was all."""
    at, new = shlex.quote(path), shlex.quote(f"{path}.new")
    # `printf` is the shell's own, so the secret is no process's argument.
    return (
        f"umask 077; IFS= read -r content; IFS= read -r end; rm -f {new}; "
        f'if [ "$end" = {_END} ]; then printf %s "$content" | base64 -d >{new}; else false; fi && '
        f"chown {user}:{group} {new} && chmod {mode} {new} && mv -f {new} {at}"
    )
