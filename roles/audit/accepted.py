"""The findings that somebody has looked at and lets pass for a while. Pure but for reading the file."""

from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from roles import field_errors
from roles.errors import InputError
from roles.plain_data import read_yaml

FILE = Path(__file__).parent / "accepted.yaml"


def _date(value: object) -> date:
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"must be a date as 2027-03-31, not {field_errors.shown(value)}") from None


class Accepted(BaseModel):
    """One finding of one package; on the day after ``until`` it counts again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=5)
    package: str = Field(min_length=1)
    reason: str = Field(min_length=10)
    until: Annotated[date, BeforeValidator(_date)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    accepted: tuple[Accepted, ...] = ()


def read(file: Path = FILE) -> tuple[Accepted, ...]:
    """What the file accepts.

    Raises:
        InputError: it cannot be read, or says something else; with one line per wrong value.
    """
    try:
        return _File.model_validate(read_yaml(file.read_bytes(), file.name) or {}).accepted
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        where = lambda path: f"{file.name}: {field_errors.path(path)}"  # noqa: E731
        raise InputError(field_errors.lines(error, where, [*_File.model_fields, *Accepted.model_fields])) from None
