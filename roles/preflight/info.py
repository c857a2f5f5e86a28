"""What was found on a host. Pure: no pyinfra."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from roles.storage.ray_disk import FoundMount
from roles.storage.rules import Disk


@dataclass(frozen=True)
class Listener:
    """A listening TCP socket; the process is None when it could not be found (the kernel's own, NFS for one)."""

    address: str
    port: int
    pid: int | None = None
    process: str | None = None
    unit: str | None = None

    @property
    def is_ours(self) -> bool:
        """In the control group of one of rayrack's services: engines are, too, as children of the node's unit."""
        return self.unit is not None and self.unit.startswith("rayrack-")

    def __str__(self) -> str:
        if self.pid is None:
            return "a program that could not be found"
        details = [f"pid {self.pid}", *([self.unit] if self.unit else [])]
        return f"{self.process} ({', '.join(details)})"


@dataclass(frozen=True)
class HostInfo:
    """A host as the preflight found it."""

    failure: str | None = None
    """Why the host could not be looked at; everything below is then empty."""
    os_id: str = ""
    os_version: str = ""
    os_name: str = ""
    machine: str = ""
    """As ``uname -m`` says."""
    python_version: str = ""
    """Of the host's own python3, as ``3.11.2``."""
    systemd_version: int | None = None
    """None where systemd does not run the host."""
    cpus: int = 0
    memory_mib: int = 0
    listeners: tuple[Listener, ...] = ()
    disks: tuple[Disk, ...] = field(default=(), repr=False)
    runtimes: tuple[str, ...] = ()
    """Digests of the installed runtimes."""
    models: tuple[str, ...] = ()
    """Slugs of the models that are set up there."""
    weights: Mapping[str, int] = field(default_factory=dict)
    """Bytes in each directory of the hub's cache, by its name."""
    caches: tuple[str, ...] = ()
    """Slugs of the models that have compiled there already."""
    ray_mounts: tuple[FoundMount, ...] = ()
    """Mount units that rayrack has made for Ray's directory, also former ones."""
    loop_devices: bool = True

    @classmethod
    def parse(cls, info_line: str, disks: Sequence[Disk]) -> "HostInfo":
        values = json.loads(info_line)
        values["listeners"] = tuple(Listener(**entry) for entry in values["listeners"])
        values["runtimes"] = tuple(values["runtimes"])
        values["models"] = tuple(values["models"])
        values["caches"] = tuple(values["caches"])
        values["ray_mounts"] = tuple(FoundMount(**entry) for entry in values["ray_mounts"])
        return cls(**values, disks=tuple(disks))
