"""May a host's GPUs serve? Facts in, findings out, each with its remedy. Pure: no pyinfra.

The table in docs/roles/gpu_health.md is made from ``CHECKS``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from roles.gpu_health import driver_checks, gpu_checks
from roles.gpu_health.document import Health
from roles.gpu_health.expected import Expected, Problem, Seen

Severity = Literal["ok", "warn", "block", "install"]
Phase = Literal["before any change", "after the driver step"]
BEFORE: Phase = "before any change"
AFTER: Phase = "after the driver step"


@dataclass(frozen=True)
class Check:
    """One thing that is looked at. ``install`` is what the driver step is there to mend."""

    name: str
    find: Callable[[Seen], Iterator[Problem]]
    before: Severity
    after: Severity
    threshold: str
    remedy: str


@dataclass(frozen=True)
class Finding:
    """What a check found: one per problem, or one that is ``ok``."""

    check: str
    severity: Severity
    where: str
    """A GPU, as ``GPU 3 (0000:5d:00.0)``, or ``host``."""
    value: str
    threshold: str
    remedy: str

    def __str__(self) -> str:
        if self.severity == "ok":
            return f"ok {self.check}"
        where = "" if self.where == "host" else f"{self.where}: "
        return f"{self.severity} {self.check}: {where}{self.value}; allowed: {self.threshold}. {self.remedy}"


_DRIVER_STEP = "the driver step of a deploy does it"
_REBOOT = "drain the host and reboot it"
_REPLACE = "if it comes back, have the GPU replaced"
_CABLES = "if it stays, look at risers, cables and power, and have the GPU replaced"

CHECKS: tuple[Check, ...] = (
    Check(
        "pci_count",
        driver_checks.pci_count,
        "block",
        "block",
        "as many GPUs on the PCI bus as the inventory declares (`gpus`)",
        f"{_REBOOT}, with the power off for a minute; {_CABLES}; or correct `gpus`",
    ),
    Check(
        "pci_silent",
        driver_checks.pci_silent,
        "block",
        "block",
        "every GPU answers on the PCI bus",
        f"{_REBOOT}, with the power off for a minute; {_CABLES}",
    ),
    Check(
        "nouveau",
        driver_checks.nouveau,
        "install",
        "block",
        "the module nouveau is not loaded",
        f"blacklist nouveau and reboot; {_DRIVER_STEP}",
    ),
    Check(
        "driver",
        driver_checks.driver,
        "install",
        "block",
        "NVIDIA's kernel module is loaded and NVML starts",
        f"install the driver and reboot when asked to; {_DRIVER_STEP}",
    ),
    Check(
        "driver_mismatch",
        driver_checks.driver_mismatch,
        "install",
        "block",
        "library and loaded kernel module are of one version",
        "reboot, so that the installed driver is loaded; hold the driver's packages, so that no upgrade does it again",
    ),
    Check(
        "nvml",
        driver_checks.nvml,
        "block",
        "block",
        "NVML answers within `gpu_health_timeout_s`",
        f"look at `journalctl -k -b` for the GPU that is named; {_REBOOT}; {_REPLACE}",
    ),
    Check(
        "reboot_pending",
        driver_checks.reboot_pending,
        "install",
        "warn",
        "no /run/reboot-required",
        "reboot when it suits; /run/reboot-required.pkgs names the packages that ask for it",
    ),
    Check(
        "fabric_manager",
        driver_checks.fabric_manager,
        "install",
        "block",
        "on NVSwitch hosts the fabric manager has the driver's version and runs",
        "install the fabric manager of exactly the driver's version and start nvidia-fabricmanager; " + _DRIVER_STEP,
    ),
    Check(
        "gpu_count",
        gpu_checks.count,
        "block",
        "block",
        "NVML knows every GPU that is declared and every one on the PCI bus",
        f"`journalctl -k -b -g NVRM` says why a GPU was not taken; {_REBOOT}; {_CABLES}; or correct `gpus`",
    ),
    Check(
        "gpu_extra",
        gpu_checks.extra,
        "warn",
        "warn",
        "no more GPUs than the inventory declares (`gpus`)",
        "set `gpus` to what the host has, or the rest stays idle",
    ),
    Check(
        "gpu_lost",
        gpu_checks.lost,
        "block",
        "block",
        "every GPU tells its name, UUID and memory",
        f"{_REBOOT}; {_CABLES}",
    ),
    Check(
        "gpu_model",
        gpu_checks.model,
        "block",
        "block",
        "all GPUs are of one model, the one the inventory declares (`gpu_model`)",
        "correct `gpu_model`, or take the other GPU out: tensor parallelism needs GPUs that are alike",
    ),
    Check(
        "gpu_memory",
        gpu_checks.memory,
        "block",
        "block",
        "every GPU has the memory that the inventory declares (`gpu_memory_gib`), or 5 % less",
        "correct `gpu_memory_gib`, which the plan counts with, or take the other GPU out",
    ),
    Check(
        "mig",
        gpu_checks.mig,
        "block",
        "block",
        "MIG is as the inventory says (`gpu_mig`)",
        "`nvidia-smi -mig 0` (or 1), then a reset of the GPU; or set `gpu_mig`",
    ),
    Check(
        "recovery_action",
        gpu_checks.recovery_action,
        "block",
        "block",
        "the driver asks for no recovery of the GPU",
        f"do what it asks for; a reboot does all of it. {_REPLACE[0].upper()}{_REPLACE[1:]}",
    ),
    Check(
        "xid_critical",
        gpu_checks.xid_critical,
        "block",
        "block",
        "no critical Xid error since boot",
        f"{_REBOOT}; {_REPLACE}. Errors count from the boot on: a GPU that was only reset needs gpu_health_override",
    ),
    Check(
        "xid",
        gpu_checks.xid_other,
        "warn",
        "warn",
        "no Xid error since boot",
        "look at what ran at that time: most of these are an application's; NVIDIA's Xid catalogue explains the number",
    ),
    Check(
        "kernel_log",
        gpu_checks.kernel_log,
        "warn",
        "warn",
        "the kernel's log of this boot can be read from its start",
        "keep the journal on disk (Storage=persistent in journald.conf), or look at older logs for `NVRM: Xid`",
    ),
    Check(
        "ecc_uncorrectable",
        gpu_checks.ecc_uncorrectable,
        "block",
        "block",
        "uncorrectable memory errors since the driver was loaded: `gpu_ecc_uncorrectable_max`",
        f"{_REBOOT}, which retires the memory; {_REPLACE}",
    ),
    Check(
        "ecc_lifetime",
        gpu_checks.ecc_lifetime,
        "warn",
        "warn",
        "no uncorrectable memory error in the GPU's life",
        "nothing now: the memory was retired. If the number grows, have the GPU replaced",
    ),
    Check(
        "ecc_off",
        gpu_checks.ecc_off,
        "warn",
        "warn",
        "ECC is on where the GPU has it, and stays so",
        "`nvidia-smi -e 1`, then reboot: without it wrong answers go unnoticed",
    ),
    Check(
        "pages_pending",
        gpu_checks.pages_pending,
        "block",
        "block",
        "no memory page waits to be retired",
        f"{_REBOOT}, which retires the page; {_REPLACE}",
    ),
    Check(
        "remap_pending",
        gpu_checks.remap_pending,
        "block",
        "block",
        "no memory row waits to be remapped",
        f"{_REBOOT}, or reset the GPU (`nvidia-smi --gpu-reset -i N`), which remaps the row; {_REPLACE}",
    ),
    Check(
        "remap_failed",
        gpu_checks.remap_failed,
        "block",
        "block",
        "no remapping of a memory row has ever failed",
        "have the GPU replaced: it has no spare rows left where it needs one",
    ),
    Check(
        "nvlink_down",
        gpu_checks.nvlink_down,
        "block",
        "block",
        "all NVLinks of a GPU are up on hosts with NVSwitches; elsewhere as many as the GPU's neighbours have",
        f"look at the fabric manager (`journalctl -u nvidia-fabricmanager`); {_REBOOT}; {_CABLES}",
    ),
    Check(
        "nvlink_absent",
        gpu_checks.nvlink_absent,
        "warn",
        "warn",
        "either all GPUs have NVLinks that are up, or none",
        "look at the NVLink bridges; a tensor-parallel group over this GPU goes over PCIe, which is slow",
    ),
    Check(
        "fabric_state",
        gpu_checks.fabric_state,
        "install",
        "block",
        "the GPU is registered with the NVLink fabric",
        "wait a minute after a boot; then look at `journalctl -u nvidia-fabricmanager`, restart it, and reboot",
    ),
    Check(
        "slowdown",
        gpu_checks.slowdown,
        "block",
        "block",
        "the hardware does not hold the clocks down (heat, power brake)",
        "look at fans, air flow, inlet temperature and the power supplies; the BMC's log says which of them it is",
    ),
    Check(
        "slowdown_sw",
        gpu_checks.slowdown_sw,
        "warn",
        "warn",
        "the driver does not hold the clocks down for heat",
        "look at fans, air flow and inlet temperature",
    ),
    Check(
        "temperature",
        gpu_checks.temperature,
        "warn",
        "warn",
        "the GPU's temperature: `gpu_temperature_max_c`",
        "look at fans, air flow and inlet temperature",
    ),
    Check(
        "power_limit",
        gpu_checks.power_limit,
        "warn",
        "warn",
        "the power limit is the GPU's default or more",
        "`nvidia-smi -pl WATTS` with the default, unless the rack's power is why",
    ),
    Check(
        "persistence",
        gpu_checks.persistence,
        "warn",
        "warn",
        "persistence mode is on",
        "`systemctl enable --now nvidia-persistenced`: without it each start of an engine waits for the driver",
    ),
    Check(
        "pcie_width",
        driver_checks.pcie_width,
        "warn",
        "warn",
        "a GPU uses as many PCIe lanes as it can",
        "reseat the GPU or its riser; weights load slowly over fewer lanes",
    ),
    Check(
        "memory_held",
        gpu_checks.memory_held,
        "block",
        "block",
        "no process outside rayrack's services holds more of a GPU's memory than `gpu_memory_held_max_mib`",
        "stop that process or its unit; it would take memory from the models",
    ),
    Check(
        "nonsense",
        gpu_checks.nonsense,
        "warn",
        "warn",
        "NVML's answers can be true",
        f"driver and GPU do not understand each other: use a driver made for this GPU; {_REPLACE}",
    ),
)


def findings(health: Health, expected: Expected, phase: Phase) -> list[Finding]:
    """Every check's findings, those that block first."""
    found: list[Finding] = []
    for check in CHECKS:
        severity = check.before if phase == BEFORE else check.after
        problems = list(check.find(Seen(health, expected)))
        found += [
            Finding(check.name, severity, _line(where), _line(value), check.threshold, check.remedy)
            for where, value in problems
        ]
        if not problems:
            found.append(Finding(check.name, "ok", "host", "", check.threshold, check.remedy))
    return sorted(found, key=lambda finding: ("block", "install", "warn", "ok").index(finding.severity))


def _line(text: str) -> str:
    """Names of processes and the kernel's texts may hold anything, and end in a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def unknown(reason: str) -> Finding:
    """The finding of a host whose GPUs could not be looked at."""
    return Finding(
        "gpu_health",
        "block",
        "host",
        reason,
        "the program gpu_health can be run",
        "run /opt/rayrack/bin/gpu_health on the host as root",
    )


def blocking(found: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.severity == "block"]
