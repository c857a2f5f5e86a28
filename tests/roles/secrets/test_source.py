"""Where a secret comes from. What is wrong with a source is one line, and no line ever holds a secret."""

import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from roles import field_errors
from roles.errors import InputError
from roles.secrets import command_output
from roles.secrets.source import MAX_BYTES, SecretSource, problem_of_key

SECRET = "c4na4y-" + "5ec4e7" * 6


def read(source: Mapping[str, str], base: Path = Path("/"), environ: Mapping[str, str] | None = None) -> str:
    wanted = SecretSource.model_validate(source)
    return wanted.read("keys.yaml: keys[1].from", environ or {}, base=base).get_secret_value()


def problem(source: Mapping[str, str], base: Path = Path("/"), environ: Mapping[str, str] | None = None) -> str:
    """The one line; it says which value it is about, and never what was read."""
    with pytest.raises(InputError) as caught:
        read(source, base, environ)
    (line,) = caught.value.problems
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    prefix = f"keys.yaml: keys[1].from.{next(iter(source))}: "
    assert line.startswith(prefix)
    return line.removeprefix(prefix)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return path


def test_a_file_is_read_without_the_line_end_it_closes_with(file: Path) -> None:
    assert read({"file": str(file)}) == SECRET
    file.write_bytes(SECRET.encode() + b"\r\n")
    assert read({"file": str(file)}) == SECRET
    file.write_text(f"{SECRET}\n\n")
    assert read({"file": str(file)}) == f"{SECRET}\n"


def test_a_path_is_relative_to_the_file_that_names_it(file: Path) -> None:
    assert read({"file": "key"}, base=file.parent) == SECRET


def test_a_tilde_is_the_home_of_who_runs_this(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(file.parent))
    assert read({"file": "~/key"}) == SECRET


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
def test_a_file_that_its_owner_alone_can_read_is_taken(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert read({"file": str(file)}) == SECRET


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (0o644, "is readable by others (mode 0644): chmod 600 {}"),
        (0o604, "is readable by others (mode 0604): chmod 600 {}"),
        (0o640, "is readable by its group (mode 0640): chmod 600 {}"),
        (0o602, "is open to others (mode 0602): chmod 600 {}"),
        (0o620, "is open to its group (mode 0620): chmod 600 {}"),
    ],
)
def test_a_file_that_others_can_reach_is_refused_with_the_remedy(file: Path, mode: int, expected: str) -> None:
    file.chmod(mode)
    assert problem({"file": str(file)}) == f"{file} {expected.format(file)}"


def test_what_is_public_may_be_read_by_everybody(file: Path) -> None:
    file.chmod(0o644)
    assert SecretSource(file=str(file)).read("c", {}, base=Path("/"), public=True).get_secret_value() == SECRET


def test_a_link_is_judged_by_what_it_leads_to(file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to(file)
    assert read({"file": str(link)}) == SECRET
    file.chmod(0o644)
    assert "is readable by others (mode 0644)" in problem({"file": str(link)})


def test_a_file_of_another_user_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root alone can give a file away: let the system say that it is another's.
    of_another = os.stat_result([*file.stat()[:4], 4321, *file.stat()[5:]])
    monkeypatch.setattr(os, "fstat", lambda _: of_another)
    assert problem({"file": str(file)}) == f"{file} belongs to the user id 4321, not to you or root"


def test_what_is_no_regular_file_is_refused_and_nobody_waits_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert problem({"file": str(tmp_path / "pipe")}) == f"{tmp_path}/pipe: is no regular file"
    assert problem({"file": str(tmp_path)}) == f"{tmp_path}: is no regular file"


def test_a_missing_file_says_from_where_it_was_looked_for(tmp_path: Path) -> None:
    assert problem({"file": "/nowhere/key"}) == "/nowhere/key: cannot be read: No such file or directory"
    assert problem({"file": "key"}, base=Path("lists")).endswith(f"(looked for it from {Path.cwd()})")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (SECRET.encode() + b"\0", "holds the character U+0000"),
        (SECRET.encode() + b"\xff", "is not UTF-8 text"),
        (b"x" * (MAX_BYTES + 1), "larger than 64 KiB: that is no secret"),
    ],
)
def test_what_cannot_be_a_secret_is_refused(file: Path, content: bytes, expected: str) -> None:
    file.write_bytes(content)
    assert problem({"file": str(file)}) == expected


def test_the_largest_one_is_read_whole(file: Path) -> None:
    file.write_bytes(b"x" * MAX_BYTES)
    assert len(read({"file": str(file)})) == MAX_BYTES


def test_a_variable_is_taken_from_the_environment() -> None:
    assert read({"environment": "RACK_KEY"}, environ={"RACK_KEY": SECRET}) == SECRET
    assert problem({"environment": "RACK_KEY"}) == "RACK_KEY is not set in the environment of this run"
    assert problem({"environment": "RACK_KEY"}, environ={"RACK_KEY": ""}) == "is empty"


def test_a_command_is_split_like_a_shell_s_but_no_shell_reads_it() -> None:
    assert read({"command": f"{sys.executable} -c 'print(\"{SECRET}\")'"}) == SECRET
    assert read({"command": "echo '$HOME; a  b' | c"}) == "$HOME; a  b | c"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("sh -c 'echo no such entry >&2; exit 3'", "sh: exit status 3: no such entry"),
        ("sh -c 'printf \"one\\ntwo\\n\\n\" >&2; exit 1'", "sh: exit status 1: two"),
        ("false", "false: exit status 1"),
        ("sh -c 'kill -9 $$'", "sh: exit status -9"),
        ("no-such-program-here x", "no-such-program-here: cannot be run: No such file or directory"),
        ("true", "is empty"),
        ("cat", "is empty"),  # it gets no terminal to wait for
        ("yes", "larger than 64 KiB: that is no secret"),
        # What it printed is told to nobody, in which way ever it says it.
        (f"sh -c 'echo {SECRET}; exit 1'", "sh: exit status 1"),
        (
            f"sh -c 'echo {SECRET}; echo bad: {SECRET} >&2; exit 1'",
            "sh: exit status 1: (what it says holds what it printed)",
        ),
    ],
)
def test_a_command_that_gives_no_secret_is_one_line(command: str, expected: str) -> None:
    assert problem({"command": command}) == expected


def test_a_command_that_takes_too_long_is_ended_also_when_its_children_hold_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_output.of, "__defaults__", (0.3,))
    for command in ("sleep 30", "sh -c 'sleep 3 & exec sleep 30'", "sh -c 'exec >&- 2>&-; exec sleep 30'"):
        assert problem({"command": command}).endswith(": not done after 0.3 s")


@pytest.mark.parametrize(
    "written",
    [SECRET, 12345, [SECRET], {}, {"file": None}, {SECRET: None}, {"value": SECRET}, {"file": "a", "environment": "B"}],
)
def test_anything_but_one_source_is_refused_and_not_repeated(written: Any) -> None:
    class Entry(BaseModel, hide_input_in_errors=True):
        source: SecretSource

    with pytest.raises(ValidationError) as caught:
        Entry.model_validate({"source": written})
    (line,) = field_errors.lines(caught.value, field_errors.path, ["source"])
    assert line.startswith("source: must be exactly one of {file: PATH}, {environment: NAME} and {command:")
    assert SECRET not in line + str(caught.value)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"file": " "}, "file: must be text, and not empty"),
        ({"file": 7}, "file: must be text, and not empty"),
        ({"environment": SECRET}, "environment: must be the name of an environment variable, not its value"),
        ({"command": f"echo '{SECRET}"}, "command: cannot be split into a program and its arguments: No closing quot"),
        ({"command": "'' x"}, "command: names no program"),
    ],
)
def test_a_wrong_value_of_a_source_is_refused_and_not_repeated(written: Any, expected: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SecretSource.model_validate(written)
    (line,) = field_errors.lines(caught.value, field_errors.path, ["file"])
    assert line.startswith(expected)
    assert SECRET not in line + str(caught.value)


def test_no_way_to_print_it_shows_what_was_read(file: Path) -> None:
    secret = SecretSource(file=str(file)).read("k", {}, base=Path("/"))
    assert SECRET not in f"{secret} {secret!r} {[secret]} { ({'a': secret}) }"


@pytest.mark.parametrize("value", ["with space" * 4, "two\nlines" * 5, "ümlaut" * 8, "tab\t" * 10])
def test_a_key_is_visible_ascii_as_a_header_takes_it(value: str) -> None:
    assert (problem_of_key(SecretStr(value), 32) or "").startswith("must be one line of visible ASCII")


def test_a_key_that_somebody_could_guess_is_refused() -> None:
    assert (problem_of_key(SecretStr("x" * 31), 32) or "").startswith("has 31 characters and must have at least 32")
    assert problem_of_key(SecretStr("x" * 32), 32) is None


def test_a_command_s_output_is_a_pipe_and_no_file_on_disk() -> None:
    shown = read({"command": "readlink /proc/self/fd/1"})
    assert shown.startswith("pipe:")
