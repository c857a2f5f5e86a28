"""Turns pydantic's errors into lines an operator can act on: where a value stands, what is wrong, what is right."""

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

Path = Sequence[str | int]

_CROSS_FIELD = "rayrack_cross_field"
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


def path(parts: Path) -> str:
    """``("models", 2, "env", "A")`` as ``models[2].env.A``; a key with unusual characters is quoted: ``env["A B"]``."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{json.dumps(part)}]"
    return text


def shown(value: object) -> str:
    """A value as an error may show it: one short line of JSON."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` was probably meant to be. Upper and lower case do not count."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[matches[0]] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean `H100`?`` or nothing."""
    match = nearest(name, known)
    return f"; did you mean `{match}`?" if match else ""


def cross_field(problems: Iterable[tuple[Path, str]]) -> None:
    """For a model validator: raise when fields do not fit together, naming for each problem the value it is about."""
    found = list(problems)
    if found:
        raise PydanticCustomError(_CROSS_FIELD, "fields do not fit together", {"problems": found})


def lines(error: ValidationError, where: Callable[[Path], str], fields: Iterable[str], unknown: str = "") -> list[str]:
    """One line per problem: ``<where>: <what>``.

    ``where`` places a path inside the validated object in its file. ``fields`` are the names that exist, for
    suggestions; ``unknown`` is what to say of an unknown name that resembles none of them.
    """
    known = list(fields)
    found: list[str] = []
    for detail in error.errors(include_url=False):
        found.extend(f"{where(location)}: {text}" for location, text in _problems(detail, known, unknown))
    return list(dict.fromkeys(found))


def _problems(detail: ErrorDetails, known: Sequence[str], unknown: str) -> Iterator[tuple[Path, str]]:
    location = detail["loc"]
    if detail["type"] == "default_factory_not_called":  # follows from an error reported for another field
        return
    if detail["type"] == _CROSS_FIELD:
        for inner, text in detail["ctx"]["problems"]:
            yield (*location, *inner), text
    elif detail["type"] == "extra_forbidden":
        yield location, "unknown field" + (did_you_mean(str(location[-1]), known) or unknown)
    else:
        yield location, _sentence(detail)


def _sentence(detail: ErrorDetails) -> str:
    kind, value = detail["type"], detail["input"]
    context = {name: _whole(limit) for name, limit in detail.get("ctx", {}).items()}
    if kind == "missing":
        return "missing"
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return _choice(value, context)
    rule = _RULES.get(kind)
    wanted = rule.format_map(context) if rule else "is not valid"
    hint = ' (put it in quotes: "...")' if kind == "string_type" and isinstance(value, int | float) else ""
    return f"{wanted}, not {shown(value)}{hint}" if wanted.startswith("must") else f"{wanted}: {shown(value)}"


def _whole(limit: object) -> object:
    """Limits of float fields are written `1`, as in the docs, not `1.0`."""
    return int(limit) if isinstance(limit, float) and limit.is_integer() else limit


def _choice(value: object, context: Mapping[str, Any]) -> str:
    choices = re.findall(r"'([^']*)'", context["expected"])
    hint = did_you_mean(value, choices) if isinstance(value, str) else ""
    return f"must be one of {', '.join(f'`{choice}`' for choice in choices)}, not {shown(value)}{hint}"


# pydantic's error types (https://docs.pydantic.dev/latest/errors/validation_errors/) in our words.
_RULES = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "string_unicode": "must be valid text",
    "string_too_short": "is too short (at least {min_length})",
    "string_too_long": "is too long (at most {max_length})",
    "string_pattern_mismatch": "must match {pattern}",
    "dict_type": "must be a mapping",
    "tuple_type": "must be a list",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
}
