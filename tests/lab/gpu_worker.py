"""The lab's worker with GPUs that serve: its PCI bus, its library NVML and its kernel's log are files."""

import pprint
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab import fake_gpu, fake_nvml
from tests.lab.lab import INVENTORY, ROOT, Lab, Result

HOST, HEAD = "h2", "h1"
GPUS = 2
FILES = ("deploy/00_preflight.py", "deploy/05_verdict.py", "deploy/10_host.py", "deploy/16_gpu_health.py")
PROGRAM, LAST = "/opt/rayrack/bin/gpu_health", "/var/lib/rayrack/gpu_health.json"
CRON, OVERRIDE = "/etc/cron.d/rayrack-gpu-health", "/etc/rayrack/gpu_health_override.json"
METRICS_DIR = "/srv/metrics"
KMSG, ANSWERS = "/dev/kmsg", "/etc/fake_nvml"
_PLACE, _LIBRARY = "/srv/fake-nvml", f"/usr/lib/x86_64-linux-gnu/{fake_nvml.LIBRARY}"
_LOCK = "/run/rayrack-gpu-health.lock"
_INSTALLED = f"{PROGRAM} /opt/rayrack/lib/{{gpu_*,host_info,pynvml}}.py {OVERRIDE} {METRICS_DIR} {LAST} {_LOCK}"
SETTINGS = {
    "runtime": "cuda",
    "gpus": GPUS,
    "gpu_model": "H100",
    "nvidia_driver_version": None,
    "metrics_dir": METRICS_DIR,
}
_INVENTORY = f"""import runpy

_lab = runpy.run_path({str(ROOT / INVENTORY)!r})
head, rack = _lab["head"], _lab["rack"]
workers = [(_name, {{**_data, **%s}}) for _name, _data in _lab["workers"]]
"""


@dataclass(frozen=True)
class GpuWorker:
    """The worker, and a directory here for inventories in which it has GPUs."""

    lab: Lab
    directory: Path

    def inventory(self, **more: object) -> str:
        """The lab's inventory with GPUs in the worker, and these settings of it."""
        path = self.directory / "inventory.py"
        path.write_text(_INVENTORY % pprint.pformat(SETTINGS | more))
        return str(path)

    def deploy(self, *, check: bool = True, **more: object) -> Result:
        """The host itself and its gate, without Ray and what is above it."""
        return self.lab.pyinfra(*FILES, "-y", inventory=self.inventory(**more), check=check)

    def answers(self, changes: Mapping[str, object] | None = None, gpus: int = GPUS) -> None:
        """What NVML says from now on: healthy GPUs, but for these lines."""
        fake_gpu.put(self.lab, HOST, ANSWERS, fake_nvml.answers(gpus, changes))

    def kernel_says(self, *lines: str) -> None:
        """The kernel's log of this boot."""
        records = enumerate(("Linux version 6.1.0", *lines))
        fake_gpu.put(self.lab, HOST, KMSG, "".join(f"6,{number},{number},-;{line}\n" for number, line in records))

    def heal(self) -> None:
        """All is well with the GPUs and in the log."""
        self.answers()
        self.kernel_says()

    def look(self) -> None:
        """What cron does every minute."""
        self.lab.ssh(HOST, f"{PROGRAM} --json {LAST}")

    def uninstall(self) -> None:
        """Take off what a deploy has put there for the gate."""
        # The entry first; then a look that has already begun is waited for.
        end = f"rm -f {CRON}; [ ! -e {_LOCK} ] || flock -w 50 {_LOCK} true"
        self.lab.ssh(HOST, f"{end}; bash -c 'rm -rf {_INSTALLED}'")


@contextmanager
def gpu_worker(lab: Lab, directory: Path) -> Iterator[GpuWorker]:
    """The worker with two healthy H100s and a driver that is loaded; afterwards it is as it was before."""
    worker = GpuWorker(lab, directory)
    devices = [(fake_nvml.pci_address(index), *fake_gpu.H100[1:]) for index in range(GPUS)]
    library = directory / "library"
    library.mkdir()
    fake_nvml.build(library)
    try:
        fake_gpu.plug_in(lab, HOST, *devices)
        fake_gpu.load(lab, HOST, str(fake_nvml.SYSTEM["driver"]))
        fake_gpu.send(lab, HOST, library, _PLACE)
        lab.ssh(HOST, f"ln -sf {_PLACE}/{fake_nvml.LIBRARY} {_LIBRARY}")
        worker.heal()
        yield worker
    finally:
        worker.uninstall()
        fake_gpu.unplug(lab, HOST)
        lab.ssh(HOST, f"rm -rf {_PLACE} {_LIBRARY} {ANSWERS} {KMSG}")
