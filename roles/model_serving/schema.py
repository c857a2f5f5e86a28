"""The model list as a JSON Schema, for editors.

``python -m roles.model_serving.schema`` writes inventories/models/models.schema.json; a test says when it is due.
"""

import json
from pathlib import Path
from typing import Any

from roles.model_serving.model import Model
from roles.model_serving.model_list import OWN_FIELDS

FILE = Path(__file__).parents[2] / "inventories/models/models.schema.json"


def schema() -> dict[str, Any]:
    """A schema of the whole file: `models`, and `defaults` with the fields that models may have in common."""
    model = Model.model_json_schema()
    model["description"] = "one model"
    properties = {name: _without_title(value) for name, value in model.pop("properties").items()}
    common = {name: value for name, value in properties.items() if name not in OWN_FIELDS}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "rayrack model list",
        "type": "object",
        "additionalProperties": False,
        "required": ["models"],
        "properties": {
            "models": {"type": "array", "items": _without_title({**model, "properties": properties})},
            "defaults": {
                "type": "object",
                "description": "fields for all models; a model's own come first",
                "additionalProperties": False,
                "properties": common,
            },
        },
    }


def _without_title(value: dict[str, Any]) -> dict[str, Any]:
    """pydantic's titles repeat the name."""
    return {key: part for key, part in value.items() if key != "title"}


def text() -> str:
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    print(f"wrote {FILE}")
