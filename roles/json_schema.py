"""What the JSON Schemas for editors have in common. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any


def of_file(title: str, required: Sequence[str], properties: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a whole file: a mapping with these properties and no others."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": title,
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": dict(properties),
    }


def text(schema: Mapping[str, Any]) -> str:
    """A schema as its file has it."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def without_title(value: Mapping[str, Any]) -> dict[str, Any]:
    """pydantic's titles repeat the name."""
    return {key: part for key, part in value.items() if key != "title"}
