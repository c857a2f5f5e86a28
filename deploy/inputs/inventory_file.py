"""Reads an inventory as pyinfra does, without connecting to anybody."""

from collections.abc import Iterable
from pathlib import Path

from pyinfra.api.inventory import Inventory

from roles.errors import InputError


def read(path: str, data: Iterable[str]) -> Inventory:
    """The inventory at ``path`` with ``--data KEY=VALUE`` overrides.

    Importing ``pyinfra_cli`` patches the whole process for gevent, so this is for processes that do little else.

    Raises:
        InputError: the inventory cannot be read.
    """
    from pyinfra.api.state import State
    from pyinfra.context import ctx_state
    from pyinfra_cli.inventory import make_inventory
    from pyinfra_cli.util import parse_cli_arg

    overrides = {}
    for item in data:
        key, equals, value = item.partition("=")
        if not equals:
            raise InputError(f"--data {item}: must be KEY=VALUE")
        overrides[key] = parse_cli_arg(value)
    try:
        with ctx_state.use(State()):
            inventory: Inventory = make_inventory(path, override_data=overrides, cwd=str(Path.cwd()))
    except Exception as error:  # an inventory is a program of the operator's: anything may go wrong in it
        cause = error.__context__ or error  # pyinfra wraps it in an error that cannot be printed
        raise InputError(f"{path}: {type(cause).__name__}: {cause}") from None
    return inventory
