"""What a deploy leaves on a host: its units, and its files with their owners and modes (docs/roles/*.md)."""

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.inputs import gpu_gate
from deploy.inputs.rack import RackHost
from roles.firewall import activation as firewall
from roles.model_serving.model import Model
from roles.storage import ray_disk

UNITS = "/etc/systemd/system"
GATEWAY = "/etc/rayrack/gateway"


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
    gateway = ("rayrack-gateway.service",) if host.has_gateway else ()
    if not host.is_head:
        return ("rayrack.target", *closed, "rayrack-worker.service", *gateway)
    return (
        "rayrack.target",
        *closed,
        "rayrack-head.service",
        *gateway,
        *(f"rayrack-model@{model.slug}.service" for model in models),
    )


def _gateway_paths() -> tuple[ExpectedPath, ...]:
    """The gateway's user may read what it serves with, and nobody else on the host may."""
    return (
        ExpectedPath(f"{UNITS}/rayrack-gateway.service", "644", "root:root"),
        _directory(GATEWAY, "750", "root:rayrack-gateway"),
        ExpectedPath(f"{GATEWAY}/haproxy.cfg", "640", "root:rayrack-gateway"),
        _directory(f"{GATEWAY}/keys", "750", "root:rayrack-gateway"),
        *(ExpectedPath(f"{GATEWAY}/keys/{name}.map", "640", "root:rayrack-gateway") for name in ("declared", "made")),
        _directory("/run/rayrack-gateway", "700", "rayrack-gateway:rayrack-gateway"),
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
        _directory(host.settings.ray_temp_dir, "770", "root:rayrack"),
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
    # What `secrets` brings; files that were put there by hand are others' business.
    common += tuple(
        ExpectedPath(f"/etc/rayrack/secrets/{name}", "400", "root:root") for name in sorted(host.settings.secrets or ())
    )
    disk = ray_disk.of(host.settings.ray_temp_size_gib, host.settings.ray_temp_image, host.settings.ray_temp_dir)
    if disk is not None:
        common += (
            ExpectedPath(f"{UNITS}/{disk.unit}", "644", "root:root"),
            ExpectedPath(disk.image, "600", "root:root"),
        )
    if gpu_gate.applies(host.settings):
        common += (ExpectedPath("/etc/cron.d/rayrack-gpu-health", "644", "root:root"),)
    if host.has_gateway:
        common += _gateway_paths()
    if not host.is_head:
        return (*common, ExpectedPath(f"{UNITS}/rayrack-worker.service", "644", "root:root"))
    return (
        *common,
        ExpectedPath(f"{UNITS}/rayrack-head.service", "644", "root:root"),
        ExpectedPath(f"{UNITS}/rayrack-model@.service", "644", "root:root"),
        _directory("/etc/rayrack/models", "755", "root:root"),
        ExpectedPath("/etc/rayrack/start-order", "640", "root:rayrack"),
        *(ExpectedPath(f"/etc/rayrack/models/{model.slug}.env", "640", "root:rayrack") for model in models),
    )
