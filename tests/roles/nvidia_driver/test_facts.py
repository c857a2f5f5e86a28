"""The facts' commands, run by a real shell."""

import os
import subprocess
from pathlib import Path

from roles.nvidia_driver.facts import StaleInitramfs


def stale(boot: Path, path: Path) -> set[str]:
    command = StaleInitramfs().command(path=str(path)).replace("find /boot ", f"find {boot} ")
    result = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=20, check=True)
    return {Path(line).name for line in StaleInitramfs().process(result.stdout.splitlines())}


def test_images_older_than_the_file_are_stale_and_copies_that_nothing_renews_do_not_count(tmp_path: Path) -> None:
    blacklist = tmp_path / "rayrack-nvidia.conf"
    blacklist.touch()
    now = blacklist.stat().st_mtime
    boot = tmp_path / "boot"
    boot.mkdir()
    for name, written in {
        "initrd.img-6.1.0-39-amd64": now - 10,
        "initrd.img-6.1.0-40-amd64": now + 10,
        "initrd.img-6.1.0-1-amd64.bak": now - 10,
        "initrd.img-6.1.0-39-amd64.old-dkms": now - 10,
        "initrd.img-6.1.0-39-amd64.dpkg-bak": now - 10,
        "initrd.img-test": now - 10,
        "vmlinuz-6.1.0-39-amd64": now - 10,
    }.items():
        (boot / name).touch()
        os.utime(boot / name, (written, written))
    assert stale(boot, blacklist) == {"initrd.img-6.1.0-39-amd64", "initrd.img-test"}
