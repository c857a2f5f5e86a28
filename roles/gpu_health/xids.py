"""Which Xid errors forbid a GPU to serve. Pure: no pyinfra.

Source: NVIDIA's Xid catalogue, column "Resolution Bucket (Immediate Action)", Ampere and newer
(https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html). Critical is what asks for more than a restart of
the application: a reset of the GPU, a restart of the machine, a look at its power. Every other Xid is a warning: most
are an application's own fault, and the driver goes on.
"""

from roles.gpu_health.document import Xid

RESET_GPU = "NVIDIA's catalogue asks for a reset of the GPU"
CRITICAL = {
    46: f"GPU stopped processing; {RESET_GPU}",
    48: f"double-bit ECC error; {RESET_GPU}",
    54: "auxiliary power is not connected; NVIDIA's catalogue asks for a look at the cables",
    62: f"internal micro-controller halt; {RESET_GPU}",
    64: f"memory could not be remapped; {RESET_GPU}",
    74: f"NVLink error; {RESET_GPU}",
    79: "GPU has fallen off the bus; NVIDIA's catalogue asks for a restart of the machine",
    95: f"uncontained memory error; {RESET_GPU}",
    109: f"context switch timeout; {RESET_GPU}",
    110: f"security fault; {RESET_GPU}",
    119: f"GSP does not answer; {RESET_GPU}",
    120: f"GSP error; {RESET_GPU}",
    136: f"NVLink training failed; {RESET_GPU}",
    140: f"unrecovered ECC error; {RESET_GPU}",
    143: f"GPU could not be initialised; {RESET_GPU}",
    155: f"NVLink error (software-defined); {RESET_GPU}",
    156: f"resource retirement; {RESET_GPU}",
    158: f"GPU fatal timeout; {RESET_GPU}",
}
# NVLink 5 errors say in their text whether they were fatal (workflow NVLINK5_ERR): "145, RLW_REMAP Nonfatal XC0 ...".
NVLINK5 = range(144, 151)
# Told by the driver when what it wants of the operator changes: "changed from 0x0 (None) to 0x1 (GPU Reset Required)".
# The last one counts, since a reset ends with one that goes back to None.
RECOVERY_ACTION = 154


def critical(error: Xid) -> str | None:
    """Why this Xid forbids the GPU to serve; None when it does not."""
    if error.xid in CRITICAL:
        return CRITICAL[error.xid]
    if error.xid in NVLINK5 and " Fatal" in f" {error.text}":
        return f"fatal NVLink error; {RESET_GPU}"
    if error.xid == RECOVERY_ACTION and "to 0x0" not in error.text:
        return "the driver asks for a recovery"
    return None
