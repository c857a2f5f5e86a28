"""Where a secret comes from: a file, the environment or a command on the operator's side. Never from a list itself.

No error shows a value: what was written in the wrong place may be the secret.
"""

import os
import re
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, WithJsonSchema, field_validator, model_validator

from roles.errors import InputError
from roles.secrets import command_output

MAX_BYTES = 64 * 1024
KINDS = ("file", "environment", "command")
_SHAPE = "must be exactly one of {file: PATH}, {environment: NAME} and {command: PROGRAM ARGUMENTS}"


class SecretSource(BaseModel):
    """One place on this machine that holds a secret. It is read anew at each run."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    file: str | None = Field(None, description="path of a file that only its owner can read; `~` is your home")
    environment: str | None = Field(None, description="name of an environment variable")
    command: str | None = Field(
        None, description="a program and its arguments, as `pass show rack/ci`; no shell reads it; it prints the secret"
    )

    @model_validator(mode="before")
    @classmethod
    def _is_exactly_one(cls, data: Any) -> Any:
        if isinstance(data, SecretSource):
            return data
        if not isinstance(data, Mapping):
            raise ValueError(f"{_SHAPE}; the secret itself does not belong here")
        if not set(data) <= set(KINDS) or sum(value is not None for value in data.values()) != 1:
            raise ValueError(_SHAPE)
        return data

    @field_validator(*KINDS, mode="before")
    @classmethod
    def _is_text(cls, value: object) -> object:
        if value is not None and (not isinstance(value, str) or not value.strip() or "\0" in value):
            raise ValueError("must be text, and not empty")
        return value

    @field_validator("environment")
    @classmethod
    def _is_a_variable(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            raise ValueError("must be the name of an environment variable, not its value")
        return value

    @field_validator("command")
    @classmethod
    def _has_words(cls, value: str | None) -> str | None:
        try:
            words = shlex.split(value or "x")
        except ValueError as error:  # a quotation that does not end
            raise ValueError(f"cannot be split into a program and its arguments: {error}") from None
        if not words or not words[0]:
            raise ValueError("names no program")
        return value

    @property
    def kind(self) -> str:
        """Which of the three it is: the last part of its path in an error."""
        return next(name for name in KINDS if getattr(self, name) is not None)

    def read(self, where: str, environ: Mapping[str, str], *, base: Path, public: bool = False) -> SecretStr:
        """The text of the secret, without the line end it closes with.

        ``where``: the path of this source, for errors. ``base``: what a relative path is relative to. ``public``: it
        is none, as a certificate, and everybody may read its file.

        Raises:
            InputError: with one line that never holds the secret.
        """
        where = f"{where}.{self.kind}"
        if self.file is not None:
            raw = _file(self.file, where, base, public=public)
        elif self.environment is not None:
            raw = _variable(self.environment, where, environ)
        else:
            raw = command_output.of(shlex.split(self.command or ""), where, MAX_BYTES)
        if len(raw) > MAX_BYTES:
            raise InputError(f"{where}: larger than {MAX_BYTES // 1024} KiB: that is no secret")
        return SecretStr(_text(raw, where))


# With the rule as an editor can check it, for JSON Schemas.
SecretFrom = Annotated[
    SecretSource,
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
            "properties": {
                name: {"type": "string", "description": SecretSource.model_fields[name].description} for name in KINDS
            },
        }
    ),
]


def problem_of_key(secret: SecretStr, shortest: int) -> str | None:
    """Why a secret cannot be the key that clients send in a header."""
    value = secret.get_secret_value()
    if not re.fullmatch(r"[!-~]*", value):
        return "must be one line of visible ASCII characters without spaces: it travels in an HTTP header"
    if len(value) < shortest:
        return f"has {len(value)} characters and must have at least {shortest}, chosen at random: openssl rand -hex 32"
    return None


def _file(name: str, where: str, base: Path, *, public: bool) -> bytes:
    path = base / Path(os.path.expanduser(name))  # noqa: PTH111 - Path.expanduser raises where there is no home
    try:
        # What is judged is what is read, behind links; and a pipe nobody writes to does not hold the run up.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        place = "" if path.is_absolute() else f" (looked for it from {Path.cwd()})"
        raise InputError(f"{where}: {name}: cannot be read: {error.strerror}{place}") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{where}: {name}: is no regular file")
        if not public and (problem := _open_to_others(name, found)):
            raise InputError(f"{where}: {name} {problem}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)


def _open_to_others(name: str, found: os.stat_result) -> str | None:
    if found.st_uid not in (os.geteuid(), 0):
        return f"belongs to the user id {found.st_uid}, not to you or root"
    mode = stat.S_IMODE(found.st_mode)
    for bits, who in ((0o007, "others"), (0o070, "its group")):
        if mode & bits:
            verb = "readable" if mode & bits & 0o444 else "open"
            return f"is {verb} {'by' if verb == 'readable' else 'to'} {who} (mode {mode:04o}): chmod 600 {name}"
    return None


def _variable(name: str, where: str, environ: Mapping[str, str]) -> bytes:
    if name not in environ:
        raise InputError(f"{where}: {name} is not set in the environment of this run")
    return os.fsencode(environ[name])


def _text(raw: bytes, where: str) -> str:
    if b"\0" in raw:
        raise InputError(f"{where}: holds the character U+0000")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise InputError(f"{where}: is not UTF-8 text") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise InputError(f"{where}: is empty")
    return text
