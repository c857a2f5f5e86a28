"""Prints, as one line of JSON, what the driver rules need to know of a host. Sent to the host and run there as root.

Standard library only, and it changes nothing. Tests give it another root directory.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NVIDIA = "0x10de"
# The containers' tools have versions of their own and follow no driver.
NOT_OF_THE_DRIVER = re.compile(r"container|docker|cuda-toolkit|cuda-keyring")
OF_THE_DRIVER = re.compile(
    r"nvidia|\bcuda-drivers|\blibcuda1\b|\blibcudadebugger1\b|\blibnvcuvid1\b|\blibnvsdm|\bfabricmanager\b"
)
RUN_FILE_PROGRAMS = ("usr/bin/nvidia-uninstall", "usr/bin/nvidia-installer")
# Where dkms finds the certificate it signs modules with: its own, and Ubuntu's (dkms(8), update-secureboot-policy(8)).
MODULE_KEYS = ("var/lib/dkms/mok.pub", "var/lib/shim-signed/mok/MOK.der")
# UEFI variables, named NAME-VENDOR; their first 4 bytes are attributes (Linux, Documentation/filesystems/efivarfs.rst).
GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
SHIM = "605dab50-e046-4300-abb6-3dd810dd8b23"


def read(path: Path) -> str:
    """A file's text without white space around it; empty when it is not there."""
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace").strip()
    return ""


def read_bytes(path: Path) -> bytes:
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


def output(*command: str) -> str:
    """What a program prints; empty when it is not there, fails or hangs."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=60,
            env={**os.environ, "LC_ALL": "C"},
        ).stdout
    return ""


def devices(root: Path) -> Iterator[dict[str, str]]:
    """NVIDIA's devices on the PCI bus (Linux, Documentation/PCI/sysfs-pci.rst)."""
    bus = root / "sys/bus/pci/devices"
    for device in sorted(bus.iterdir()) if bus.is_dir() else ():
        if read(device / "vendor") == NVIDIA:
            yield {
                "address": device.name,
                "device": read(device / "device").removeprefix("0x"),
                "pci_class": read(device / "class").removeprefix("0x")[:4],
            }


def packages(listing: str) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The driver's packages and the kernels' in what ``dpkg-query`` lists, installed ones only."""
    driver: dict[str, dict[str, Any]] = {}
    kernels = []
    for line in listing.splitlines():
        state, name, version, source = line.split("|")
        if state[1:2] != "i":
            continue
        # Modules that Ubuntu builds with its kernels (linux-modules-nvidia-...) go with the kernel.
        if name.startswith("linux-"):
            kernels += [name] if name.startswith(("linux-image", "linux-headers")) else []
        elif OF_THE_DRIVER.search(f"{name} {source}") and not NOT_OF_THE_DRIVER.search(f"{name} {source}"):
            driver[name] = {"version": version, "held": state[0] == "h"}
    return driver, kernels


def secure_boot(root: Path) -> bool:
    """Whether the kernel refuses modules without a trusted signature."""
    variables = root / "sys/firmware/efi/efivars"
    on = read_bytes(variables / f"SecureBoot-{GLOBAL}")[4:5] == b"\1"
    # `mokutil --disable-validation`: shim was told not to check (shim, MokVars.txt).
    waived = read_bytes(variables / f"MokSBStateRT-{SHIM}")[4:5] == b"\1"
    return on and not waived


def module_key_enrolled(root: Path) -> bool:
    """Whether shim's list of trusted keys holds the certificate, in DER, that dkms signs with."""
    # The list is in one variable or, when it is large, in several and whole under mok-variables.
    places = (
        *(root / "sys/firmware/efi/efivars").glob("MokListRT*"),
        root / "sys/firmware/efi/mok-variables/MokListRT",
    )
    trusted = [read_bytes(place) for place in places]
    keys = [key for name in MODULE_KEYS if (key := read_bytes(root / name))]
    return any(key in each for key in keys for each in trusted)


def run_file(root: Path) -> list[str]:
    """What the ``.run`` installer leaves, unless a package owns it."""
    there = [f"/{name}" for name in RUN_FILE_PROGRAMS if (root / name).exists()]
    return [path for path in there if not output("dpkg-query", "-S", path)]


def apt_sources(root: Path) -> Iterator[dict[str, str]]:
    """The repositories of sources.list(5), in both of its formats."""
    etc = root / "etc/apt"
    for file in (etc / "sources.list", *sorted((etc / "sources.list.d").glob("*.list"))):
        for line in read(file).splitlines():
            match = re.match(r"\s*deb\s+(?:\[[^]]*\]\s*)?(\S+)", line)
            if match:
                yield {"file": "/" + str(file.relative_to(root)), "uri": match.group(1)}
    for file in sorted((etc / "sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", read(file)):
            if re.search(r"^Enabled:\s*no\s*$", stanza, re.MULTILINE | re.IGNORECASE):
                continue
            for uris in re.findall(r"^URIs:(.*)$", stanza, re.MULTILINE | re.IGNORECASE):
                for uri in uris.split():
                    yield {"file": "/" + str(file.relative_to(root)), "uri": uri}


def free(path: str) -> dict[str, Any]:
    """Free space for root where a path is."""
    place = Path(path)
    while not place.exists():
        place = place.parent
    space = os.statvfs(place)
    while not place.is_mount():
        place = place.parent
    return {"path": path, "mount_point": str(place), "free_bytes": space.f_bfree * space.f_frsize}


def distribution(os_release: str) -> str:
    pairs = (line.split("=", 1) for line in os_release.splitlines() if "=" in line and not line.startswith("#"))
    values = {key: " ".join(shlex.split(value)) for key, value in pairs}
    return values.get("ID", "") + values.get("VERSION_ID", "").replace(".", "")


def headers_candidate(kernel: str) -> bool:
    candidate = re.search(r"Candidate: (\S+)", output("apt-cache", "policy", f"linux-headers-{kernel}"))
    return bool(candidate) and candidate.group(1) != "(none)"  # type: ignore[union-attr]


def info(root: Path) -> dict[str, Any]:
    kernel = os.uname().release
    fields = r"${db:Status-Abbrev}|${Package}|${Version}|${source:Package}\n"
    driver, kernels = packages(output("dpkg-query", "-W", "-f", fields))
    module = read(root / "proc/driver/nvidia/version")
    on_bus = list(devices(root))
    headers = (root / "lib/modules" / kernel / "build").is_dir()
    return {
        "distribution": distribution(read(root / "etc/os-release")),
        "machine": os.uname().machine,
        "kernel": kernel,
        "devices": on_bus,
        "packages": driver,
        "kernel_packages": kernels,
        "loaded": read(root / "sys/module/nvidia/version") or None,
        "loaded_open": "Open Kernel Module" in module if module else None,
        "nouveau": (root / "sys/module/nouveau").is_dir(),
        "headers": headers,
        # Half a second, so it is asked only where it counts.
        "headers_candidate": bool(on_bus) and not headers and headers_candidate(kernel),
        "apt_lists": any((root / "var/lib/apt/lists").glob("*_Packages*")),
        "secure_boot": secure_boot(root),
        "module_key_enrolled": module_key_enrolled(root),
        "run_file": run_file(root),
        "apt_sources": list(apt_sources(root)),
        "free": [free(path) for path in ("/usr", "/var", "/boot")],
    }


if __name__ == "__main__":
    print(json.dumps(info(Path(sys.argv[1] if len(sys.argv) > 1 else "/"))))
