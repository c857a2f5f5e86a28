"""Putting secrets on a host: whole, quietly, and only where they are not there yet. pyinfra and the shell are real."""

import base64
import grp
import os
import pwd
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from roles.secrets import facts, steps
from roles.secrets.secret_file import SecretFile
from tests.lab.lab import ROOT, program
from tests.roles.fake_host import changes

CANARY = "c4na4y-" + "5ec4e7" * 8
ME = pwd.getpwuid(os.geteuid()).pw_name
GROUP = grp.getgrgid(os.getegid()).gr_name
DEPLOY = """
import os
from pathlib import Path
from roles.secrets import steps
from roles.secrets.secret_file import SecretFile
from roles.secrets.source import SecretSource

for kind, value in {sources!r}.items():
    secret = SecretSource.model_validate({{kind: value}}).read("canary", os.environ, base=Path("/"))
    path = {directory!r} + "/" + kind
    file = SecretFile(path, secret, {user!r}, {group!r}, {mode!r})
    steps.put(name="The canary from " + kind, files=[file])
"""


def pyinfra(
    directory: Path, *arguments: str, mode: str = "400", returncode: int = 0, sources: Mapping[str, str] | None = None
) -> str:
    """Put the canary from each of ``sources`` into ``directory`` of this machine; all that pyinfra says."""
    sources = sources or {"environment": "CANARY"}
    file = directory.parent / f"{directory.name}-put.py"
    file.write_text(DEPLOY.format(sources=sources, directory=str(directory), user=ME, group=GROUP, mode=mode))
    result = subprocess.run(
        [program("pyinfra"), "@local", str(file), "-y", *arguments],
        cwd=ROOT,
        env={**os.environ, "CANARY": CANARY},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == returncode, result.stdout
    return result.stdout


def shows(text: str) -> list[str]:
    """In which forms ``text`` has the canary."""
    forms = {"plain": CANARY, "base64": base64.b64encode(CANARY.encode()).decode(), "hex": CANARY.encode().hex()}
    return [form for form, value in forms.items() if value in text or value[8:24] in text]


def test_a_secret_of_any_source_comes_to_the_host_and_into_no_output(tmp_path: Path) -> None:
    own, there = tmp_path / "own", tmp_path / "there"
    there.mkdir()
    own.write_text(CANARY + "\n")
    own.chmod(0o600)
    sources = {"file": str(own), "environment": "CANARY", "command": "printenv CANARY"}
    paths = [there / kind for kind in sources]
    output = pyinfra(there, "-vvv", "--diff", "--dry", sources=sources)
    assert not any(path.exists() for path in paths)
    output += pyinfra(there, "-vvv", "--diff", "--debug", sources=sources)
    assert [path.read_text() for path in paths] == [CANARY] * 3
    for path in paths:  # what is there is compared, and replaced
        path.chmod(0o600)
        path.write_text("another")
    output += pyinfra(there, "-vvv", "--diff", sources=sources)
    output += pyinfra(there, "-vvv", "--diff", "--json", sources=sources)
    assert [path.read_text() for path in paths] == [CANARY] * 3
    assert "The canary from command" in output
    assert shows(output) == []
    assert "_stdin=[(the salt of this run)]" in output  # with it, the digests that are shown would tell a weak secret


def test_the_search_would_find_a_leak() -> None:
    encoded = base64.b64encode(CANARY.encode()).decode()
    assert [shows(f"x {form} y") for form in (CANARY, encoded, CANARY[4:30], "")] == [
        ["plain"],
        ["base64"],
        ["plain"],
        [],
    ]


def test_a_second_run_changes_nothing_and_another_mode_is_mended(tmp_path: Path) -> None:
    pyinfra(tmp_path)
    first = (tmp_path / "environment").stat()
    assert first.st_mode & 0o7777 == 0o400
    pyinfra(tmp_path)
    assert (tmp_path / "environment").stat().st_ino == first.st_ino
    pyinfra(tmp_path, mode="640")
    assert (tmp_path / "environment").stat().st_mode & 0o7777 == 0o640


def test_a_link_in_its_place_is_replaced_and_what_it_leads_to_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(CANARY)
    (tmp_path / "elsewhere").chmod(0o400)
    (tmp_path / "environment").symlink_to(tmp_path / "elsewhere")
    pyinfra(tmp_path, mode="600")
    assert not (tmp_path / "environment").is_symlink()
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o400


def write(directory: Path, stdin: str) -> subprocess.CompletedProcess[str]:
    command = steps.write_command(SecretFile(str(directory / "it's"), SecretStr(""), ME, GROUP))
    return subprocess.run(["sh", "-c", command], input=stdin, text=True, capture_output=True, check=False)


@pytest.mark.parametrize("cut", ["", "c2VjcmV0", "c2VjcmV0\n", "c2VjcmV0\nx", "no base64!\n.\n"])
def test_a_broken_connection_replaces_nothing(tmp_path: Path, cut: str) -> None:
    (tmp_path / "it's").write_text("old")
    assert write(tmp_path, cut).returncode != 0
    assert (tmp_path / "it's").read_text() == "old"


@pytest.mark.parametrize("text", ["s", "two\nlines\n", "%s $HOME \\n '\"`", "ü" * 40_000, ""])
def test_what_is_written_is_what_came_byte_by_byte(tmp_path: Path, text: str) -> None:
    assert write(tmp_path, f"{base64.b64encode(text.encode()).decode()}\n.\n").returncode == 0
    assert (tmp_path / "it's").read_bytes() == text.encode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["it's"]


def test_no_process_has_the_secret_among_its_arguments(tmp_path: Path) -> None:
    """Every program that the command starts is seen by a shell that logs what it would run."""
    log = tmp_path / "log"
    for name in ("base64", "chown", "chmod", "mv", "rm"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{log}\nexec /usr/bin/{name} "$@"\n')
        (tmp_path / name).chmod(0o755)
    encoded = base64.b64encode(CANARY.encode()).decode()
    subprocess.run(
        ["sh", "-c", steps.write_command(SecretFile(str(tmp_path / "s"), SecretStr(""), ME, GROUP))],
        input=f"{encoded}\n.\n",
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        text=True,
        check=True,
    )
    assert (tmp_path / "s").read_text() == CANARY
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["rm", "base64", "chown", "chmod", "mv"]
    assert shows(log.read_text()) == []


def installs(found: list[str], **contents: str) -> Any:
    """What changes a fake host that has these secrets."""
    files = [SecretFile(f"/etc/rayrack/secrets/{name}", SecretStr(content)) for name, content in contents.items()]
    return changes(steps.install, {"sha256sum": found}, files=files)


def shown(name: str, content: str, mode: str = "400") -> str:
    path = f"/etc/rayrack/secrets/{name}"
    return f"{facts.line_of(SecretFile(path, SecretStr(content), mode=mode))} - {path}"


def test_only_what_differs_is_written_and_files_that_nobody_declares_are_left_alone() -> None:
    found = [shown("hub", "a"), shown("other", "b"), shown("own", "c", "600"), shown("by-hand", "d")]
    assert installs(found, hub="a") == {}
    assert "Secrets from the operator's side" in installs(found, hub="new")
    assert "Secrets from the operator's side" in installs(found, own="c")
    assert "Secrets from the operator's side" in installs([], hub="a")


def test_a_host_without_declared_secrets_is_asked_nothing() -> None:
    assert installs([]) == {}


def test_a_file_that_cannot_be_written_fails_with_one_line(tmp_path: Path) -> None:
    output = pyinfra(tmp_path / "none", "-vvv", returncode=1)
    assert f"cannot write {tmp_path}/none/environment: " in output
    assert "Directory nonexistent" in output or "No such file or directory" in output
    assert "Traceback" not in output
    assert shows(output) == []


def test_a_digest_that_pyinfra_shows_says_nothing_to_who_does_not_have_this_run_s_salt() -> None:
    """Somebody with the output could else try passwords until one fits."""
    code = (
        "from pydantic import SecretStr; from roles.secrets import facts, secret_file; "
        "print(facts.line_of(secret_file.SecretFile('/p', SecretStr('a'))))"
    )
    runs = {
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True).stdout for _ in "ab"
    }
    assert len(runs) == 2
    assert facts.salt()[0] not in facts.SecretFiles().command(["/p"])
