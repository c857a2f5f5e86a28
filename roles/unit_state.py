"""What `systemctl show` says of units, for the facts that ask it. Pure: no pyinfra."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

SHOWN = ("Id", "LoadState", "ActiveState", "UnitFileState", "NeedDaemonReload")
"""The properties that ``UnitState.of`` reads."""


@dataclass(frozen=True)
class UnitState:
    """What systemd says of a unit."""

    active: bool
    enabled: bool
    file_changed: bool
    """The unit file on disk is newer than what systemd has read."""
    exists: bool
    start_s: float | None = None
    """How long its last start took; None: it has not started since the host has, or is starting, or nobody asked."""

    @classmethod
    def of(cls, shown: Mapping[str, str], start_s: float | None = None) -> "UnitState":
        """From the properties ``SHOWN`` of a unit."""
        return cls(
            active=shown["ActiveState"] == "active",
            enabled=shown["UnitFileState"] == "enabled",
            file_changed=shown["NeedDaemonReload"] == "yes",
            exists=shown["LoadState"] == "loaded",
            start_s=start_s,
        )


def blocks(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """The properties of each unit: `systemctl show` puts an empty line between two of them."""
    block: dict[str, str] = {}
    for line in (*lines, ""):
        if line:
            key, _, value = line.partition("=")
            block[key] = value
        elif block:
            yield block
            block = {}
