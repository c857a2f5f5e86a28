"""Puts host programs on a host: modules into /opt/rayrack/lib, and a link in /opt/rayrack/bin for each that is run.

Python resolves the link before it sets ``sys.path[0]``, so programs import their neighbours in lib by plain name.
"""

from collections.abc import Sequence
from pathlib import Path

from pyinfra.api.operation import OperationMeta
from pyinfra.operations import files

LIB = "/opt/rayrack/lib"
BIN = "/opt/rayrack/bin"


def install(*, programs: Sequence[Path], modules: Sequence[Path] = ()) -> list[OperationMeta]:
    """Install ``programs`` (run by name, without ``.py``) and the ``modules`` they import.

    Returns the operations, for ``any_changed``. The list of files must be the same on every host of a run.
    """
    changes = [
        files.put(
            name=f"Host program {source.stem}",
            src=str(source),
            dest=f"{LIB}/{source.name}",
            user="root",
            group="root",
            mode="755" if source in programs else "644",
            create_remote_dir=False,
        )
        for source in (*modules, *programs)
    ]
    for source in programs:
        files.link(name=f"Link {BIN}/{source.stem}", path=f"{BIN}/{source.stem}", target=f"{LIB}/{source.name}")
    return changes
