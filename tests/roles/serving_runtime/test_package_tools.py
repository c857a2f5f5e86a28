import io
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import package_tools
import pytest
from package_tools import Runner, Source, environment, reason
from runtimes import RuntimeProblem

# What uv 0.13.9 and pip 23 printed.
UV_HASH_MISMATCH = """\
Resolved 1 package in 2ms
error: Failed to download `idna==3.20`
  cause: Hash mismatch for `idna==3.20`

         Expected:
           sha256:0000000000000000000000000000000000000000000000000000000000000001

         Computed:
           sha256:ab7ae7122974553370f0bdb919e1a960b2cd1bc1ef0276416d896db81c14582c
"""
PIP_HASH_MISMATCH = """\
ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package versions, \
please update the hashes. Otherwise, examine the package contents carefully; someone may have tampered with them.
    idna==3.20 from https://index.example/idna-3.20-py3-none-any.whl (from -r bad.txt (line 1)):
        Expected sha256 0000000000000000000000000000000000000000000000000000000000000001
"""
UV_REFUSED = """\
Using Python 3.11.2 environment at: v
error: Request failed after 1 retry in 1.4s
  cause: Failed to fetch: https://user:secret@index.example/simple/idna/
  cause: error sending request for url (https://user:secret@index.example/simple/idna/)
  cause: client error (Connect)
  cause: tcp connect error
  cause: Connection refused (os error 111)
"""
UV_MISSING = """\
Using Python 3.11.2 environment at: v
error: No solution found when resolving dependencies
  cause: Because nothere-xyz was not found in the provided package locations and you require nothere-xyz==1.0, we can \
conclude that your requirements are unsatisfiable.
"""
PIP_REFUSED = """\
WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after connection broken by \
'NewConnectionError('<pip._vendor.urllib3.connection.HTTPConnection object at 0x7f0ef07831d0>: Failed to establish a \
new connection: [Errno 111] Connection refused')': /simple/torch/
ERROR: No matching distribution found for torch==2.13.0+cpu
"""
PIP_PROXY_REFUSES = """\
WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after connection broken by \
'ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 403 Forbidden'))': /whl/cpu/torch/
ERROR: No matching distribution found for torch==2.13.0+cpu
"""
UV_NO_SPACE = (
    "error: Failed to install: torch.whl\n  cause: failed to copy\n  cause: No space left on device (os error 28)\n"
)


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (UV_HASH_MISMATCH, "hash mismatch: the file served for idna==3.20 is not the one that the lock pins"),
        (PIP_HASH_MISMATCH, "hash mismatch: the file served for idna==3.20 is not the one that the lock pins"),
        (
            UV_REFUSED,
            "cannot read the package index (https://index.example/simple/idna/: Connection refused (os error 111)); "
            "check runtime_index_url and http_proxy",
        ),
        (
            PIP_REFUSED,
            "cannot read the package index ([Errno 111] Connection refused); check runtime_index_url and http_proxy",
        ),
        (
            PIP_PROXY_REFUSES,
            "cannot read the package index (connection failed: 403 Forbidden); check runtime_index_url and http_proxy",
        ),
        (
            UV_MISSING,
            "error: No solution found when resolving dependencies; Because nothere-xyz was not found in the provided "
            "package locations and you require nothere-xyz==1.0, we can conclude that your requirements are "
            "unsatisfiable.",
        ),
        ("Traceback\n\n  ImportError: libnuma.so.1\n", "Traceback; ImportError: libnuma.so.1"),
        ("", "no reason given"),
    ],
)
def test_a_failure_of_uv_or_pip_is_one_line_without_passwords(output: str, line: str, tmp_path: Path) -> None:
    assert reason(output, tmp_path) == line


def test_a_full_disk_is_named_with_what_is_free(tmp_path: Path) -> None:
    line = reason(UV_NO_SPACE, tmp_path)
    assert line.startswith("disk full: ")
    assert line.endswith(f" GiB free for {tmp_path}; make room there, then deploy again")


def test_a_site_index_and_proxy_reach_uv_and_pip_alike() -> None:
    source = Source(index_url="https://index.example/simple", http_proxy="http://proxy.example:3128", no_proxy="::1")
    variables = environment(source)
    assert variables["UV_DEFAULT_INDEX"] == variables["PIP_INDEX_URL"] == "https://index.example/simple"
    assert {variables[name] for name in ("http_proxy", "HTTPS_PROXY")} == {"http://proxy.example:3128"}
    assert variables["no_proxy"] == variables["NO_PROXY"] == "::1"


def test_an_index_without_tls_is_trusted_because_every_file_has_a_hash() -> None:
    variables = environment(
        Source(index_url="http://u:p@index.example:81/simple", cpu_torch_index_url="https://t.example")
    )
    assert variables["PIP_TRUSTED_HOST"] == "index.example:81"


def test_settings_of_somebody_else_do_not_redirect_an_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_INDEX_URL", "PIP_FIND_LINKS", "PYTHONPATH"):
        monkeypatch.setenv(name, "/elsewhere")
    assert not {"UV_INDEX_URL", "PIP_FIND_LINKS", "PYTHONPATH"} & environment(Source()).keys()


def runner(directory: Path, limit_s: float, variables: Mapping[str, str] = environment(Source())) -> Runner:
    return Runner(variables, directory / "log", time.monotonic() + limit_s)


def test_a_command_that_takes_long_shows_how_far_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package_tools, "PROGRESS_EVERY_S", 0.05)
    code = "import time; time.sleep(0.3); print('done')"
    began = time.monotonic()
    assert runner(tmp_path, 30).run("waiting", [sys.executable, "-c", code], progress=lambda: "(3 of 4)") == "done\n"
    shown = capsys.readouterr().out.splitlines()
    told = [re.fullmatch(r"waiting: (\d+) s \(3 of 4\)", line) for line in shown]
    assert told
    assert all(line and int(line[1]) <= round(time.monotonic() - began) for line in told)


def test_a_command_past_the_time_limit_is_ended_with_one_line(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(RuntimeProblem, match=r"^waiting: not done within the time limit of an installation$"):
        runner(tmp_path, 0.2).run("waiting", ["sleep", "60"])
    assert time.monotonic() - started < 5


def test_a_failure_says_what_was_being_done(tmp_path: Path) -> None:
    with pytest.raises(RuntimeProblem, match=r"^unpacking: no such luck$"):
        runner(tmp_path, 30).run("unpacking", ["sh", "-c", "echo no such luck >&2; exit 3"])


def test_when_the_connection_is_gone_the_command_is_ended_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", Gone())
    monkeypatch.setattr(package_tools, "PROGRESS_EVERY_S", 0.05)
    started = time.monotonic()
    with pytest.raises(BrokenPipeError):
        runner(tmp_path, 30).run("waiting", ["sleep", "60"])
    assert time.monotonic() - started < 5


def test_when_the_program_is_killed_the_command_is_ended_too(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from package_tools import Runner; "
        "Runner({}, Path(sys.argv[1]), time.monotonic() + 60).run('', ['/bin/sh', '-c', 'echo $$; exec sleep 61'])"
    )
    environment = {"PYTHONPATH": str(Path(package_tools.__file__).parent)}
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "log"], env=environment) as program:
        while not (child := _first_line(tmp_path / "log")):
            time.sleep(0.02)
        program.kill()
    for _ in range(100):
        if not Path(f"/proc/{child}/cmdline").exists() or b"sleep" not in Path(f"/proc/{child}/cmdline").read_bytes():
            return
        time.sleep(0.02)
    pytest.fail("the command outlived the program that started it")


def _first_line(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""
