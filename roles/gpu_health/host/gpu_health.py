#!/usr/bin/python3 -EsB
"""Prints what can be known of this host's GPUs, as one JSON document. It judges nothing and changes nothing.

Run by a deploy before anything is installed, and by cron every minute, which keeps the last document and its metrics.
What a GPU, a driver or the host does not tell is null, with the reason beside it. Standard library and NVIDIA's
pynvml.py (nvidia-ml-py) only.
"""

import argparse
import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gpu_kernel_log
import gpu_metrics
import gpu_nvml
import host_info

SCHEMA = 1
# PCI classes (pci.ids): 0300 VGA controller, 0302 3D controller, 0680 bridge, which is what an NVSwitch says it is.
NVIDIA, GPU_CLASSES, NVSWITCH_CLASS = "0x10de", ("0x0300", "0x0302"), "0x0680"
FABRIC_MANAGER = "nvidia-fabricmanager.service"
OUTPUT_MAX_BYTES = 8 * 2**20
# A process in an uninterruptible call of the driver does not even end when it is killed: it is left behind.
END_WITHIN_S = 2
PROGRAM_LIMIT_S = 10
# Held by whoever asks NVML, until that process has really ended: those that hang must not become more each minute.
LOCK = "run/rayrack-gpu-health.lock"


def text_of(path: Path) -> str | None:
    """A file's text without surrounding white space; None when it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def number_of(path: Path) -> int | None:
    text = text_of(path)
    return int(text) if text and text.isdigit() else None


def pci_devices(root: Path) -> Iterator[dict[str, Any]]:
    """NVIDIA's GPUs and NVSwitches on the PCI bus, driver or not (Documentation/ABI/testing/sysfs-bus-pci)."""
    bus = root / "sys/bus/pci/devices"
    for address in host_info.names(str(bus)):
        device = bus / address
        pci_class = (text_of(device / "class") or "")[:6]
        kind = "gpu" if pci_class in GPU_CLASSES else "nvswitch" if pci_class == NVSWITCH_CLASS else None
        if text_of(device / "vendor") != NVIDIA or kind is None:
            continue
        yield {
            "address": address,
            "kind": kind,
            "device_id": text_of(device / "device"),
            "driver": (device / "driver").resolve().name if (device / "driver").exists() else None,
            "responds": responds(device / "config"),
            "link_width": number_of(device / "current_link_width"),
            "link_width_max": number_of(device / "max_link_width"),
        }


def responds(config: Path) -> bool | None:
    """Whether the device still answers: one that fell off the bus reads as all ones. None: it cannot be read."""
    try:
        with config.open("rb") as registers:
            return registers.read(4) != b"\xff\xff\xff\xff"
    except OSError:
        return None


def ask_nvml(root: Path, limit_s: float) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What NVML says of the system and of each GPU, from a child process that is ended after ``limit_s`` seconds."""
    deadline = time.monotonic() + limit_s
    lock = locked(root / LOCK, deadline)
    if lock is None:
        return {"failure": f"an earlier question to NVML has not ended within {limit_s:g} s", "hung": True}, []
    child = subprocess.Popen(
        [sys.executable, "-EsB", sys.argv[0], "--nvml"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=[lock],
    )
    os.close(lock)
    return conversation(child, deadline, limit_s)


def conversation(
    child: subprocess.Popen[bytes], deadline: float, limit_s: float
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Hear the child out, until it ends or is ended. Not ``Popen``'s own end, which would wait for ever."""
    assert child.stdout is not None
    output, at_end = read_until(child.stdout.fileno(), deadline)
    if not at_end:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(END_WITHIN_S)
    system, gpus, asked = understood(output)
    if system is None:
        system = {"failure": why_it_ended(child.returncode, at_end, limit_s, asked), "hung": not at_end}
    return system, gpus


def locked(path: Path, deadline: float) -> int | None:
    """A descriptor that holds the lock; None when it is not to be had before ``deadline``."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:  # somebody who looks as an ordinary user
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(lock)
                return None
            time.sleep(0.2)
        else:
            return lock


def read_until(source: int, deadline: float) -> tuple[bytes, bool]:
    """What comes before ``deadline``, and whether the sender was done by then."""
    parts: list[bytes] = []
    while sum(map(len, parts)) < OUTPUT_MAX_BYTES:
        ready, _, _ = select.select([source], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            return b"".join(parts), False
        part = os.read(source, 65_536)
        if not part:
            return b"".join(parts), True
        parts.append(part)
    return b"".join(parts), False


def understood(output: bytes) -> tuple[dict[str, Any] | None, list[dict[str, Any]], str]:
    """The system, the GPUs, and the last question; a line that was cut off is left out."""
    system, gpus, asked = None, [], "its start"
    for line in output.splitlines():
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if not isinstance(told, dict):
            continue
        asked = told.get("asked", asked)
        system = told.get("system", system)
        if "gpu" in told:
            gpus.append(told["gpu"])
    return system, gpus, asked


def why_it_ended(status: int | None, at_end: bool, limit_s: float, asked: str) -> str:
    if not at_end:
        left = "" if status is not None else "; its process cannot even be killed"
        return f"NVML did not answer within {limit_s:g} s (asked for {asked}){left}"
    if status is not None and status < 0:
        return f"NVML crashed with {signal.Signals(-status).name} (asked for {asked})"
    return f"asking NVML ended with status {status} (asked for {asked})"


def named(process: dict[str, Any], root: Path) -> dict[str, Any]:
    """A process that holds memory of a GPU, with its name and its unit; null when it is not to be seen here."""
    proc = root / "proc" / str(process["pid"])
    return {
        **process,
        "name": text_of(proc / "comm") or None,
        "unit": host_info.unit_of(text_of(proc / "cgroup") or ""),
    }


def output_of(command: Sequence[str]) -> str | None:
    """What a program prints; None when there is no such program, or it does not end."""
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except OSError:
        return None
    try:
        return child.communicate(timeout=PROGRAM_LIMIT_S)[0].decode(errors="replace").strip()
    except subprocess.TimeoutExpired:
        child.kill()  # and not waited for, as subprocess.run() would: it may never end
        return None


def fabric_manager() -> dict[str, Any]:
    """The installed fabric manager (null: none) and the state of its service."""
    command = ["dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package} ${Version}\\n", "nvidia-fabricmanager*"]
    lines = [line.split() for line in (output_of(command) or "").splitlines()]
    # "ii" and "hi": installed, and installed and held (dpkg-query(1)).
    installed = [fields for fields in lines if len(fields) == 3 and fields[0] in ("ii", "hi")]
    _, package, version = installed[0] if installed else (None, None, None)
    return {"package": package, "version": version, "service": output_of(["systemctl", "is-active", FABRIC_MANAGER])}


def look(root: Path, limit_s: float) -> dict[str, Any]:
    """The whole document."""
    pci = list(pci_devices(root))
    system, gpus = ask_nvml(root, limit_s)
    for gpu in gpus:
        if gpu["processes"]:
            gpu["processes"] = [named(process, root) for process in gpu["processes"]]
    return {
        "schema": SCHEMA,
        "at": gpu_kernel_log.iso(time.time()),
        "pci": pci,
        "nouveau": (root / "sys/module/nouveau").is_dir(),
        "module_version": text_of(root / "sys/module/nvidia/version"),
        "nvml": {
            key: system.get(key)
            for key in ("failure", "code", "hung", "library_version", "driver_version", "cuda_version")
        },
        "gpus": gpus,
        "kernel_log": gpu_kernel_log.read(root),
        "fabric_manager": fabric_manager() if any(device["kind"] == "nvswitch" for device in pci) else None,
        "reboot_required": (root / "run/reboot-required").exists(),
    }


def keep(path: Path, text: str) -> None:
    """Replace a file at once: whoever reads it sees the old or the new one. A link in its place is not followed."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise


def main() -> int:
    if sys.argv[1:] == ["--nvml"]:
        gpu_nvml.main()
    parser = argparse.ArgumentParser(description="Print what can be known of this host's GPUs, as JSON.")
    parser.add_argument("--limit", type=float, default=60, metavar="SECONDS", help="how long NVML may take")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the document there instead")
    parser.add_argument("--textfile", type=Path, metavar="FILE", help="write its metrics there, for Prometheus")
    parser.add_argument("--root", type=Path, default=Path("/"), help="look below this directory (tests)")
    options = parser.parse_args()
    document = look(options.root, options.limit)
    try:
        if options.textfile:
            keep(options.textfile, gpu_metrics.text(document))
        if options.json:
            keep(options.json, json.dumps(document) + "\n")
    except OSError as error:
        print(f"gpu_health: cannot write {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    if not options.json and not options.textfile:
        print(json.dumps(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
