import json
from pathlib import Path

import pytest

from roles.serving_runtime import lock, steps
from tests.roles.fake_host import changes

LOCK = lock.lock_for("cpu", "x86_64", "3.11.2")
SETTINGS = {
    "runtime": "cpu",
    "lock": LOCK,
    "wheelhouse": "/srv/wheelhouse",
    "index_url": None,
    "cpu_torch_index_url": "https://torch.example/cpu",
    "http_proxy": None,
    "no_proxy": "localhost",
}
INSTALL = f"Runtime {LOCK.digest} (cpu-linux-x86_64-py311)"
MARKER = "cat /opt/rayrack/current/.complete"


def test_a_blank_host_gets_the_lock_and_a_run_of_the_installer() -> None:
    change = changes(steps.install, {}, **SETTINGS)[INSTALL]
    uploaded = f"/opt/rayrack/runtime/{LOCK.digest}.txt"
    assert dict(change.files) == {uploaded: LOCK.path.read_text()}
    assert change.commands == (
        "mkdir -p /opt/rayrack/runtime",
        f"/opt/rayrack/bin/install_runtime {uploaded}",
    )


def test_the_installer_and_its_modules_are_put_on_the_host() -> None:
    changed = changes(steps.install, {}, **SETTINGS)
    change = changed["Programs that install the runtime"]
    host_modules = (Path(steps.__file__).parent / "host").glob("*.py")
    assert set(change.files) == {f"/opt/rayrack/lib/{path.name}" for path in host_modules}
    assert change.commands[-1].endswith(" /opt/rayrack/bin/install_runtime")


def test_a_host_whose_current_runtime_is_complete_is_left_alone() -> None:
    marker = json.dumps({"digest": LOCK.digest, "ray": "2.60.0"}, indent=2).splitlines()
    assert INSTALL not in changes(steps.install, {MARKER: marker}, **SETTINGS)


@pytest.mark.parametrize("marker", ["", "{", '{"digest": "0123456789abcdef"}', "[]"])
def test_another_or_an_unfinished_runtime_is_replaced(marker: str) -> None:
    assert INSTALL in changes(steps.install, {MARKER: marker}, **SETTINGS)


def test_passwords_in_the_urls_of_index_and_proxy_are_in_no_command_line() -> None:
    secret = {"index_url": "https://user:geheim@index.example/simple", "http_proxy": "http://user:geheim@proxy.example"}
    change = changes(steps.install, {}, **{**SETTINGS, **secret})[INSTALL]
    assert "geheim" not in " ".join(change.commands)


def test_the_compiler_and_the_headers_that_engines_need_are_installed() -> None:
    changed = changes(steps.install, {}, **SETTINGS)
    (install,) = [c for c in changed["Packages the cpu runtime needs"].commands if " install " in c]
    assert {"g++", "python3-dev", "libnuma1", "libgomp1"} <= set(install.split())
    assert "python3-venv" not in install, "a wheelhouse brings uv itself"


def test_without_a_wheelhouse_the_host_gets_a_pip_to_fetch_uv_with() -> None:
    changed = changes(steps.install, {}, **{**SETTINGS, "wheelhouse": None})
    (install,) = [c for c in changed["Packages the cpu runtime needs"].commands if " install " in c]
    assert "python3-venv" in install.split()
