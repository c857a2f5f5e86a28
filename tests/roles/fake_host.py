"""Runs a role's steps against pyinfra's @fake connector, which answers commands from a table and touches nothing."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pyinfra.api.command import FileUploadCommand, StringCommand
from pyinfra.api.config import Config
from pyinfra.api.connect import connect_all, disconnect_all
from pyinfra.api.deploy import add_deploy
from pyinfra.api.inventory import Inventory
from pyinfra.api.operations import run_ops
from pyinfra.api.state import State

Responses = Mapping[str | re.Pattern[str], Any]


@dataclass(frozen=True)
class Change:
    """An operation that changed the host: what it ran, and the files it put there."""

    commands: tuple[str, ...]
    files: Mapping[str, str]


def changes(steps: Callable[..., object], responses: Responses, **arguments: object) -> dict[str, Change]:
    """Run ``steps(**arguments)`` on a fake host; what changed it, by the operation's name, in order.

    ``responses`` maps a part of a command (or a pattern) to what it prints; other commands succeed and print nothing.
    """
    host_data = {"fake_responses": dict(responses), "fake_delay": 0, "fake_delay_jitter": 0}
    inventory = Inventory(([("@fake/gpu-01", host_data)], {}))
    state = State(inventory, Config())
    connect_all(state)
    try:
        add_deploy(state, steps, **arguments)
        run_ops(state)
    finally:
        disconnect_all(state)
    (host,) = inventory
    found = {}
    for op_hash in state.get_op_order():
        operation = state.get_op_data_for_host(host, op_hash).operation_meta
        if operation.did_change():
            (name,) = state.get_op_meta(op_hash).names
            found[name.partition(" | ")[2] or name] = _change(operation._commands)
    return found


def _change(commands: Any) -> Change:
    shell = (str(command) for command in commands if isinstance(command, StringCommand))
    uploads = (command for command in commands if isinstance(command, FileUploadCommand))
    return Change(tuple(shell), {upload.dest: _text(upload.src) for upload in uploads})


def _text(source: Any) -> str:
    if hasattr(source, "getvalue"):
        value = source.getvalue()
        return value.decode() if isinstance(value, bytes) else value
    with open(source) as file:  # noqa: PTH123 - str or Path
        return file.read()
