"""Reads an inventory as pyinfra does, in a process of its own.

Importing ``pyinfra_cli`` patches the whole process for gevent (sockets, threads, subprocesses); neither pytest nor the
load client of tests/bench should run under that.
"""

import multiprocessing
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.inputs import inventory_file
from deploy.inputs.rack import Rack, load_rack
from roles.errors import InputError

READ_LIMIT_S = 60


@dataclass(frozen=True)
class ReadInventory:
    """The rack of an inventory, and all data of each host by its name: also pyinfra's own (``ssh_user``, ...)."""

    rack: Rack
    data: Mapping[str, Mapping[str, Any]]


def read_inventory(path: str, data: Iterable[str], environ: Mapping[str, str]) -> ReadInventory:
    """Read the inventory at ``path`` with pyinfra's loader and ``--data KEY=VALUE`` overrides.

    Raises:
        InputError: the inventory, a setting or the model list is wrong.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such inventory; try inventories/prod.py")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_read, path, tuple(data), dict(environ)).result(READ_LIMIT_S)


def _read(path: str, data: Iterable[str], environ: Mapping[str, str]) -> ReadInventory:
    # Inventories read the environment, too (inventories/lab.py does).
    os.environ.clear()
    os.environ.update(environ)
    inventory = inventory_file.read(path, data)
    rack = load_rack(inventory, environ)
    return ReadInventory(rack, {host.name: dict(host.data.dict()) for host in inventory})
