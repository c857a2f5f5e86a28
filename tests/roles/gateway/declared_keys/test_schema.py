"""The JSON Schema of the list, for editors."""

from roles.gateway.declared_keys import schema
from roles.gateway.declared_keys.key import FIELDS


def test_the_schema_in_the_repository_is_current() -> None:
    assert schema.FILE.read_text(encoding="utf-8") == schema.text(), "run: python -m roles.gateway.declared_keys.schema"


def test_a_key_has_every_field_and_nothing_else_and_comes_from_one_place() -> None:
    key = schema.schema()["properties"]["keys"]["items"]
    assert tuple(key["properties"]) == FIELDS
    assert all("description" in field for field in key["properties"].values())
    assert key["required"] == ["name"]
    assert key["oneOf"] == [{"required": ["from"]}, {"required": ["sha256"]}]
    assert key["additionalProperties"] is False


def test_an_editor_sees_the_kinds_of_sources() -> None:
    source, _ = schema.schema()["properties"]["keys"]["items"]["properties"]["from"]["anyOf"]
    assert list(source["properties"]) == ["file", "environment", "command"]
    assert (source["minProperties"], source["maxProperties"]) == (1, 1)
