"""Hosts with GPUs that are not there: the real program and the real pynvml.py, over a fake NVML and a tree of files."""

import compileall
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roles.gpu_health import facts
from roles.gpu_health.document import Health, parse
from tests.lab import fake_nvml

KMSG = "6,0,0,-;Linux version 6.1.0\n"


def install_programs(directory: Path) -> Path:
    """The programs as they stand in /opt/rayrack/lib, compiled, since dozens of tests start them."""
    for path in (facts.PROGRAM, *facts.MODULES, facts.pynvml()):
        shutil.copy2(path, directory)
    compileall.compile_dir(directory, quiet=1)
    return directory


@dataclass
class SimulatedHost:
    """A directory that stands for a host's root, with a copy of the programs as /opt/rayrack/lib has them."""

    directory: Path
    lib: Path
    """What ``install_programs`` made."""
    library: Path | None
    """The directory of libnvidia-ml.so.1; None: no driver is installed."""

    def __post_init__(self) -> None:
        shutil.copytree(self.lib, self.directory / "lib")
        for name in ("bin", "root/run", "root/dev", "root/proc", "root/sys/bus/pci/devices"):
            (self.directory / name).mkdir(parents=True)
        self.log("")
        self.answers(fake_nvml.answers(0))

    @property
    def root(self) -> Path:
        return self.directory / "root"

    def file(self, path: str, text: str | bytes) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode() if isinstance(text, str) else text)

    def program(self, name: str, text: str) -> None:
        """A program on the host's PATH that prints this."""
        path = self.directory / "bin" / name
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
        path.chmod(0o755)

    def pci(self, address: str, pci_class: str = "0x030200", vendor: str = "0x10de", **files: str | bytes) -> None:
        device = f"sys/bus/pci/devices/{address}"
        contents = {"vendor": vendor, "class": pci_class, "device": "0x2330", "config": b"\xde\x10\x30\x23", **files}
        for name, content in contents.items():
            self.file(f"{device}/{name}", content if isinstance(content, bytes) else content + "\n")

    def answers(self, text: str) -> None:
        (self.directory / "nvml").write_text(text)

    def log(self, text: str) -> None:
        self.file("dev/kmsg", KMSG + text)

    def run(self, *arguments: str, limit_s: float = 30) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}",
            "FAKE_NVML": str(self.directory / "nvml"),
            **({"LD_LIBRARY_PATH": str(self.library)} if self.library else {}),
        }
        # The interpreter below the virtual environment, which has no pynvml of its own, as a host has none.
        python = Path(sys.base_prefix) / "bin/python3"
        command = [python, "-EsB", self.directory / "lib/gpu_health.py", "--root", self.root]
        command += ["--limit", str(limit_s), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)

    def document(self, limit_s: float = 30) -> dict[str, Any]:
        result = self.run(limit_s=limit_s)
        assert (result.returncode, result.stderr) == (0, "")
        (line,) = result.stdout.splitlines()
        return json.loads(line)  # type: ignore[no-any-return]

    def health(self, limit_s: float = 30) -> Health:
        health = parse(json.dumps(self.document(limit_s)))
        assert isinstance(health, Health), health
        return health


def hgx(host: SimulatedHost, changes: Mapping[str, object] | None = None, gpus: int = 8) -> SimulatedHost:
    """Make it a healthy HGX host with eight H100s and four NVSwitches, but for these lines of NVML's answers."""
    for index in range(gpus):
        host.pci(fake_nvml.pci_address(index), current_link_width="16", max_link_width="16")
    for switch in range(4):
        host.pci(f"0000:0{switch + 5}:00.0", pci_class="0x068000")
    host.file("sys/module/nvidia/version", "580.95.05\n")
    host.program("dpkg-query", "hi  nvidia-fabricmanager-580 580.95.05-1")
    host.program("systemctl", "active")
    host.answers(fake_nvml.answers(gpus, changes))
    return host
