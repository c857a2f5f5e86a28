"""Prints, as one line of JSON, what the preflight rules need to know of a host. Sent to the host and run there as root.

Standard library only, and nothing newer than Python 3.9: it also runs on hosts that are then refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LISTENING = "0A"  # TCP_LISTEN in the kernel's include/net/tcp_states.h
RUNTIMES = "/opt/rayrack/runtime"
MODELS = "/etc/rayrack/models"
UNITS = "/etc/systemd/system"
MOUNT_UNIT = re.compile(r"# Made by rayrack .*?^What=(\S+)$.*?^Where=(\S+)$", re.DOTALL | re.MULTILINE)


def os_release(text: str) -> dict[str, str]:
    """os-release(5): shell-like assignments."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key: " ".join(shlex.split(value)) for key, value in pairs}


def address(text: str) -> str:
    """An address of /proc/net/tcp or tcp6: hexadecimal, each 4 bytes in the host's own byte order (proc(5))."""
    words = struct.pack(f"={len(text) // 8}I", *(int(text[at : at + 8], 16) for at in range(0, len(text), 8)))
    if len(words) == 4:
        return socket.inet_ntop(socket.AF_INET, words)
    # An IPv4 address that a program asked for in IPv6's form is an IPv4 address.
    return socket.inet_ntop(socket.AF_INET6, words).removeprefix("::ffff:")


def listening(table: str) -> Iterator[tuple[str, str, int]]:
    """Inode, address and port of each listening socket in the text of /proc/net/tcp or tcp6."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if fields[3] == LISTENING:
            host, port = fields[1].split(":")
            yield fields[9], address(host), int(port, 16)


def unit_of(cgroups: str) -> str | None:
    """The systemd unit in the text of /proc/PID/cgroup: the last component that is a service or a scope."""
    for line in cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "name=systemd"):
            for part in reversed(path.split("/")):
                if part.endswith((".service", ".scope")):
                    return part
    return None


def holders(inodes: set[str]) -> dict[str, str]:
    """Which process (its pid) holds each of these sockets."""
    found: dict[str, str] = {}
    for pid in filter(str.isdigit, names("/proc")):
        for descriptor in names(f"/proc/{pid}/fd"):
            # It may be closed by now; and an ordinary user may not look at other users' processes.
            with contextlib.suppress(OSError):
                link = os.readlink(f"/proc/{pid}/fd/{descriptor}")  # noqa: PTH115 - there are tens of thousands
                if link.startswith("socket:[") and link[8:-1] in inodes:
                    found.setdefault(link[8:-1], pid)
        if len(found) == len(inodes):
            break
    return found


def listeners() -> list[dict[str, Any]]:
    sockets = [entry for name in ("tcp", "tcp6") for entry in listening(read(f"/proc/net/{name}"))]
    pids = holders({inode for inode, _, _ in sockets})
    result = []
    for inode, ip, port in sockets:
        pid = pids.get(inode)
        result.append(
            {
                "address": ip,
                "port": port,
                "pid": int(pid) if pid else None,
                "process": read(f"/proc/{pid}/comm").strip() or None if pid else None,
                "unit": unit_of(read(f"/proc/{pid}/cgroup")) if pid else None,
            }
        )
    return result


def read(path: str) -> str:
    """A file's text; empty when it is not there (any more)."""
    with contextlib.suppress(OSError):
        return Path(path).read_text(errors="replace")
    return ""


def names(directory: str) -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(os.listdir(directory))  # noqa: PTH208 - names are what is wanted
    return []


def models(directory: str) -> list[str]:
    """The slugs of the models that are set up here. No slug ends in `.override`."""
    files = [name for name in names(directory) if name.endswith(".env") and not name.endswith(".override.env")]
    return [name[: -len(".env")] for name in files]


def weights(hub_cache: str) -> dict[str, int]:
    """Bytes on the disk of each model in the hub's cache. What is downloading counts as far as it has come."""
    found = {}
    for model in names(hub_cache):
        if model.startswith("models--"):
            with contextlib.suppress(OSError), os.scandir(f"{hub_cache}/{model}/blobs") as blobs:
                found[model] = sum(blob.stat().st_blocks * 512 for blob in blobs)
    return found


def ray_mounts(directory: str) -> list[dict[str, str]]:
    """The mount units that the role storage has made."""
    found = []
    for unit in names(directory):
        match = MOUNT_UNIT.match(read(f"{directory}/{unit}")) if unit.endswith(".mount") else None
        if match:
            found.append({"unit": unit, "image": match.group(1), "mount_point": match.group(2)})
    return found


def systemd_version() -> int | None:
    """None where systemd does not run the host (sd_booted(3))."""
    if not Path("/run/systemd/system").is_dir():
        return None
    first_line = subprocess.run(["systemctl", "--version"], stdout=subprocess.PIPE, text=True, timeout=20).stdout
    match = re.match(r"systemd (\d+)", first_line)
    return int(match.group(1)) if match else None


def main(weights_dir: str, cache_dir: str) -> None:
    release = os_release(read("/etc/os-release") or read("/usr/lib/os-release"))
    memory = re.search(r"MemTotal:\s+(\d+) kB", read("/proc/meminfo"))
    info = {
        "os_id": release.get("ID", ""),
        "os_version": release.get("VERSION_ID", ""),
        "os_name": release.get("PRETTY_NAME", "an unknown system"),
        "machine": os.uname().machine,
        "python_version": ".".join(map(str, sys.version_info[:3])),
        "systemd_version": systemd_version(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_mib": int(memory.group(1)) // 1024 if memory else 0,
        "listeners": listeners(),
        "runtimes": [name for name in names(RUNTIMES) if Path(RUNTIMES, name, ".complete").is_file()],
        "models": models(MODELS),
        "weights": weights(f"{weights_dir}/hub"),  # HF_HOME in ray.env
        "caches": names(cache_dir),
        "ray_mounts": ray_mounts(UNITS),
        "loop_devices": Path("/dev/loop-control").exists(),
    }
    print(json.dumps(info))


if __name__ == "__main__":
    main(*sys.argv[1:])
