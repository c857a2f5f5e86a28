"""Lets ``pyinfra INVENTORY deploy/`` take a directory: it becomes the directory's ``*.py`` files, in name order.

Stock pyinfra 3.10 refuses an operand that does not end in ``.py``. This module is imported by a ``.pth`` file at
interpreter start, so it must be cheap, must not fail, and must touch no program but pyinfra.
"""

import os
import sys

# pyinfra's options that take the next argument as their value (`pyinfra --help`; a test compares).
OPTIONS_WITH_VALUE = frozenset(
    [
        "--chdir",
        "--config",
        "--data",
        "--dzdo-user",
        "--exclude",
        "--fail-percent",
        "--group-data",
        "--key",
        "--key-password",
        "--limit",
        "--parallel",
        "--password",
        "--port",
        "--retry",
        "--retry-delay",
        "--shell-executable",
        "--ssh-key",
        "--ssh-key-password",
        "--ssh-password",
        "--ssh-port",
        "--ssh-user",
        "--su-user",
        "--sudo-user",
        "--user",
    ]
)


def expand(argv: list[str]) -> list[str]:
    """Replace each directory among the deploy files by the files in it; everything else stays as it is.

    Only where all operands after the inventory are deploy files or directories of them: `pyinfra INVENTORY exec -- ls
    deploy/` and `pyinfra INVENTORY files.directory deploy/` mean the directory.
    """
    files_at = {
        position: _deploy_files(argv[position])
        for position in _operands(argv)[1:]
        if not argv[position].endswith(".py")
    }
    if "--" in argv or not all(files_at.values()):
        return argv
    expanded: list[str] = []
    for position, argument in enumerate(argv):
        expanded.extend(files_at.get(position, [argument]))
    return expanded


def _operands(argv: list[str]) -> list[int]:
    """Positions of the arguments that are neither the program, nor options, nor values of options."""
    return [
        position
        for position in range(1, len(argv))
        if not argv[position].startswith("-") and argv[position - 1] not in OPTIONS_WITH_VALUE
    ]


def _deploy_files(directory: str) -> list[str]:
    """The same files, in the same order, as the shell's ``directory/*.py``; none if it is not a directory."""
    if not os.path.isdir(directory):
        return []
    names = sorted(name for name in os.listdir(directory) if name.endswith(".py") and not name.startswith("."))
    return [os.path.join(directory, name) for name in names]


def _program_is_pyinfra(argv: list[str]) -> bool:
    return bool(argv) and os.path.basename(argv[0]) == "pyinfra"


if _program_is_pyinfra(getattr(sys, "argv", [])):
    sys.argv[:] = expand(sys.argv)
