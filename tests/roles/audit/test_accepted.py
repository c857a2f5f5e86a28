from datetime import date
from pathlib import Path

import pytest

from roles.audit import accepted
from roles.errors import InputError


def read(tmp_path: Path, text: str) -> tuple[accepted.Accepted, ...]:
    file = tmp_path / "accepted.yaml"
    file.write_text(text)
    return accepted.read(file)


def test_ours_can_be_read_and_everything_in_it_is_still_valid() -> None:
    assert [each for each in accepted.read() if each.until < date.today()] == []


def test_an_entry_has_a_reason_and_an_end(tmp_path: Path) -> None:
    text = "accepted: [{id: CVE-2026-1, package: a, reason: nobody calls it, until: 2027-03-31}]"
    assert read(tmp_path, text)[0].until == date(2027, 3, 31)
    assert read(tmp_path, "") == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("accepted: [{id: CVE-2026-1, package: a, reason: x, until: 2027-03-31}]", "accepted[0].reason: is too short"),
        ("accepted: [{id: CVE-2026-1, package: a, reason: nobody calls it}]", "accepted[0].until: missing"),
        (
            "accepted: [{id: CVE-2026-1, package: a, reason: nobody calls it, until: soon}]",
            "accepted[0].until: must be",
        ),
        ("acepted: []", "acepted: unknown field; did you mean `accepted`?"),
        ("accepted: [", "line 1"),
    ],
)
def test_a_wrong_entry_is_one_line_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    (line,) = caught.value.problems
    assert line.startswith(f"accepted.yaml: {expected}")


def test_a_list_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        accepted.read(tmp_path / "none.yaml")
