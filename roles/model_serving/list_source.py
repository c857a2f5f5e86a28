"""Where the model list of a run comes from. An explicit one wins: a forgotten variable cannot empty production."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from roles import field_errors, plain_data
from roles.errors import InputError

LIST_VARIABLE = "MODELS_CONFIG"
SINGLE_VARIABLE = "MODEL_ID"


@dataclass(frozen=True)
class Source:
    """One place that a list comes from.

    ``kind``: a YAML ``file``, a JSON ``array`` in a variable, or a ``single`` model id in a variable. ``name``: the
    file's path or the variable's name. ``text``: the variable's value; files are read by ``raw``.
    """

    kind: Literal["file", "array", "single"]
    name: str
    text: str = ""

    def where(self, path: field_errors.Path) -> str:
        """``("models", 2, "dtype")`` as an error names it: ``models/lab.yaml: models[2].dtype``."""
        if self.kind == "array":
            path = path[1:]
        elif self.kind == "single":
            path = [part for part in path[2:] if part != "model_id"]
        return f"{self.name}: {field_errors.path(path)}" if path else self.name

    def raw(self) -> bytes:
        """What the file holds, up to a little more than a list may have."""
        try:
            with Path(self.name).open("rb") as file:
                return file.read(plain_data.MAX_BYTES + 1)
        except OSError as error:
            place = "" if self.name.startswith("/") else f" (looked for it from {Path.cwd()})"
            raise InputError(f"{self.name}: cannot read the model list: {error.strerror}{place}") from None


def choose_source(data_override: object, inventory_file: object, environ: Mapping[str, str]) -> Source:
    """``--data models_file=``, else the inventory's ``models_file``, else ``MODELS_CONFIG``, else ``MODEL_ID``.

    pyinfra merges the first two in ``host.data``. Apart they are, on a host of the inventory::

        data_override = host.inventory.get_override_data().get("models_file")
        inventory_file = {**host.inventory.get_data(), **host.group_data, **host.host_data}.get("models_file")

    Both may be of any type: pyinfra reads ``--data models_file=1`` as a number. None means not set, and so does a
    variable of nothing but spaces. A variable beside the inventory's list stops the run, as nobody can tell which of
    the two was meant; ``--data`` says it.
    """
    variables = [name for name in (LIST_VARIABLE, SINGLE_VARIABLE) if environ.get(name, "").strip()]
    if data_override is not None:
        return Source("file", _file_name(data_override, "--data models_file"))
    if inventory_file is not None:
        name = _file_name(inventory_file, "models_file")
        if variables:
            raise InputError(
                f"{' and '.join(variables)}: set in the environment while the inventory's models_file is {name}: "
                f"unset {' '.join(variables)}, or choose the list with --data models_file=..."
            )
        return Source("file", name)
    if not variables:
        raise InputError(
            f"no model list: set models_file in the inventory or with --data models_file=..., or the variable "
            f"{LIST_VARIABLE} or {SINGLE_VARIABLE}"
        )
    kind: Literal["array", "single"] = "array" if variables[0] == LIST_VARIABLE else "single"
    return Source(kind, variables[0], environ[variables[0]])


def _file_name(value: object, setting: str) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise InputError(f"{setting}: must be the path of a model list, not {field_errors.shown(value)}")
    return value
