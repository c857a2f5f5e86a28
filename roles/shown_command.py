"""A command that shows what it does: for work of minutes, which must not be silent."""

from pyinfra.api.arguments import ConnectorArguments
from pyinfra.api.command import StringCommand
from pyinfra.api.host import Host
from pyinfra.api.state import State
from pyinfra.connectors.util import CommandOutput


class ShownCommand(StringCommand):
    """A command whose output is shown while it runs, without ``-v``."""

    def execute(self, state: State, host: Host, connector_arguments: ConnectorArguments) -> tuple[bool, CommandOutput]:
        succeeded, _ = host.run_shell_command(
            self, print_output=True, print_input=state.print_input, **connector_arguments
        )
        # pyinfra prints the output of a failed command, which has been seen already.
        return succeeded, CommandOutput([])
