"""apt's proxy file: what stands in it, and who sees its password."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from roles.base_system import apt_proxy
from roles.base_system.apt_proxy import AptProxy
from tests.roles.fake_host import changes

PROXY = AptProxy.of("http://user:geheim@proxy:3128", "localhost, .example.org")
FACT = "sha256sum <"


def test_apt_asks_the_proxy_but_for_the_exceptions() -> None:
    assert PROXY.text.splitlines()[1:] == [
        'Acquire::http::Proxy "http://user:geheim@proxy:3128";',
        'Acquire::https::Proxy "http://user:geheim@proxy:3128";',
        'Acquire::http::Proxy::localhost "DIRECT";',
        'Acquire::https::Proxy::localhost "DIRECT";',
        'Acquire::http::Proxy::.example.org "DIRECT";',
        'Acquire::https::Proxy::.example.org "DIRECT";',
    ]


def test_a_password_is_in_no_command_and_the_file_is_roots_alone() -> None:
    (change,) = changes(apt_proxy.written, {}, proxy=PROXY).values()
    assert change.commands[0].startswith("umask 077; cat >/etc/apt/apt.conf.d/80rayrack-proxy.new && mv -f ")
    assert "geheim" not in " ".join(change.commands)
    assert change.files == {}, "pyinfra would show its text with --diff"


def test_a_file_that_is_right_is_left_alone_and_one_that_others_can_read_is_not() -> None:
    digest = hashlib.sha256(PROXY.text.encode()).hexdigest()
    assert not changes(apt_proxy.written, {FACT: f"root:root 600 {digest}  -"}, proxy=PROXY)
    assert changes(apt_proxy.written, {FACT: f"root:root 644 {digest}  -"}, proxy=PROXY)
    assert changes(apt_proxy.written, {FACT: f"root:root 600 {'0' * 64}  -"}, proxy=PROXY)


def test_the_file_is_read_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "proxy"
    monkeypatch.setattr(apt_proxy, "PATH", str(path))

    def seen() -> str:
        command = apt_proxy.ProxyFile().command()
        lines = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout.splitlines()
        return apt_proxy.ProxyFile().process(lines) if lines else ""

    assert seen() == ""
    path.write_text(PROXY.text)
    path.chmod(0o600)
    owner = f"{path.owner()}:{path.group()}"
    assert seen() == f"{owner} 600 {hashlib.sha256(PROXY.text.encode()).hexdigest()}"
