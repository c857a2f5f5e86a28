"""Lets ``pyinfra INVENTORY deploy/`` take a directory: it becomes the directory's ``*.py`` files, in name order.

Stock pyinfra 3.10 refuses an operand that does not end in ``.py``. This module is imported by a ``.pth`` file at
interpreter start, so it must be cheap, must not fail, and must touch no program but pyinfra.
"""

import os
import sys


def expand(argv: list[str]) -> list[str]:
    """Replace each directory after the inventory by its deploy files; everything else stays as it is."""
    expanded = argv[:2]
    for argument in argv[2:]:
        if not argument.startswith("-") and os.path.isdir(argument) and not _is_option_value(expanded[-1]):
            names = sorted(name for name in os.listdir(argument) if name.endswith(".py"))
            expanded.extend(os.path.join(argument, name) for name in names)
        else:
            expanded.append(argument)
    return expanded


def _is_option_value(previous: str) -> bool:
    """Only these options of pyinfra take a directory as their value."""
    return previous in ("--chdir", "--group-data")


def _program_is_pyinfra(argv: list[str]) -> bool:
    return bool(argv) and os.path.basename(argv[0]) == "pyinfra"


if _program_is_pyinfra(getattr(sys, "argv", [])):
    sys.argv[:] = expand(sys.argv)
