"""What a deploy leaves on a host: its units, and its files with their owners and modes (docs/roles/*.md)."""

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.inputs import gpu_gate
from deploy.inputs.rack import RackHost
from roles.firewall import activation as firewall
from roles.model_serving.model import Model
from roles.storage import ray_disk

UNITS = "/etc/systemd/system"


@dataclass(frozen=True)
class ExpectedPath:
    """A path and what ``stat -c '%F %a %U:%G'`` must say of it. A file's content is the deploy's business, not ours."""

    path: str
    mode: str
    owner: str
    kind: str = "regular file"

    def __str__(self) -> str:
        return self.path

    @property
    def stat(self) -> str:
        return f"{self.kind} {self.mode} {self.owner}"


def _directory(path: str, mode: str, owner: str) -> ExpectedPath:
    return ExpectedPath(path, mode, owner, "directory")


def units_of(host: RackHost, models: Sequence[Model]) -> tuple[str, ...]:
    """The units that must be enabled and active on a host."""
    closed = (firewall.UNIT, firewall.KEEP_TIMER)
    if not host.is_head:
        return ("rayrack.target", *closed, "rayrack-worker.service")
    return (
        "rayrack.target",
        *closed,
        "rayrack-head.service",
        "rayrack-gateway.service",
        *(f"rayrack-model@{model.slug}.service" for model in models),
    )


def paths_of(host: RackHost, models: Sequence[Model]) -> tuple[ExpectedPath, ...]:
    """The files and directories that must be on a host."""
    common: tuple[ExpectedPath, ...] = (
        _directory("/etc/rayrack", "755", "root:root"),
        _directory("/etc/rayrack/secrets", "700", "root:root"),
        ExpectedPath("/etc/rayrack/secrets/ray.token", "400", "root:root"),
        ExpectedPath("/etc/rayrack/ray.env", "640", "root:rayrack"),
        _directory("/opt/rayrack/bin", "755", "root:root"),
        _directory("/opt/rayrack/lib", "755", "root:root"),
        _directory("/opt/rayrack/runtime", "755", "root:root"),
        _directory(host.settings.ray_temp_dir, "700", "rayrack:rayrack"),
        _directory(host.settings.weights_dir, "750", "rayrack:rayrack"),
        _directory(host.settings.cache_dir, "750", "rayrack:rayrack"),
        _directory("/run/rayrack", "755", "rayrack:rayrack"),
        _directory("/run/rayrack/haproxy", "700", "rayrack:rayrack"),
        ExpectedPath("/etc/cron.d/rayrack-clean", "644", "root:root"),
        ExpectedPath("/etc/tmpfiles.d/rayrack.conf", "644", "root:root"),
        ExpectedPath("/etc/tmpfiles.d/rayrack-storage.conf", "644", "root:root"),
        ExpectedPath(f"{UNITS}/rayrack.target", "644", "root:root"),
        ExpectedPath("/etc/rayrack/firewall.nft", "644", "root:root"),
        *(ExpectedPath(f"{UNITS}/{unit}", "644", "root:root") for unit in firewall.UNITS),
    )
    disk = ray_disk.of(host.settings.ray_temp_size_gib, host.settings.ray_temp_image, host.settings.ray_temp_dir)
    if disk is not None:
        common += (
            ExpectedPath(f"{UNITS}/{disk.unit}", "644", "root:root"),
            ExpectedPath(disk.image, "600", "root:root"),
        )
    if gpu_gate.applies(host.settings):
        common += (ExpectedPath("/etc/cron.d/rayrack-gpu-health", "644", "root:root"),)
    if not host.is_head:
        return (*common, ExpectedPath(f"{UNITS}/rayrack-worker.service", "644", "root:root"))
    return (
        *common,
        ExpectedPath(f"{UNITS}/rayrack-head.service", "644", "root:root"),
        ExpectedPath(f"{UNITS}/rayrack-model@.service", "644", "root:root"),
        ExpectedPath(f"{UNITS}/rayrack-gateway.service", "644", "root:root"),
        _directory("/etc/rayrack/gateway", "750", "root:rayrack"),
        ExpectedPath("/etc/rayrack/gateway/haproxy.cfg", "640", "root:rayrack"),
        _directory("/etc/rayrack/models", "755", "root:root"),
        ExpectedPath("/etc/rayrack/start-order", "640", "root:rayrack"),
        *(ExpectedPath(f"/etc/rayrack/models/{model.slug}.env", "640", "root:rayrack") for model in models),
    )
