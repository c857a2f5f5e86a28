"""The slug of a model: derivation and what is refused."""

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from roles.model_serving import rules, slug


@pytest.mark.parametrize(
    ("model_id", "expected"),
    [
        ("Qwen/Qwen2.5-32B-Instruct", "qwen-qwen2.5-32b-instruct"),
        ("tinyllama", "tinyllama"),
        ("a/b/c", "a-b-c"),
        ("A_b.C-", "a_b.c"),
    ],
)
def test_a_slug_is_the_lower_case_name_with_dashes_for_slashes(model_id: str, expected: str) -> None:
    assert slug.derive(model_id) == expected
    assert slug.problem(expected) is None


@given(st.lists(st.text("azAZ09._-", min_size=1, max_size=10), min_size=1, max_size=4).map("/".join))
@settings(max_examples=50, deadline=None, database=None, derandomize=True)
def test_every_model_id_gives_a_slug_that_is_safe_or_is_told_why_not(model_id: str) -> None:
    assume(rules.model_id(model_id) is None)
    derived = slug.derive(model_id)
    problem = slug.problem(derived)
    assert problem is None or derived.endswith(".override") or "systemctl" in problem
    assert re.fullmatch(r"[a-z0-9._-]+", derived)


@pytest.mark.parametrize("bad", ["", "A", "a b", "a/b", "ä", "-a", "a-", ".a", "a@b", "a%i", "a\n", "x" * 129])
def test_a_slug_that_a_unit_or_a_url_would_have_to_quote_is_refused(bad: str) -> None:
    assert "names a systemd unit, files and a URL" in str(slug.problem(bad))


def test_a_slug_that_would_name_an_override_file_is_refused() -> None:
    assert slug.problem("llama.override") == (
        "must not end in .override: <slug>.override.env is the name of an override file"
    )
    assert slug.problem("llama.overrides") is None


@pytest.mark.parametrize("suffix", ["service", "socket", "mount", "target", "path"])
def test_a_slug_that_systemctl_would_take_for_another_unit_is_refused(suffix: str) -> None:
    assert f"rayrack-model@m.{suffix}" in str(slug.problem(f"m.{suffix}"))
