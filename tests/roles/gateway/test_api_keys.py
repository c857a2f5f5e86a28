"""The host program api_keys and its files, where no gateway runs."""

import hashlib
import json
import re
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import api_keys
import pytest
from gateway_keys import NEVER, Key, KeyFiles, KeyProblem, differences, parse
from hypothesis import given
from hypothesis import strategies as st

names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True)
ids = st.from_regex(r"[A-Za-z0-9._:/@+-]{1,40}", fullmatch=True)
digests = st.binary(max_size=8).map(lambda data: hashlib.sha256(data).hexdigest())
keys = st.builds(
    Key, digests, names, st.integers(0, NEVER), st.integers(0, 1_000_000), st.lists(ids, max_size=4).map(tuple)
)


class Program:
    """api_keys on a directory of its own, and what it says."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory, self._capsys = directory, capsys

    def __call__(self, *words: str) -> tuple[int, str, str]:
        try:
            code = api_keys.main(
                ["--directory", str(self.directory), "--master", str(self.directory / "no.sock"), *words]
            )
        except SystemExit as ended:
            code = int(str(ended.code))
        said = self._capsys.readouterr()
        return code, said.out, said.err

    @property
    def made(self) -> list[Key]:
        return KeyFiles(self.directory).made()

    def declare(self, name: str) -> None:
        """As a deploy does."""
        key = Key(hashlib.sha256(name.encode()).hexdigest(), name)
        (self.directory / "declared.map").write_text(f"{key.digest} {key.value}\n")


@pytest.fixture
def program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(tmp_path, capsys)


@given(st.lists(keys, max_size=5))
def test_a_file_is_read_as_it_was_written(some: list[Key]) -> None:
    assert parse("".join(f"{key.digest} {key.value}\n" for key in some), "file") == some


@given(st.text(min_size=1, max_size=200).filter(lambda text: "#" not in text and text.strip()))
def test_a_text_of_others_is_one_clear_line_that_does_not_show_it(text: str) -> None:
    with pytest.raises(KeyProblem) as caught:
        parse(text, "made.map")
    assert re.fullmatch(
        r"made\.map:\d+: not a line of an API key; deploy again, or take the line out", str(caught.value)
    )


def test_a_key_is_printed_once_and_kept_as_a_hash(program: Program) -> None:
    code, out, err = program("make", "ci")
    secret = out.removesuffix("\n")
    assert (code, err) == (0, f"{api_keys.NOT_RUNNING}\n")
    assert re.fullmatch(r"rr-[A-Za-z0-9_-]{43}", secret)
    assert program.made == [Key(hashlib.sha256(secret.encode()).hexdigest(), "ci")]
    assert all(secret not in path.read_text() for path in program.directory.iterdir())
    assert secret not in "".join(map(str, program("list")))


def test_no_two_keys_are_the_same(program: Program) -> None:
    assert len({program("make", f"key-{number}")[1] for number in range(20)}) == 20


def test_the_file_is_for_the_gateway_alone_and_never_half_written(program: Program) -> None:
    program("make", "ci")
    state = (program.directory / "made.map").stat()
    assert (stat.S_IMODE(state.st_mode), state.st_gid) == (0o640, program.directory.stat().st_gid)
    assert sorted(path.name for path in program.directory.iterdir()) == ["lock", "made.map"]


def test_a_key_has_the_limits_it_was_made_with(program: Program) -> None:
    program("make", "ci", "--expires", "2099-01-31", "--models", "tiny-a,org/b.c:d", "--requests-per-minute", "60")
    [key] = program.made
    assert datetime.fromtimestamp(key.expires, UTC) == datetime(2099, 2, 1, tzinfo=UTC)
    assert (key.requests_per_minute, key.models) == (60, ("tiny-a", "org/b.c:d"))
    assert key.value == f"ci|{key.expires}|60|,tiny-a,org/b.c:d,"


@pytest.mark.parametrize(("text", "after"), [("10m", {"minutes": 10}), ("2h", {"hours": 2}), ("90d", {"days": 90})])
def test_a_key_may_expire_in_some_time(program: Program, text: str, after: dict[str, int]) -> None:
    program("make", "ci", "--expires-in", text)
    assert abs(program.made[0].expires - time.time() - timedelta(**after).total_seconds()) < 60


def test_a_time_is_taken_with_its_zone(program: Program) -> None:
    program("make", "ci", "--expires", "2099-01-31T12:00:00+02:00")
    assert program.made[0].expires == int(datetime(2099, 1, 31, 10, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    "words",
    [
        ["make", "Upper"],
        ["make", "-dash"],
        ["make", "two words"],
        ["make", "a|b"],
        ["make", "x" * 64],
        ["make", ""],
        ["make", "ci", "--expires", "2020-01-01"],
        ["make", "ci", "--expires", "2099-02-30"],
        ["make", "ci", "--expires", "tomorrow"],
        ["make", "ci", "--expires", "2099-01-31T12:00:00"],
        ["make", "ci", "--expires", "9999-01-01"],
        ["make", "ci", "--expires-in", "0d"],
        ["make", "ci", "--expires-in", "5"],
        ["make", "ci", "--expires-in", "1w"],
        ["make", "ci", "--expires-in", "9999999d"],
        ["make", "ci", "--expires", "2099-01-01", "--expires-in", "1d"],
        ["make", "ci", "--models", ""],
        ["make", "ci", "--models", "a,,b"],
        ["make", "ci", "--models", "a b"],
        ["make", "ci", "--models", "*"],
        ["make", "ci", "--requests-per-minute", "0"],
        ["make", "ci", "--requests-per-minute", "-1"],
        ["make", "ci", "--requests-per-minute", "1e3"],
        ["revoke"],
        ["frobnicate"],
        [],
    ],
)
def test_wrong_arguments_change_nothing(program: Program, words: list[str]) -> None:
    code, out, err = program(*words)
    assert (code, out) == (2, "")
    assert re.match(r"api_keys(?: \w+)?: error: .+", err.splitlines()[-1])
    assert not list(program.directory.iterdir())


def test_a_name_is_taken_once(program: Program) -> None:
    program("make", "ci")
    code, out, err = program("make", "ci")
    assert (code, out) == (1, "")
    assert err == "api_keys: ci: there is a key of this name; revoke it first, or take another name\n"


def test_the_name_of_an_expired_key_is_free(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    program("make", "ci", "--expires-in", "1h")
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    assert "ci    host  " in program("list")[1]
    assert "(expired)" in program("list")[1]
    assert program("make", "ci")[0] == 0
    assert [key.expires for key in program.made] == [NEVER]


def test_a_key_is_revoked_by_its_name(program: Program) -> None:
    program("make", "ci")
    program("make", "ci-2")
    assert program("revoke", "ci") == (0, "", f"{api_keys.NOT_RUNNING}\n")
    assert [key.name for key in program.made] == ["ci-2"]
    assert program("revoke", "ci") == (
        1, "", "api_keys: ci: there is no key of this name; `api_keys list` shows them all\n"
    )  # fmt: skip


def test_a_declared_key_belongs_to_the_deploy(program: Program) -> None:
    program.declare("team-a")
    assert program("make", "team-a")[0] == 1
    assert program("make", "team-a")[2] == (
        "api_keys: team-a: the deploy declares a key of this name (keys_file); take another name\n"
    )
    assert program("revoke", "team-a")[2] == (
        "api_keys: team-a: the deploy declares this key; take it out of keys_file and deploy\n"
    )
    assert not (program.directory / "made.map").exists()


def test_a_made_key_whose_name_is_declared_later_can_still_be_revoked(program: Program) -> None:
    program("make", "team-a")
    program.declare("team-a")
    code, _, err = program("revoke", "team-a")
    assert (code, program.made) == (0, [])
    assert "team-a: the key of this name that the deploy declares goes on" in err


def test_the_list_shows_all_keys_and_who_made_them(program: Program) -> None:
    program.declare("team-a")
    program("make", "ci", "--expires", "2099-01-31", "--models", "tiny-a", "--requests-per-minute", "60")
    assert program("list")[1].splitlines() == [
        "NAME    FROM    EXPIRES               PER MINUTE  MODELS",
        "ci      host    2099-02-01T00:00:00Z  60          tiny-a",
        "team-a  deploy  never                 no limit    all",
    ]
    assert [each["name"] for each in json.loads(program("list", "--json")[1])] == ["ci", "team-a"]


def test_a_broken_file_is_told_and_not_written_over(program: Program) -> None:
    made = program.directory / "made.map"
    made.write_text("confidential\n")
    for words in (["make", "ci"], ["list"], ["revoke", "ci"], ["apply"], ["check"]):
        code, out, err = program(*words)
        assert (code, out) == (1, "")
        assert err.startswith(f"api_keys: {made}:1: not a line of an API key")
        assert "confidential" not in err
    assert made.read_text() == "confidential\n"


def test_a_host_without_a_gateway_is_told_so(program: Program, tmp_path: Path) -> None:
    program.directory = tmp_path / "nowhere"
    code, _, err = program("make", "ci")
    assert code == 1
    assert err == f"api_keys: {tmp_path}/nowhere/lock is not there: deploy the gateway first\n"


def test_without_a_gateway_that_runs_nothing_differs(program: Program) -> None:
    program("make", "ci")
    assert program("check") == (0, "", f"{api_keys.NOT_RUNNING}\n")
    assert program("apply") == (0, "", f"{api_keys.NOT_RUNNING}\n")


def test_a_difference_is_told_by_name() -> None:
    wanted = {"1": "new|9|0|*", "2": "same|9|0|*", "3": "changed|9|5|*"}
    held = {"2": "same|9|0|*", "3": "changed|9|0|*", "4": "revoked|9|0|*"}
    assert differences(wanted, held) == [
        "the key changed has other limits", "the key new is not known", "the key revoked still works"
    ]  # fmt: skip
