"""The list of declared keys as a JSON Schema, for editors.

``python -m roles.gateway.declared_keys.schema`` writes inventories/keys/keys.schema.json; a test says when it is due.
"""

from pathlib import Path
from typing import Any

from roles import json_schema
from roles.gateway.declared_keys.key import DeclaredKey
from roles.json_schema import without_title

FILE = Path(__file__).parents[3] / "inventories/keys/keys.schema.json"


def schema() -> dict[str, Any]:
    """A schema of the whole file."""
    key = DeclaredKey.model_json_schema()
    item = {
        "type": "object",
        "description": "one key",
        "additionalProperties": False,
        "required": key["required"],
        "oneOf": [{"required": ["from"]}, {"required": ["sha256"]}],
        "properties": {name: without_title(value) for name, value in key["properties"].items()},
    }
    return json_schema.of_file("rayrack API keys", ["keys"], {"keys": {"type": "array", "items": item}})


def text() -> str:
    """The schema as the file has it."""
    return json_schema.text(schema())


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    print(f"wrote {FILE}")
