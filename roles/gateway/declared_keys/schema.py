"""The list of declared keys as a JSON Schema, for editors.

``python -m roles.gateway.declared_keys.schema`` writes inventories/keys/keys.schema.json; a test says when it is due.
"""

import json
from pathlib import Path
from typing import Any

from roles.gateway.declared_keys.key import DeclaredKey

FILE = Path(__file__).parents[3] / "inventories/keys/keys.schema.json"


def schema() -> dict[str, Any]:
    """A schema of the whole file."""
    key = DeclaredKey.model_json_schema()
    properties = {name: _without_title(value) for name, value in key["properties"].items()}
    one_of = [{"required": ["from"]}, {"required": ["sha256"]}]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "rayrack API keys",
        "type": "object",
        "additionalProperties": False,
        "required": ["keys"],
        "properties": {
            "keys": {
                "type": "array",
                "items": {
                    "type": "object",
                    "description": "one key",
                    "additionalProperties": False,
                    "required": key["required"],
                    "oneOf": one_of,
                    "properties": properties,
                },
            }
        },
    }


def _without_title(value: dict[str, Any]) -> dict[str, Any]:
    """pydantic's titles repeat the name."""
    return {key: part for key, part in value.items() if key != "title"}


def text() -> str:
    """The schema as the file has it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    print(f"wrote {FILE}")
