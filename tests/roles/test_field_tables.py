"""The tables of settings in the docs."""

import pytest

from roles import field_tables
from roles.model_serving.model import Model
from roles.settings import Settings


@pytest.mark.parametrize("name", field_tables.PAGES)
def test_the_table_of_every_page_is_current(name: str) -> None:
    text = (field_tables.DOCS / name).read_text(encoding="utf-8")
    assert text == field_tables.page(text, field_tables.PAGES[name]), "run: python -m roles.field_tables"


@pytest.mark.parametrize(
    "role", sorted(path.parent.name for path in (field_tables.DOCS.parent / "roles").glob("*/steps.py"))
)
def test_every_role_has_a_page_with_the_settings_it_takes(role: str) -> None:
    assert (field_tables.DOCS / "roles" / f"{role}.md").exists()
    assert role in field_tables.ROLE_SETTINGS or role == "verification", "verification has no setting of its own"


def test_every_setting_is_one_of_a_role() -> None:
    assert {name for names in field_tables.ROLE_SETTINGS.values() for name in names} == set(Settings.model_fields)


def test_every_field_has_a_row_with_default_and_limits() -> None:
    table = field_tables.table(Model)
    assert table.count("\n") == 2 + len(Model.model_fields)
    assert "| `model_id` | required | text | the name clients use |\n" in table
    assert "| `slug` | from `model_id` | text |" in table
    assert "| `tensor_parallel_size` | `1` | whole number from 1 to 64 |" in table
    assert "| `gpu_memory_utilization` | `0.9` | number above 0 to 1 |" in table
    assert '| `update` | `"swap"` | `swap`, `surge` |' in table
    assert "| `env` | `{}` | mapping |" in table


def test_a_setting_that_may_be_unset_says_so() -> None:
    assert "| `dev_shm_mib` | `null` | whole number from 64 to 16 777 216, null |" in field_tables.table(Settings)


def test_a_page_keeps_what_stands_around_its_table() -> None:
    text = f"before\n{field_tables._BEGIN}the former table\n{field_tables._END}after\n"
    made = field_tables.page(text, Model)
    assert made.startswith("before\n")
    assert made.endswith("after\n")
    assert "the former table" not in made
    assert field_tables.page(made, Model) == made


def test_a_page_without_the_marker_lines_is_told() -> None:
    with pytest.raises(ValueError, match="the page needs the lines"):
        field_tables.page("# Settings\n", Settings)
