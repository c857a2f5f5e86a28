"""What the inventory says of a host's GPUs. Pure: no pyinfra."""

from dataclasses import dataclass

from roles.gpu_health.document import Health
from roles.settings import Settings

# Where (a GPU, or "host") and the value that was found.
Problem = tuple[str, str]
HOST = "host"


@dataclass(frozen=True)
class Expected:
    """Named as the settings."""

    gpus: int
    gpu_model: str | None
    gpu_memory_gib: float | None = None
    gpu_mig: bool = False
    gpu_ecc_uncorrectable_max: int = 0
    gpu_temperature_max_c: int = 90
    gpu_memory_held_max_mib: int = 256

    @classmethod
    def from_settings(cls, settings: Settings) -> "Expected":
        return cls(
            gpus=settings.gpus,
            gpu_model=settings.gpu_model,
            gpu_memory_gib=settings.gpu_memory_gib,
            gpu_mig=settings.gpu_mig,
            gpu_ecc_uncorrectable_max=settings.gpu_ecc_uncorrectable_max,
            gpu_temperature_max_c=settings.gpu_temperature_max_c,
            gpu_memory_held_max_mib=settings.gpu_memory_held_max_mib,
        )


@dataclass(frozen=True)
class Seen:
    """What a check looks at: what was found, and what there should be."""

    health: Health
    expected: Expected
