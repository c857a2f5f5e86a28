"""Directories by tmpfiles.d(5): one file declares them, systemd makes them now and again at every boot."""

import shlex
from collections.abc import Generator

from pyinfra.api.operation import operation
from pyinfra.context import host

from roles.base_system.facts import TmpfilesDrift


@operation()
def applied(path: str) -> Generator[str, None, None]:
    """
    Make the directories that a tmpfiles.d file declares, where they are missing or have another owner or mode.

    + path: the file on the host
    """
    if not host.get_fact(TmpfilesDrift, path=path):
        host.noop(f"all directories of {path} are as declared")
        return
    yield f"systemd-tmpfiles --create {shlex.quote(path)}"
    # systemd-tmpfiles warns and succeeds where something else stands in a directory's place.
    if left := host.get_fact(TmpfilesDrift, path=path):
        problem = f"{', '.join(left)}: not as {path} declares; remove what stands there (a file or a link?)"
        yield f"echo {shlex.quote(problem)} >&2; false"
