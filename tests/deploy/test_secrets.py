"""The secrets of a run: read once, before any host is looked at, and told to nobody."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy.inputs import rack as racks
from deploy.inputs import secrets
from roles.errors import InputError
from tests.deploy.test_gpu_gate import STOPPED, WELL, run
from tests.deploy.test_rack import inventory_of
from tests.roles.secrets.test_certificate import issue

CANARY = "c4na4y-" + "5ec4e7" * 8
NOW = datetime(2026, 11, 28, 15, 0, tzinfo=UTC)


def load(
    environ: Mapping[str, str] | None = None,
    head: Mapping[str, Any] | None = None,
    worker: Mapping[str, Any] | None = None,
) -> secrets.Secrets:
    inventory = inventory_of(head=[("a", dict(head or {}))], workers=[("b", dict(worker or {}))])
    return secrets.load(racks.load_rack(inventory, {"MODEL_ID": "tiny"}), environ or {}, NOW.timestamp())


def problems(*arguments: Any, **host_data: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        load(*arguments, **host_data)
    assert CANARY not in str(caught.value)
    return list(caught.value.problems)


def kept(path: Path, text: str = CANARY) -> str:
    """A file that only its owner can read."""
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def key_list(directory: Path, *, of: str = "{file: ci.key}") -> dict[str, Any]:
    kept(directory / "ci.key")
    (directory / "keys.yaml").write_text(f"keys: [{{name: ci, from: {of}, models: [tiny]}}]")
    return {"keys_file": str(directory / "keys.yaml")}


def test_a_rack_that_declares_nothing_has_an_empty_map_and_nothing_else() -> None:
    found = load()
    assert found.declared_map.get_secret_value() == ""
    assert (found.certificates, found.files, found.warnings) == ({}, {}, ())


def test_the_keys_of_the_head_s_list_are_the_rack_s_by_their_hashes(tmp_path: Path) -> None:
    text = load(head=key_list(tmp_path)).declared_map.get_secret_value()
    assert text.endswith(" ci|9999999999|0|,tiny,\n")
    assert CANARY not in text


def test_a_worker_with_a_list_of_its_own_is_refused(tmp_path: Path) -> None:
    assert problems(head=key_list(tmp_path), worker={"keys_file": "other.yaml"}) == [
        "b: keys_file: is not the head's: all gateways know the same keys"
    ]
    assert problems(worker={"keys_file": "other.yaml"}) == [
        "b: keys_file: is not the head's: all gateways know the same keys"
    ]


def test_files_are_by_host_and_a_source_that_hosts_share_is_read_once(tmp_path: Path) -> None:
    count = tmp_path / "count"
    shared = {"hub.token": {"command": f"sh -c 'echo x >>{count}; echo {CANARY}'"}}
    found = load({"W": "w"}, head={"secrets": shared}, worker={"secrets": {**shared, "w": {"environment": "W"}}})
    contents = {
        host: {name: text.get_secret_value() for name, text in files.items()} for host, files in found.files.items()
    }
    assert contents == {"a": {"hub.token": CANARY}, "b": {"hub.token": CANARY, "w": "w"}}
    assert count.read_text() == "x\n"
    assert CANARY not in repr(found)


def test_every_problem_of_every_host_comes_at_once_and_a_shared_one_once(tmp_path: Path) -> None:
    shared = {"hub.token": {"environment": "NONE"}}
    found = problems(
        head={**key_list(tmp_path, of="{environment: ALSO_NONE}"), "secrets": shared},
        worker={"secrets": {**shared, "w.key": {"file": "/nowhere"}}},
    )
    assert found == [
        f"{tmp_path}/keys.yaml: keys[0].from.environment: ALSO_NONE is not set in the environment of this run",
        'a: secrets["hub.token"].environment: NONE is not set in the environment of this run',
        'b: secrets["w.key"].file: /nowhere: cannot be read: No such file or directory',
    ]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"secrets": {"../x": {"environment": "A"}}}, 'a: secrets["../x"]'),
        ({"secrets": {"ray.token": {"environment": "A"}}}, 'a: secrets["ray.token"]'),
        ({"secrets": {"hub": CANARY}}, "a: secrets.hub: must be exactly one of {file: PATH}"),
        ({"gateway_certificate": {"file": "a"}}, "a: gateway_certificate_key: missing: gateway_certificate is set"),
        ({"gateway_certificate_key": {"file": "a"}}, "a: gateway_certificate: missing: gateway_certificate_key is set"),
        ({"gateway_certificate_key": CANARY}, "a: gateway_certificate_key: must be exactly one of"),
    ],
)
def test_a_wrong_setting_is_told_with_its_place_and_not_repeated(data: Mapping[str, Any], expected: str) -> None:
    (line,) = problems(head=data)
    assert line.startswith(expected)


def test_an_own_certificate_is_judged_with_its_key(tmp_path: Path) -> None:
    own, other = (issue("a", names=("a",), begins=NOW - timedelta(1), ends=NOW + timedelta(90)) for _ in "ab")
    (tmp_path / "chain.pem").write_text(own.pem)  # public: everybody may read it
    pair = {"gateway_certificate": {"file": str(tmp_path / "chain.pem")}}
    right = {**pair, "gateway_certificate_key": {"file": kept(tmp_path / "key.pem", own.key_pem())}}
    assert list(load(head=right).certificates) == ["a"]
    wrong = {**pair, "gateway_certificate_key": {"file": kept(tmp_path / "key.pem", other.key_pem())}}
    assert problems(head=wrong) == ["a: gateway_certificate_key: is not the key of the certificate (a)"]


def test_a_worker_without_a_gateway_needs_no_certificate() -> None:
    found = load(worker={"gateway_certificate": {"file": "/none"}, "gateway_certificate_key": {"file": "/none"}})
    assert found.certificates == {}


def test_a_wrong_source_stops_the_run_before_any_host_is_looked_at(tmp_path: Path) -> None:
    data = {**key_list(tmp_path, of="{file: open.key}"), "secrets": {"hub.token": {"environment": "NOT_SET"}}}
    (tmp_path / "open.key").write_text(CANARY)
    (tmp_path / "open.key").chmod(0o644)
    (tmp_path / "keys.yaml").write_text((tmp_path / "keys.yaml").read_text().replace("tiny", "a"))
    result = run(tmp_path, {"gpu-01": WELL}, "-vvv", data={"gpu-01": data})
    assert result.returncode == 1
    lines = [line.strip() for line in result.stdout.split(STOPPED)[1].splitlines() if line.startswith("    ")]
    assert lines == [
        f"{tmp_path}/keys.yaml: keys[0].from.file: open.key is readable by others (mode 0644): chmod 600 open.key",
        '@fake/gpu-01: secrets["hub.token"].environment: NOT_SET is not set in the environment of this run',
    ]
    assert "HostFacts" not in result.stdout
    assert "Traceback" not in result.stdout


@pytest.mark.parametrize("kind", ["file", "environment", "command"])
def test_a_run_shows_no_secret_however_much_it_tells(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RACK_CANARY", CANARY)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    source = {
        kind: {"file": kept(tmp_path / "c"), "environment": "RACK_CANARY", "command": "printenv RACK_CANARY"}[kind]
    }
    (tmp_path / "keys.yaml").write_text(f"keys: [{{name: ci, from: {source}}}]".replace("'", '"'))
    data = {"keys_file": str(tmp_path / "keys.yaml"), "secrets": {"hub.token": source}}
    plan = tmp_path / "plan.json"
    result = run(
        tmp_path, {"gpu-01": WELL}, "-vvv", "--diff", "--debug", "--data", f"plan_file={plan}", data={"gpu-01": data}
    )
    assert result.returncode == 0, result.stdout
    written = result.stdout + "".join(file.read_text() for file in (plan, tmp_path / "inventory.py"))
    for form in (CANARY, base64.b64encode(CANARY.encode()).decode()[:40], CANARY.encode().hex()):
        assert form not in written


def test_an_expired_key_is_warned_of_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = key_list(tmp_path)
    (tmp_path / "keys.yaml").write_text("keys: [{name: ci, from: {file: ci.key}, expires: 2020-01-01}]")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = run(tmp_path, {"gpu-01": WELL, "gpu-02": WELL}, data={"gpu-01": data})
    assert result.returncode == 0, result.stdout
    assert result.stdout.count("keys[0]: ci has expired (2020-01-01): the gateway refuses it") == 1
