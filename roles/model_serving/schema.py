"""The model list as a JSON Schema, for editors.

``python -m roles.model_serving.schema`` writes inventories/models/models.schema.json; a test says when it is due.
"""

from pathlib import Path
from typing import Any

from roles import json_schema
from roles.json_schema import without_title
from roles.model_serving.model import Model
from roles.model_serving.model_list import OWN_FIELDS

FILE = Path(__file__).parents[2] / "inventories/models/models.schema.json"


def schema() -> dict[str, Any]:
    """A schema of the whole file: `models`, and `defaults` with the fields that models may have in common."""
    model = Model.model_json_schema()
    model["description"] = "one model"
    properties = {name: without_title(value) for name, value in model.pop("properties").items()}
    common = {name: value for name, value in properties.items() if name not in OWN_FIELDS}
    return json_schema.of_file(
        "rayrack model list",
        ["models"],
        {
            "models": {"type": "array", "items": without_title({**model, "properties": properties})},
            "defaults": {
                "type": "object",
                "description": "fields for all models; a model's own come first",
                "additionalProperties": False,
                "properties": common,
            },
        },
    )


def text() -> str:
    return json_schema.text(schema())


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    print(f"wrote {FILE}")
