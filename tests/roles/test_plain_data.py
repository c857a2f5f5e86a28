"""Reading YAML and JSON: what is understood, and one clear line for everything else."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roles import plain_data
from roles.errors import InputError

EXAMPLES = settings(max_examples=50, deadline=None, database=None, derandomize=True)
# json.dumps writes characters above U+FFFF as two halves, which YAML does not put together.
TEXT = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def refusal(read: Callable[[], object]) -> str:
    """The one line that a read ends with."""
    with pytest.raises(InputError) as caught:
        read()
    (line,) = caught.value.problems
    assert "\n" not in line
    return line


def yaml_refusal(raw: bytes | str) -> str:
    return refusal(lambda: plain_data.read_yaml(raw if isinstance(raw, bytes) else raw.encode(), "list.yaml"))


def json_refusal(text: str) -> str:
    return refusal(lambda: plain_data.read_json(text, "MODELS_CONFIG"))


def lines_of(read: Callable[[], object]) -> tuple[str, ...]:
    """The lines that a read ends with; none when it succeeds. Any other exception is a failure."""
    try:
        read()
    except InputError as error:
        return error.problems
    return ()


@given(PLAIN)
@EXAMPLES
def test_json_means_the_same_to_both_readers(data: object) -> None:
    text = json.dumps(data)
    assert plain_data.read_json(text, "MODELS_CONFIG") == data
    assert plain_data.read_yaml(text.encode(), "list.yaml") == data


@given(st.binary(max_size=200) | st.text(":-?[]{}&*!|>'\"%@`#, \n\tab1.~<=", max_size=60).map(str.encode))
@EXAMPLES
def test_any_bytes_as_yaml_are_read_or_refused_line_by_line(raw: bytes) -> None:
    for line in lines_of(lambda: plain_data.read_yaml(raw, "list.yaml")):
        assert line.startswith("list.yaml: ")
        assert "\n" not in line


@given(st.text(max_size=60) | st.text('[]{}",:0123456789.eE+-truefalsn \\u', max_size=60))
@EXAMPLES
def test_any_text_as_json_is_read_or_refused_line_by_line(text: str) -> None:
    for line in lines_of(lambda: plain_data.read_json(text, "MODELS_CONFIG")):
        assert line.startswith("MODELS_CONFIG: ")
        assert "\n" not in line


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("on", "on"),
        ("no", "no"),
        ("2026-11-21", "2026-11-21"),
        ("010", "010"),
        ("1:30", "1:30"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        (".inf", ".inf"),
        ("true", True),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("0.9", 0.9),
        ("9e-1", 0.9),
        ("1.5e3", 1500.0),
    ],
)
def test_scalars_are_those_of_yaml_1_2(written: str, read: object) -> None:
    assert plain_data.read_yaml(f"a: {written}\n".encode(), "list.yaml") == {"a": read}


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm() -> None:
    assert plain_data.read_yaml(b"\xef\xbb\xbfa: 1\r\nb: x\r\n", "list.yaml") == {"a": 1, "b": "x"}


def test_a_file_of_comments_is_empty() -> None:
    assert plain_data.read_yaml(b"# nothing yet\n", "list.yaml") is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: b: c", "line 1, column 5: mapping values are not allowed here"),
        ("a:\n  - b\n c: d", "line 3, column 2: while parsing a block mapping, expected <block end>, but found"),
        ("a: [1, 2", "line 1, column 9: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"),
        ("models:\n\t- a", "line 2, column 1: a tab cannot indent YAML: use spaces"),
        ("a: 1\nb: 2\na: 3", "line 3, column 1: `a` is already set in line 1"),
        ("a: {b: 1, b: 2}", "line 1, column 11: `b` is already set in line 1"),
        ("1: a", 'line 1, column 1: a key must be text (put it in quotes: "...")'),
        ("? [a]\n: b", "line 1, column 3: a key must be text"),
        ("a: 1\n---\nb: 2", "line 2, column 1: expected a single document in the stream"),
        ("a: &x 1\nb: *x", "line 1, column 4: anchors (&name) and aliases (*name) are not read: use `defaults`"),
        ("b: *x", "line 1, column 4: anchors (&name) and aliases (*name) are not read"),
        ("a: !!python/object/apply:os.system [id]", "line 1, column 4: tags (!name) are not read"),
        ("a: !!binary eA==", "line 1, column 4: tags (!name) are not read"),
        ("a: \0", "line 1: character U+0000 is not allowed"),
        ("a: 1\nb: \x07", "line 2: character U+0007 is not allowed"),
        ('a: "\\0"', "a: must not contain the character U+0000"),
        ('a: {b: ["\\uD800"]}', "a.b[0]: must be text in UTF-8, without surrogates"),
        ("a: 1.0e+999", "a: must be a finite number"),
        ("a: 9999999999999999999", "a: must be a smaller number"),
        ("a: -12345678901234567890123", "a: must be a smaller number"),
        (f"a: {'9' * 5000}", "not usable: Exceeds the limit"),
    ],
)
def test_yaml_that_cannot_be_used_is_told_with_its_place(text: str, line: str) -> None:
    assert yaml_refusal(text).startswith(f"list.yaml: {line}")


def test_a_file_that_is_not_utf_8_is_told_with_its_line() -> None:
    assert yaml_refusal(b"a: 1\nb: \xff\n") == "list.yaml: line 2: not UTF-8 text"
    assert yaml_refusal("a: 1".encode("utf-16")).startswith("list.yaml: line 1: not UTF-8")


def test_a_small_file_that_would_become_huge_is_refused() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{here}: &{here} [{','.join([f'*{before}'] * 9)}]\n"
        for before, here in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert "anchors" in yaml_refusal(bomb)


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 5_000, "{a: " * 20_000])
def test_deep_nesting_is_refused(text: str) -> None:
    assert "nested deeper than 32 levels" in yaml_refusal(text)


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, "[" * 40 + "]" * 40])
def test_deep_nesting_in_json_is_refused(text: str) -> None:
    assert "nested deeper than 32 levels" in json_refusal(text)


def test_a_huge_file_is_refused_before_it_is_parsed() -> None:
    assert yaml_refusal(b"\0" * (256 * 1024 + 1)) == "list.yaml: larger than 256 KiB: that is no model list"
    assert json_refusal(" " * (256 * 1024 + 1)) == "MODELS_CONFIG: larger than 256 KiB: that is no model list"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "not JSON: line 1, column 1: Expecting value"),
        ("[{'a': 1}]", "not JSON: line 1, column 3: Expecting property name enclosed in double quotes"),
        ('[{"a": 1,\n "b": }]', "not JSON: line 2, column 7: Expecting value"),
        ("[] x", "not JSON: line 1, column 4: Extra data"),
        ('[{"a": 1, "a": 2}]', "not usable: `a` is set twice in one object"),
        ("[NaN]", "not usable: NaN is not JSON"),
        ("[-Infinity]", "not usable: -Infinity is not JSON"),
        ("[1e999]", "[0]: must be a finite number"),
        ("[12345678901234567890]", "[0]: must be a smaller number"),
        (f"[{'9' * 5000}]", "not usable: Exceeds the limit"),
        ('[{"a": "\\u0000"}]', "[0].a: must not contain the character U+0000"),
        ('[{"a b": "\\ud800"}]', '[0]["a b"]: must be text in UTF-8, without surrogates'),
    ],
)
def test_json_that_cannot_be_used_is_told_with_its_place(text: str, line: str) -> None:
    assert json_refusal(text).startswith(f"MODELS_CONFIG: {line}")
