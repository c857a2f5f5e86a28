"""Reads YAML and JSON into plain data: mappings with text keys, lists, text, numbers, true, false and null.

YAML is read as YAML 1.2 readers (editors, JSON Schema) understand it: `on` and `no` are text, `010` is no octal number,
a date is text. Anchors and tags are refused: no list needs them, and they are how a small file becomes a huge one.
"""

import json
import math
import re
from collections.abc import Hashable, Iterator
from typing import Any, NoReturn

import yaml

from roles import field_errors
from roles.errors import InputError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
# json.dumps writes any int and every JSON reader reads 64 bits.
_INT_MAX = 2**63 - 1


def read_yaml(raw: bytes, name: str) -> object:
    """The one document in ``raw``. ``name`` is the file's name for errors; an empty file is None."""
    if len(raw) > MAX_BYTES:
        raise InputError(f"{name}: larger than {MAX_BYTES // 1024} KiB: that is no model list")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name}: line {line}: not UTF-8 text") from None
    try:
        data = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader that does less
    except yaml.MarkedYAMLError as error:
        raise InputError(f"{name}: {_position(error.problem_mark or error.context_mark)}{_reason(error)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(f"{name}: line {line}: character U+{ord(text[error.position]):04X} is not allowed") from None
    except ValueError as error:  # an integer of thousands of digits
        raise InputError(f"{name}: not usable: {error}") from None
    _refuse_unusable(data, name)
    return data


def read_json(text: str, name: str) -> object:
    """The JSON value in ``text``; ``name`` is where it came from, for errors."""
    if len(text) > MAX_BYTES:
        raise InputError(f"{name}: larger than {MAX_BYTES // 1024} KiB: that is no model list")
    try:
        data = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise InputError(f"{name}: not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise InputError(f"{name}: nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:  # ours, or an integer of thousands of digits
        raise InputError(f"{name}: not usable: {error}") from None
    _refuse_unusable(data, name)
    return data


def _refuse_unusable(data: object, name: str) -> None:
    problems = [f"{name}: {field_errors.path(path)}: {text}" for path, text in _unusable(data, ())]
    if problems:
        raise InputError(problems)


def _unusable(data: object, path: tuple[str | int, ...]) -> Iterator[tuple[field_errors.Path, str]]:
    """Values that a text file can spell but that no environment variable or JSON reader can hold."""
    if len(path) > MAX_DEPTH:
        yield path[:3], f"nested deeper than {MAX_DEPTH} levels"
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from _unusable(key, path)
            yield from _unusable(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _unusable(value, (*path, index))
    elif isinstance(data, float) and not math.isfinite(data):
        yield path, "must be a finite number"
    elif isinstance(data, int) and abs(data) > _INT_MAX:
        yield path, "must be a smaller number"
    elif isinstance(data, str) and "\0" in data:
        yield path, "must not contain the character U+0000"
    elif isinstance(data, str) and any("\ud800" <= character <= "\udfff" for character in data):
        yield path, "must be text in UTF-8, without surrogates"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"`{next(key for key in keys if keys.count(key) > 1)}` is set twice in one object")
    return result


def _no_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _position(mark: yaml.error.Mark | None) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""


def _reason(error: yaml.MarkedYAMLError) -> str:
    reason = ", ".join(part for part in (error.context, error.problem) if part)
    return "a tab cannot indent YAML: use spaces" if "'\\t'" in reason else " ".join(reason.split())


class _Loader(yaml.SafeLoader):
    # Set below: the class must have its own table first, or it would change SafeLoader's.
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's interface

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            _refuse("anchors (&name) and aliases (*name) are not read: use `defaults` for what models share", event)
        if getattr(event, "tag", None):
            _refuse("tags (!name) are not read", event)
        if self._depth > MAX_DEPTH:
            _refuse(f"nested deeper than {MAX_DEPTH} levels", event)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                _refuse('a key must be text (put it in quotes: "...")', key)
            if key.value in lines:
                _refuse(f"`{key.value}` is already set in line {lines[key.value]}", key)
            lines[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


def _refuse(problem: str, at: yaml.Event | yaml.Node) -> NoReturn:
    mark: Any = at.start_mark  # the stubs know two kinds of marks and let an error have one of them
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


# YAML 1.2's core schema (https://yaml.org/spec/1.2.2/#103-core-schema), in decimal only.
for _kind, _pattern, _first in (
    ("null", r"|~|null|Null|NULL", ("", "~", "n", "N")),
    ("bool", r"true|True|TRUE|false|False|FALSE", tuple("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", tuple("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+|[0-9]+\.[0-9]*)", tuple("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), list(_first))
