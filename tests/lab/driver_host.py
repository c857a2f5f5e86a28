"""A lab host with a GPU that gets its driver from a repository of its own, by the deploy an operator types."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab import fake_gpu, nvidia_packages
from tests.lab.apt_repository import AptRepository
from tests.lab.lab import Lab, Result

HOST = "h2"
OLD, NEW, NEWEST = "580.95.05", "580.126.20", "610.57.04"
FILES = ("deploy/00_preflight.py", "deploy/05_verdict.py", "deploy/10_host.py", "deploy/15_gpu_host.py")
REPOSITORY, STAND_INS = "/srv/nvidia", "/srv/stand-ins"
NAMES = ("nvidia-kernel-open-dkms", "nvidia-driver-cuda", "libcuda1", "libnvidia-ml1", "nvidia-smi")
INITRD = "/boot/initrd.img-test"
SOURCES = "/etc/apt/sources.list"
_SOURCES_BACK = f"[ ! -e {SOURCES}.before ] || {{ mv {SOURCES}.before {SOURCES}; apt-get -qq update; }}"
_LEFT = (
    REPOSITORY,
    STAND_INS,
    INITRD,
    "/etc/apt/*/rayrack-nvidia*",
    f"/var/lib/apt/lists/{REPOSITORY.replace('/', '_')}_*",
    "/etc/apt/apt.conf.d/52rayrack-nvidia",
    "/etc/modprobe.d/rayrack-nvidia.conf",
    "/etc/systemd/system/nvidia-persistenced.service.d",
    "/usr/local/sbin/update-initramfs",
    "/usr/bin/nvidia-uninstall",
)


@dataclass(frozen=True)
class DriverHost:
    """A host with a GPU, and the repository its driver comes from."""

    lab: Lab
    repository: AptRepository

    def deploy(self, version: str, *data: str, check: bool = True) -> Result:
        settings = (
            *driver_settings(version),
            f"nvidia_driver_repository_key={self.repository.key}",
            "min_free_gib_driver=0.1",
            *data,
        )
        arguments = [argument for setting in settings for argument in ("--data", setting)]
        return self.lab.pyinfra(*FILES, "-y", "--limit", HOST, *arguments, check=check)

    def packages(self) -> dict[str, str]:
        """Version and hold of every package of NVIDIA's: ``580.95.05-1 held``."""
        fields = "'${db:Status-Abbrev}|${Package}|${Version}\\n'"
        listing = self.lab.read(HOST, f"dpkg-query -W -f {fields} '*nvidia*' libcuda1 2>/dev/null || true")
        found = (line.split("|") for line in listing.splitlines())
        return {
            name: f"{version} held" if state[0] == "h" else version for state, name, version in found if state[1] == "i"
        }

    def loaded(self) -> str:
        return self.lab.ssh(HOST, "cat /sys/module/nvidia/version", check=False).stdout.strip()

    def boot(self) -> str:
        return self.lab.read(HOST, "cat /proc/sys/kernel/random/boot_id")


def driver_settings(version: str) -> tuple[str, str]:
    """What a deploy and the checks of ``make verify`` are told: KEY=VALUE."""
    return f"nvidia_driver_version={version}", f"nvidia_driver_repository=file:{REPOSITORY}"


def held(version: str, *more: str) -> dict[str, str]:
    """All packages of a driver, as ``DriverHost.packages`` tells them."""
    return dict.fromkeys((*NAMES, "nvidia-persistenced", *more), f"{version}-1 held")


def build_repository(lab: Lab, directory: Path) -> AptRepository:
    """Drivers of three versions, and the headers of the host's kernel."""
    kernel = lab.read(HOST, "uname -r")
    return AptRepository.build(directory, nvidia_packages.repository((OLD, NEW, NEWEST), kernel))


@contextmanager
def driver_host(lab: Lab, repository: AptRepository) -> Iterator[DriverHost]:
    """A host with one H100 and an initial RAM disk, without a driver; afterwards it is as it was before."""
    fake_gpu.plug_in(lab, HOST, fake_gpu.H100)
    fake_gpu.send(lab, HOST, repository.directory, REPOSITORY)
    fake_gpu.put(lab, HOST, "/usr/local/sbin/update-initramfs", f"#!/bin/sh\ntouch {INITRD}\n", "755")
    # The headers of this machine's kernel are in no repository that the host has at first.
    lab.ssh(HOST, f"touch -d 2020-01-01 {INITRD}; dpkg -i {REPOSITORY}/linux-headers-*.deb")
    try:
        yield DriverHost(lab, repository)
    finally:
        _clean(lab)


def _clean(lab: Lab) -> None:
    """No package, no file, no device."""
    fake_gpu.unplug(lab, HOST)
    names = "dpkg-query -W -f '${Package}\\n' '*nvidia*' libcuda1 'linux-headers-*' dkms 2>/dev/null"
    purge = "xargs -r apt-get -y -qq purge --allow-change-held-packages >/dev/null; apt-get -y -qq autoremove --purge"
    files = f"rm -rf {' '.join(_LEFT)}; rmdir --ignore-fail-on-non-empty /etc/modprobe.d"
    lab.ssh(HOST, f"{names} | {purge}; {files}; {_SOURCES_BACK}", timeout_s=300)
