"""The commands of the facts, run by a real shell."""

import grp
import os
import pwd
import subprocess
from pathlib import Path

import pytest

from roles.base_system.facts import DevShmMib, InstalledPackages, TmpfilesDrift

USER = pwd.getpwuid(os.geteuid()).pw_name
GROUP = grp.getgrgid(os.getegid()).gr_name


def output(command: str) -> list[str]:
    return subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=20, check=True
    ).stdout.splitlines()


def drift(conf: Path) -> list[str]:
    return TmpfilesDrift().process(output(TmpfilesDrift().command(path=str(conf))))


def declare(conf: Path, *directories: Path, mode: str = "0750") -> None:
    lines = [f"d {directory} {mode} {USER} {GROUP} -" for directory in directories]
    conf.write_text("\n".join(["# a comment", *lines, f"x {directories[0]}", ""]))


def test_no_drift_where_every_directory_is_as_declared(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(0o750)
    declare(tmp_path / "conf", tmp_path / "a")
    assert drift(tmp_path / "conf") == []


def test_drift_names_what_is_missing_and_what_has_another_mode(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "fine").mkdir()
    (tmp_path / "fine").chmod(0o750)
    declare(tmp_path / "conf", tmp_path / "gone", tmp_path / "open", tmp_path / "fine")
    assert drift(tmp_path / "conf") == [str(tmp_path / "gone"), str(tmp_path / "open")]


def test_drift_names_what_belongs_to_another_user(tmp_path: Path) -> None:
    (tmp_path / "conf").write_text(f"d {tmp_path} {tmp_path.stat().st_mode & 0o7777:o} nobody nogroup -\n")
    assert drift(tmp_path / "conf") == [str(tmp_path)]


def test_a_missing_file_is_drift_itself(tmp_path: Path) -> None:
    assert drift(tmp_path / "none") == [str(tmp_path / "none")]


def test_installed_packages_are_listed_with_what_they_provide() -> None:
    names = InstalledPackages().process(
        ["ii |cron|cron-daemon", "hi |chrony|time-daemon (= 4.3), ntp", "rc |ntpsec|time-daemon-old", "un |nothing|"]
    )
    assert names == {"cron", "cron-daemon", "chrony", "time-daemon", "ntp"}


@pytest.mark.skipif(not Path("/usr/bin/dpkg-query").exists(), reason="needs a Debian-like machine")
def test_the_real_dpkg_knows_itself() -> None:
    assert "dpkg" in InstalledPackages().process(output(InstalledPackages().command()))


def test_the_size_of_shared_memory_is_in_mib() -> None:
    size = os.statvfs("/dev/shm")
    assert DevShmMib().process(output(DevShmMib().command())) == size.f_blocks * size.f_frsize // 2**20
