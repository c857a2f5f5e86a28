"""The list of declared keys: every problem of it in one error, and never a key in any."""

import contextlib
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.errors import InputError
from roles.gateway.declared_keys import key_list
from roles.gateway.declared_keys.host_rules import gateway_keys
from roles.secrets.source import SecretSource

NOW = 1_800_000_000.0  # 2027-01-15
KEYS = {"CI": "c4na4y-ci-" + "5ec4e7" * 8, "CHAT": "c4na4y-chat-" + "5ec4e7" * 8, "SHORT": "c4na4y"}
MODELS = ("tiny", "org/large")


def load(directory: Path, text: str) -> key_list.KeyList:
    file = directory / "keys.yaml"
    file.write_text(text)

    def read(source: SecretSource, where: str):  # type: ignore[no-untyped-def]
        return source.read(where, KEYS, base=directory)

    return key_list.load(str(file), read, model_ids=MODELS, now=NOW)


def problems(directory: Path, text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        load(directory, text)
    said = "\n".join(caught.value.problems)
    assert not any(key in said for key in KEYS.values() if len(key) > 8)
    return [line.removeprefix(f"{directory}/keys.yaml: ") for line in caught.value.problems]


def test_a_key_becomes_the_hash_by_which_the_gateway_knows_it(tmp_path: Path) -> None:
    text = """
    keys:
    - name: ci
      from: {environment: CI}
      models: [org/large, tiny, tiny]
      requests_per_minute: 60
      expires: 2027-01-31
    - {name: chat, from: {command: printf %s c4na4y-chat-5ec4e75ec4e75ec4e75ec4e75ec4e7}}
    - {name: partner, sha256: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824}
    """
    chat = hashlib.sha256(b"c4na4y-chat-5ec4e75ec4e75ec4e75ec4e75ec4e7").hexdigest()
    ci = hashlib.sha256(KEYS["CI"].encode()).hexdigest()
    assert load(tmp_path, text) == key_list.KeyList(
        (
            gateway_keys.Key(ci, "ci", 1_801_440_000, 60, ("org/large", "tiny")),
            gateway_keys.Key(chat, "chat"),
            gateway_keys.Key("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", "partner"),
        )
    )


def test_a_list_may_be_empty_when_it_says_so(tmp_path: Path) -> None:
    assert load(tmp_path, "keys: []") == key_list.KeyList(())


@pytest.mark.parametrize("text", ["", "keys:", "keys: 7", "- name: ci", "name: ci", "key: []"])
def test_a_file_of_another_shape_is_one_line(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text) == ["must be a mapping with `keys:`, a list of keys; `keys: []` declares none"]


def test_nothing_else_stands_beside_the_keys(tmp_path: Path) -> None:
    assert problems(tmp_path, "keys: []\ndefaults: {}") == [
        "a list of keys has `keys:` alone, and this one has 1 more beside it"
    ]


def test_a_key_written_where_its_entry_belongs_is_not_repeated(tmp_path: Path) -> None:
    assert problems(tmp_path, f"keys: [{KEYS['CI']}]") == [
        "keys[0]: must be a mapping of fields: {name: ..., from: {file: ...}}"
    ]


def test_broken_yaml_says_where(tmp_path: Path) -> None:
    (line,) = problems(tmp_path, "keys: [{name: a")
    assert line.startswith("line 1, column ")


def test_a_missing_list_says_where_it_was_looked_for() -> None:
    with pytest.raises(InputError) as caught:
        key_list.load("no/keys.yaml", lambda source, where: source.read(where, {}, base=Path()), model_ids=(), now=NOW)
    assert caught.value.problems == (
        f"no/keys.yaml: cannot read the list of keys: No such file or directory (looked for it from {Path.cwd()})",
    )


def test_all_problems_of_all_keys_come_at_once_each_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "open").write_text(KEYS["CI"])
    (tmp_path / "open").chmod(0o644)
    text = """
    keys:
    - {name: a, from: {file: open}}
    - {name: b, from: {environment: SHORT}}
    - {name: c, from: {environment: NONE}, models: [tny]}
    - {name: d, from: {environment: CI}, models: [tiny, gone]}
    - {name: E, from: {environment: CI}}
    """
    assert sorted(problems(tmp_path, text)) == [
        "keys[0].from.file: open is readable by others (mode 0644): chmod 600 open",
        "keys[1].from.environment: the key has 6 characters and must have at least 32, chosen at random: "
        "openssl rand -hex 32",
        "keys[2].from.environment: NONE is not set in the environment of this run",
        "keys[2].models[0]: tny is not in the model list; did you mean `tiny`?",
        "keys[3].models[1]: gone is not in the model list; a model that is removed is taken out here, too",
        "keys[4].name: must be 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit",
    ]


def test_a_name_stands_for_one_key_and_a_key_for_one_name(tmp_path: Path) -> None:
    text = """
    keys:
    - {name: a, from: {environment: CI}}
    - {name: a, from: {environment: CHAT}}
    - {name: b, from: {command: 'printf %s {}'}}
    """.replace("{}", KEYS["CI"])
    assert problems(tmp_path, text) == [
        "keys[1].name: a is already the name of keys[0]",
        "keys[2]: b is the same key as keys[0] (a): each name needs a key of its own",
    ]


def test_a_key_that_has_expired_is_a_warning_and_does_not_keep_anybody_from_deploying(tmp_path: Path) -> None:
    found = load(tmp_path, "keys: [{name: a, from: {environment: CI}, expires: 2027-01-14}]")
    assert found.warnings == (f"{tmp_path}/keys.yaml: keys[0]: a has expired (2027-01-14): the gateway refuses it",)
    assert found.entries[0].expires < NOW
    assert load(tmp_path, "keys: [{name: a, from: {environment: CI}, expires: 2027-01-15}]").warnings == ()


@given(st.binary())
def test_whatever_stands_in_the_file_is_a_list_or_lines(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(raw)
    with contextlib.suppress(InputError):
        key_list.load(str(file), lambda source, where: source.read(where, {}, base=Path()), model_ids=(), now=NOW)


def test_the_example_is_right_but_for_keys_that_only_you_have() -> None:
    models = ("Qwen/Qwen2.5-7B-Instruct",)
    environ = {"RAYRACK_CHAT_KEY": "k" * 40}
    with pytest.raises(InputError) as caught:
        key_list.load(
            "inventories/keys/prod.yaml",
            lambda source, where: source.read(where, environ, base=Path("/nowhere")),
            model_ids=models,
            now=NOW,
        )
    assert [line.split(": ")[1] for line in caught.value.problems] == ["keys[0].from.file", "keys[2].from.command"]
