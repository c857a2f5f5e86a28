"""The map that HAProxy looks keys up in."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.gateway.declared_keys.declared_map import render
from roles.gateway.declared_keys.host_rules import gateway_keys
from roles.gateway.declared_keys.key import NEVER

Key = gateway_keys.Key
DIGEST = "ab" * 32
LETTERS = string.ascii_lowercase + string.digits
entries = st.builds(
    Key,
    digest=st.binary(min_size=32, max_size=32).map(bytes.hex),
    name=st.builds(str.__add__, st.sampled_from(LETTERS), st.text(LETTERS + "._-", max_size=62)),
    expires=st.integers(0, NEVER),
    requests_per_minute=st.integers(0, 1_000_000),
    models=st.lists(st.text(LETTERS + string.ascii_uppercase + "._-/", min_size=1)).map(tuple),
)


def test_a_line_is_the_hash_and_what_the_key_may_do() -> None:
    assert render([Key(DIGEST, "ci", 1_800_000_000, 60, ("a", "org/b"))]) == f"{DIGEST} ci|1800000000|60|,a,org/b,\n"
    assert render([Key(DIGEST, "all")]) == f"{DIGEST} all|9999999999|0|*\n"


def test_without_keys_the_map_is_empty() -> None:
    assert render([]) == ""


@given(st.lists(entries, unique_by=lambda entry: entry.name))
def test_whatever_is_declared_the_program_on_the_host_reads_it_back_as_it_was(declared: list[gateway_keys.Key]) -> None:
    read = gateway_keys.parse(render(declared), "declared.map")
    assert read == sorted(declared, key=lambda entry: entry.name)


@given(st.permutations([Key(DIGEST, "b"), Key(DIGEST, "a"), Key(DIGEST, "c")]))
def test_the_order_of_the_list_does_not_matter(declared: list[gateway_keys.Key]) -> None:
    assert [line[65] for line in render(declared).splitlines()] == ["a", "b", "c"]


anything = st.text() | st.sampled_from(["ci\n", "a|0|0|*", "a b", "", "ci\r", "*", "a,b", f"x\n{DIGEST} root|1|0|*"])


@given(anything, anything, anything)
def test_nothing_can_write_a_line_of_its_own(digest: str, name: str, model: str) -> None:
    """What the list's rules let through is checked again where it is written."""
    for entry in (Key(digest, "ci"), Key(DIGEST, name), Key(DIGEST, "ci", models=(model,))):
        try:
            text = render([entry])
        except ValueError:
            continue
        assert text.count("\n") == 1
        assert len(text.splitlines()) == 1


@pytest.mark.parametrize("line", ["x", f"{DIGEST} ci|1|0|", f"{DIGEST} ci|1|0|a", f"{DIGEST}  ci|1|0|*"])
def test_a_line_of_another_shape_is_no_key(line: str) -> None:
    with pytest.raises(gateway_keys.KeyProblem, match="not a line of an API key"):
        gateway_keys.parse(line, "declared.map")
