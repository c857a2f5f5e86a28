"""The search for planted secrets finds what it is there to find. Without that its silence would say nothing."""

import base64
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab import canary_search
from tests.lab.canary_search import Canaries, Hit

PROGRAM = Path(canary_search.__file__)
SECRET = "canary+/=7f3a91c2 d5e8"


def question(directory: Path, **more: Any) -> dict[str, Any]:
    return {"canaries": {"x": SECRET}, "roots": [str(directory)], "skip": [], "since": 0, "journal": False, **more}


def searched(asked: dict[str, Any]) -> list[Hit]:
    run = subprocess.run(
        [sys.executable, PROGRAM, "search"], input=json.dumps(asked) + "\n", text=True, capture_output=True, check=True
    )
    hits: list[Hit] = json.loads(run.stdout)
    return hits


@given(st.binary(max_size=40), st.binary(max_size=40), st.text(min_size=12, max_size=60))
def test_base64_is_found_wherever_the_secret_begins_in_it(before: bytes, after: bytes, secret: str) -> None:
    data = before + secret.encode(errors="ignore") + after
    if secret.encode(errors="ignore") == secret.encode(errors="replace"):
        for encoded in (base64.b64encode(data), base64.urlsafe_b64encode(data)):
            assert Canaries({"x": secret}).found_in(b"prefix " + encoded) == ["x"]


@pytest.mark.parametrize(
    "text", [SECRET, quote(SECRET), quote(SECRET, safe=""), SECRET.encode().hex(), json.dumps({"a": SECRET})]
)
def test_other_shapes_are_found(text: str) -> None:
    assert Canaries({"x": SECRET}).found_in(f"... {text} ...".encode()) == ["x"]


def test_a_copy_that_is_cut_off_or_broken_into_lines_is_found() -> None:
    secret = "0123456789abcdef" * 4
    lines = base64.encodebytes(f"a copy: {secret}".encode())
    assert lines.count(b"\n") > 1
    for copy in (secret[:30], secret[-30:]):
        assert Canaries({"x": secret}).found_in(copy.encode()) == ["x"]
    assert Canaries({"x": secret}).found_in(lines) == ["x"]


def test_what_only_looks_alike_is_no_hit() -> None:
    assert Canaries({"x": SECRET}).found_in(SECRET[:-1].encode()) == []


def test_a_file_is_told_with_its_mode(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(f"token={SECRET}\n")
    (tmp_path / "log").chmod(0o644)
    (hit,) = searched(question(tmp_path))
    assert (hit["kind"], hit["where"], hit["how"]) == ("file", str(tmp_path / "log"), "644 root:root")


def test_a_secret_in_a_large_binary_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(b"\0\xff" * 2**20 + SECRET.encode() + b"\0" * 100)
    assert len(searched(question(tmp_path))) == 1


def test_what_is_skipped_or_older_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(SECRET)
    assert searched(question(tmp_path, skip=[str(tmp_path / "log")])) == []
    assert searched(question(tmp_path, since=time.time() + 60)) == []


def test_a_process_shows_its_environment_and_its_command_line(tmp_path: Path) -> None:
    argument = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", SECRET])
    variable = subprocess.Popen(["sleep", "60"], env={"A": SECRET})
    try:
        assert {hit["kind"] for hit in searched(question(tmp_path))} == {"cmdline", "environ"}
    finally:
        for process in (argument, variable):
            process.kill()
            process.wait()


def test_watching_catches_a_command_that_has_ended_since() -> None:
    watching = subprocess.Popen(
        [sys.executable, PROGRAM, "watch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert watching.stdin is not None
    watching.stdin.write(json.dumps({"canaries": {"x": SECRET}}) + "\n")
    watching.stdin.flush()
    time.sleep(0.5)
    subprocess.run([sys.executable, "-c", "import time; time.sleep(0.5)", SECRET], check=True)
    shown, _ = watching.communicate()
    assert [(hit["canary"], hit["kind"]) for hit in json.loads(shown)] == [("x", "cmdline")]
