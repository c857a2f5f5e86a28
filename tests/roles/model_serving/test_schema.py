"""The JSON Schema of the list, for editors."""

from roles.model_serving import schema
from roles.model_serving.model import Model


def test_the_schema_in_the_repository_is_current() -> None:
    assert schema.FILE.read_text(encoding="utf-8") == schema.text(), "run: python -m roles.model_serving.schema"


def test_a_model_has_every_field_and_nothing_else_and_needs_only_a_name() -> None:
    model = schema.schema()["properties"]["models"]["items"]
    assert list(model["properties"]) == list(Model.model_fields)
    assert model["required"] == ["model_id"]
    assert model["additionalProperties"] is False


def test_defaults_have_the_same_fields_without_those_of_a_single_model() -> None:
    properties = schema.schema()["properties"]
    defaults, model = properties["defaults"]["properties"], properties["models"]["items"]["properties"]
    assert defaults == {
        name: field for name, field in model.items() if name not in ("model_id", "model_source", "slug")
    }


def test_an_editor_sees_description_choices_limits_and_default() -> None:
    field = schema.schema()["properties"]["models"]["items"]["properties"]
    assert all("description" in value for value in field.values())
    assert field["update"]["enum"] == ["swap", "surge"]
    assert (field["tensor_parallel_size"]["minimum"], field["tensor_parallel_size"]["maximum"]) == (1, 64)
    assert field["min_replicas"]["default"] == 1
    assert "default" not in field["slug"]
