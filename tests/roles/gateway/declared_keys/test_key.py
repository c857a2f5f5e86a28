"""One declared key: what it may say, and when it ends."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from roles import field_errors
from roles.gateway.declared_keys.host_rules import gateway_keys
from roles.gateway.declared_keys.key import FIELDS, NEVER, DeclaredKey

SECRET = "c4na4y-" + "5ec4e7" * 8
FROM = {"environment": "KEY"}


def problems(**fields: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        DeclaredKey.model_validate({"name": "ci", "from": FROM} | fields)
    lines = field_errors.lines(caught.value, field_errors.path, FIELDS)
    assert SECRET not in "".join(lines) + str(caught.value)
    return lines


def test_a_key_needs_a_name_and_where_it_comes_from() -> None:
    key = DeclaredKey.model_validate({"name": "ci", "from": FROM})
    assert (key.ends, key.models, key.requests_per_minute) == (NEVER, None, None)
    assert DeclaredKey.model_validate({"name": "ci", "sha256": "ab" * 32}).source is None


@pytest.mark.parametrize("fields", [{"from": None}, {"sha256": "ab" * 32}])
def test_it_comes_from_one_place(fields: dict[str, Any]) -> None:
    assert problems(**fields) == ["from: must be there, or `sha256`: one of the two"]


@pytest.mark.parametrize("name", ["a", "0", "ci.eu-1_b", "x" * 63])
def test_a_name_is_plain(name: str) -> None:
    assert DeclaredKey.model_validate({"name": name, "from": FROM}).name == name


@pytest.mark.parametrize("name", ["", "-", "CI", "a b", "ci\n", "a|b", "é", "x" * 64, ".a"])
def test_another_name_is_refused(name: str) -> None:
    (line,) = problems(name=name)
    assert line == "name: must be 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"from": SECRET}, "from: must be exactly one of {file: PATH}"),
        ({"sha256": SECRET, "from": None}, "sha256: must be 64 of 0-9 and a-f, not the key itself"),
        ({"sha256": "AB" * 32, "from": None}, "sha256: must be 64 of 0-9 and a-f"),
        ({"expire": "2027-01-31"}, "expire: unknown field; did you mean `expires`?"),
        ({"source": FROM}, "source: unknown field"),
        ({"models": []}, "models: names no model: leave `models` out for all of them, or take the key out"),
        ({"models": ["a,b"]}, "models: must be ids of models of the model list"),
        ({"requests_per_minute": 0}, "requests_per_minute: must be at least 1, not 0"),
        ({"requests_per_minute": True}, "requests_per_minute: must be a whole number, not true"),
    ],
)
def test_what_is_wrong_is_told_without_what_may_be_the_key(fields: dict[str, Any], expected: str) -> None:
    (line,) = problems(**fields)
    assert line.startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2027-01-31", datetime(2027, 2, 1, tzinfo=UTC)),  # the day itself is whole
        ("2028-02-29", datetime(2028, 3, 1, tzinfo=UTC)),
        ("2027-01-31T18:00:00Z", datetime(2027, 1, 31, 18, tzinfo=UTC)),
        ("2027-01-31t18:00:00z", datetime(2027, 1, 31, 18, tzinfo=UTC)),
        ("2027-01-31 18:00:00+02:00", datetime(2027, 1, 31, 16, tzinfo=UTC)),
        ("2027-01-31T18:00:00.25-05:30", datetime(2027, 1, 31, 23, 30, tzinfo=UTC)),
    ],
)
def test_a_key_ends_with_its_last_day_in_utc_or_at_a_time(text: str, expected: datetime) -> None:
    assert gateway_keys.moment(text) == int(expected.timestamp())


@pytest.mark.parametrize(
    "text",
    ["", "soon", "2027-02-30", "2027-1-31", "31.01.2027", "2027-01-31T18:00:00", "2027-01-31T25:00:00Z", "2027-W04-7"],
)
def test_what_could_mean_two_days_or_none_is_refused(text: str) -> None:
    assert problems(expires=text) == ["expires: must be a date as 2027-01-31, or a time as 2027-01-31T18:00:00Z"]


def test_a_day_that_the_gateway_takes_for_never_is_refused() -> None:
    assert problems(expires="2286-11-20") == [
        "expires: must lie before the year 2286: leave it out of a key that never expires"
    ]


@given(st.datetimes(datetime(1970, 1, 1), datetime(2286, 1, 1), timezones=st.just(UTC)))
def test_a_day_and_a_time_of_the_same_end_are_the_same(when: datetime) -> None:
    assert gateway_keys.moment(when.strftime("%Y-%m-%dT%H:%M:%SZ")) == int(when.timestamp())
    midnight = (when + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    assert gateway_keys.moment(when.strftime("%Y-%m-%d")) == int(midnight.timestamp())
