"""The size of /dev/shm, which Ray's object store and PyTorch's workers live in."""

from collections.abc import Generator

from pyinfra.api.operation import operation
from pyinfra.context import host

from roles.base_system.facts import DevShmMib


def fstab_line(mib: int) -> str:
    """Read at boot by systemd-remount-fs.service. ``x-`` options are comments (mount(8)); this one marks our line."""
    return f"tmpfs /dev/shm tmpfs nosuid,nodev,size={mib}m,x-rayrack 0 0"


@operation()
def resized(mib: int) -> Generator[str, None, None]:
    """
    Give the mounted /dev/shm another size; what it holds stays.

    + mib: its size in MiB
    """
    if host.get_fact(DevShmMib) == mib:
        host.noop(f"shared memory has {mib} MiB")
    else:
        yield f"mount -o remount,size={mib}m /dev/shm"
