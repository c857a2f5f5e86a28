"""pydantic's errors in an operator's words."""

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from roles import field_errors


class Example(BaseModel):
    model_config = ConfigDict(extra="forbid")

    count: int = Field(ge=1, lt=10)
    share: float = Field(0.5, gt=0, le=1, allow_inf_nan=False)
    name: str = Field("x", pattern="^[a-z]+$", max_length=5)
    kind: Literal["cuda", "cpu"] = "cpu"
    on: bool = False


def lines(**data: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Example.model_validate({"count": 1, **data})
    return field_errors.lines(caught.value, field_errors.path, Example.model_fields, unknown="; see the docs")


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ((), ""),
        (("models", 2, "dtype"), "models[2].dtype"),
        ((1, "env", "A_B"), "[1].env.A_B"),
        (("env", "A B"), 'env["A B"]'),
        (("env", 'a"\n'), 'env["a\\"\\n"]'),
        (("",), '[""]'),
    ],
)
def test_a_path_is_written_as_in_code(parts: tuple[str | int, ...], text: str) -> None:
    assert field_errors.path(parts) == text


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"count": "x"}, 'count: must be a whole number, not "x"'),
        ({"count": 1.5}, "count: must be a whole number, not 1.5"),
        ({"count": None}, "count: must be a whole number, not null"),
        ({"count": 0}, "count: must be at least 1, not 0"),
        ({"count": 10}, "count: must be less than 10, not 10"),
        ({"count": "9" * 5000}, f'count: must be a smaller number, not "{"9" * 56}...'),
        ({"share": 2}, "share: must be at most 1, not 2"),
        ({"share": 0}, "share: must be more than 0, not 0"),
        ({"share": "x"}, 'share: must be a number, not "x"'),
        ({"share": float("inf")}, "share: must be a finite number, not Infinity"),
        ({"name": 5}, 'name: must be text, not 5 (put it in quotes: "...")'),
        ({"name": "A"}, 'name: must match ^[a-z]+$, not "A"'),
        ({"name": "abcdef"}, 'name: is too long (at most 5): "abcdef"'),
        ({"name": "\ud800"}, 'name: must be valid text, not "\\ud800"'),
        ({"on": "maybe"}, 'on: must be true or false, not "maybe"'),
        ({"kind": "cudo"}, 'kind: must be one of `cuda`, `cpu`, not "cudo"; did you mean `cuda`?'),
        ({"kind": 1}, "kind: must be one of `cuda`, `cpu`, not 1"),
        ({"cuont": 1}, "cuont: unknown field; did you mean `count`?"),
        ({"COUNT": 1}, "COUNT: unknown field; did you mean `count`?"),
        ({"zzz": 1}, "zzz: unknown field; see the docs"),
    ],
)
def test_each_problem_says_what_is_wanted_and_what_is_there(data: dict[str, Any], line: str) -> None:
    assert lines(**data) == [line]


def test_a_missing_value_is_missing() -> None:
    with pytest.raises(ValidationError) as caught:
        Example.model_validate({})
    assert field_errors.lines(caught.value, field_errors.path, []) == ["count: missing"]


def test_every_problem_has_its_line() -> None:
    assert len(lines(count=0, share=2, name="A", kind="x", on="maybe", zzz=1)) == 6


def test_a_value_is_shown_on_one_short_line() -> None:
    assert field_errors.shown("a\nb") == '"a\\nb"'
    assert len(field_errors.shown(["x" * 1000])) == 60
    assert field_errors.shown({"a": object}).startswith('{"a": "<class')
