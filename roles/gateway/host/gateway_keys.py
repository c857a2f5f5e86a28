"""The gateway's API keys in their files. Standard library only.

A line of a file is what HAProxy looks up, ``SHA256 NAME|EXPIRES|REQUESTS_PER_MINUTE|MODELS``, and holds all that is
known of a key: the key itself stands nowhere. A key is 32 random bytes, so nobody finds it by its hash.
"""

import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

NEVER = 9_999_999_999
NO_LIMIT = 0
ALL_MODELS = "*"
REQUESTS_PER_MINUTE_MAX = 1_000_000
# An expired key is shown by `list` for so long.
FORGOTTEN_AFTER_S = 30 * 24 * 3600

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
MODEL_ID = re.compile(r"[A-Za-z0-9._:/@+-]+")
_LINE = re.compile(
    rf"(?P<digest>[0-9a-f]{{64}}) (?P<name>{NAME.pattern})\|(?P<expires>[0-9]{{1,10}})\|(?P<per_minute>[0-9]{{1,7}})"
    rf"\|(?P<models>\*|,({MODEL_ID.pattern},)+)"
)


_DATE = r"\d{4}-\d{2}-\d{2}"
_TIME = rf"{_DATE}[Tt ]\d{{2}}:\d{{2}}:\d{{2}}(?:\.\d{{1,6}})?(?:[Zz]|[+-]\d{{2}}:\d{{2}})"


class KeyProblem(Exception):
    """One line that says what is wrong, where, and what to do."""


@dataclass(frozen=True)
class Key:
    """A key as the gateway knows it."""

    digest: str
    name: str
    expires: int = NEVER
    requests_per_minute: int = NO_LIMIT
    models: tuple[str, ...] = ()
    """Ids of the models it may use; none: all."""

    @classmethod
    def made(cls, name: str, expires: int, requests_per_minute: int, models: Iterable[str]) -> "tuple[str, Key]":
        """A new key: the secret itself, and what is kept of it."""
        secret = f"rr-{secrets.token_urlsafe(32)}"
        digest = hashlib.sha256(secret.encode()).hexdigest()
        return secret, cls(digest, name, expires, requests_per_minute, tuple(models))

    @property
    def value(self) -> str:
        models = f",{','.join(self.models)}," if self.models else ALL_MODELS
        return f"{self.name}|{self.expires}|{self.requests_per_minute}|{models}"

    @property
    def line(self) -> str:
        """The key in a file."""
        return f"{self.digest} {self.value}\n"

    def has_expired(self, now: float) -> bool:
        return self.expires <= now


def moment(text: str) -> int:
    """When a key ends, in seconds of Unix time: of a date the end of that day in UTC, so the day itself is whole.

    Raises:
        ValueError: saying what is right.
    """
    try:
        if re.fullmatch(_DATE, text):
            day = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
            found = int((day + timedelta(days=1)).timestamp())
        elif re.fullmatch(_TIME, text):
            found = int(datetime.fromisoformat(text.upper()).timestamp())
        else:
            raise ValueError
    except (ValueError, OverflowError):
        raise ValueError("must be a date as 2027-01-31, or a time as 2027-01-31T18:00:00Z") from None
    if not 0 <= found < NEVER:
        raise ValueError("must lie before the year 2286: leave it out of a key that never expires")
    return found


def parse(text: str, where: str) -> list[Key]:
    """The keys of a file's text; ``#`` begins a comment line.

    Raises:
        KeyProblem: a line is none of ours; it is not shown, for it may hold a key.
    """
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise KeyProblem(f"{where}:{number}: not a line of an API key; deploy again, or take the line out")
        models = match["models"]
        ids = () if models == ALL_MODELS else tuple(models.strip(",").split(","))
        keys.append(Key(match["digest"], match["name"], int(match["expires"]), int(match["per_minute"]), ids))
    return keys


class KeyFiles:
    """``declared.map``, which a deploy writes, and ``made.map``, which api_keys writes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.declared_path = directory / "declared.map"
        self.made_path = directory / "made.map"

    @contextmanager
    def locked(self) -> Generator[None, None, None]:
        """One change at a time, from the files to the last process that holds them."""
        descriptor = os.open(self.directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def declared(self) -> list[Key]:
        return _read(self.declared_path)

    def made(self) -> list[Key]:
        return _read(self.made_path)

    def maps(self) -> dict[str, dict[str, str]]:
        """What every process must hold: by path of the file, the values by hash."""
        return {str(path): {key.digest: key.value for key in _read(path)} for path in self.paths}

    @property
    def paths(self) -> tuple[Path, Path]:
        return self.declared_path, self.made_path

    def write_made(self, keys: Iterable[Key]) -> None:
        """Replace the made keys at once, without those that have long expired. The lock must be held."""
        oldest = time.time() - FORGOTTEN_AFTER_S
        text = "".join(key.line for key in keys if not key.has_expired(oldest))
        _replace(self.made_path, text)


def differences(wanted: Mapping[str, str], held: Mapping[str, str]) -> list[str]:
    """What a process holds otherwise than a file says, by the names of the keys."""
    names = {digest: value.partition("|")[0] for digest, value in {**held, **wanted}.items()}
    told = {
        **dict.fromkeys(wanted.keys() - held.keys(), "is not known"),
        **dict.fromkeys(held.keys() - wanted.keys(), "still works"),
        **{digest: "has other limits" for digest in wanted.keys() & held.keys() if wanted[digest] != held[digest]},
    }
    return sorted(f"the key {names[digest]} {what}" for digest, what in told.items())


def _read(path: Path) -> list[Key]:
    try:
        return parse(path.read_text(), str(path))
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        raise KeyProblem(f"{path}: not a text of API keys; deploy again") from None


def _replace(path: Path, text: str) -> None:
    """Never half a file under its name; readable for the group of its directory, the gateway's."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchown(descriptor, -1, path.parent.stat().st_gid)
        os.fchmod(descriptor, 0o640)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    part.replace(path)
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
