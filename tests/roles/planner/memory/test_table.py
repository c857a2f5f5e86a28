"""The tables of docs/planner/memory.md."""

import pytest

from tests.roles.planner.memory import table as memory_table


def test_the_tables_are_current() -> None:
    text = memory_table.PAGE.read_text(encoding="utf-8")
    assert text == memory_table.page(text), "run: python -m tests.roles.planner.memory.table"


def test_a_page_without_the_marker_lines_is_told() -> None:
    with pytest.raises(ValueError, match="the page needs the lines"):
        memory_table.page("# Memory\n")
