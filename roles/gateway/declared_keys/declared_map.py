"""The file that HAProxy looks keys up in: one line per key, by its hash, with what it may do. Pure: no pyinfra."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from roles.gateway.config import DIRECTORY
from roles.gateway.declared_keys.key import NAME_PATTERN, NEVER

PATH = f"{DIRECTORY}/keys/declared.map"

_LINE = re.compile(
    rf"(?P<digest>[0-9a-f]{{64}}) (?P<name>{NAME_PATTERN})\|(?P<ends>[0-9]+)\|(?P<rate>[0-9]+)"
    r"\|(?P<models>\*|,(?:[^,|\s]+,)+)"
)


@dataclass(frozen=True)
class Entry:
    """A key as the gateway knows it. ``ends``: seconds of Unix time. ``models`` of None: all."""

    digest: str
    name: str
    ends: int = NEVER
    requests_per_minute: int = 0
    models: tuple[str, ...] | None = None

    @property
    def line(self) -> str:
        models = "*" if self.models is None else f",{','.join(self.models)},"
        line = f"{self.digest} {self.name}|{self.ends}|{self.requests_per_minute}|{models}"
        if not _LINE.fullmatch(line):
            raise ValueError(f"the key {self.name!r} cannot be written as a line of the gateway's map")
        return line

    @classmethod
    def parse(cls, line: str) -> "Entry":
        """What ``line`` says of a key; ValueError when it is none of such a map."""
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError(f"no line of a map of keys: {line}")
        models = None if found["models"] == "*" else tuple(found["models"].strip(",").split(","))
        return cls(found["digest"], found["name"], int(found["ends"]), int(found["rate"]), models)


def render(entries: Iterable[Entry]) -> str:
    """The text of the map, in the order of names: moving a key in the list changes nothing."""
    return "".join(f"{entry.line}\n" for entry in sorted(entries, key=lambda entry: entry.name))
