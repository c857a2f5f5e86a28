"""What the host program gpu_health prints, read and checked. Pure: no pyinfra."""

from pydantic import BaseModel, ConfigDict, ValidationError

from roles import field_errors

# nvmlReturn_t of NVML's start when the library and the loaded kernel module are of different versions (nvml.h).
LIB_RM_VERSION_MISMATCH = 18


class _Part(BaseModel):
    """A newer program on a host may say more than is known here."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class PciDevice(_Part):
    """A GPU or an NVSwitch on the PCI bus; ``responds`` None: it could not be read."""

    address: str
    kind: str
    device_id: str | None
    driver: str | None
    responds: bool | None
    link_width: int | None
    link_width_max: int | None


class Process(_Part):
    """A process that has a GPU open. Name and unit are None when it is not to be seen on the host."""

    pid: int
    memory_bytes: int | None
    name: str | None
    unit: str | None


class Gpu(_Part):
    """A GPU as NVML describes it; what it does not tell is None, and ``reasons`` says why."""

    index: int
    reasons: dict[str, str]
    name: str | None
    uuid: str | None
    pci_address: str | None
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    ecc: bool | None
    ecc_pending: bool | None
    ecc_uncorrectable: int | None
    ecc_uncorrectable_lifetime: int | None
    pages_pending: bool | None
    rows_remapped: int | None
    remap_pending: bool | None
    remap_failed: bool | None
    nvlinks: list[bool] | None
    clock_sm_mhz: int | None
    clock_sm_max_mhz: int | None
    clock_memory_mhz: int | None
    clock_memory_max_mhz: int | None
    slowdowns: list[str] | None
    power_w: float | None
    power_limit_w: float | None
    power_default_w: float | None
    temperature_c: int | None
    processes: list[Process] | None
    mig: bool | None
    mig_pending: bool | None
    persistence: bool | None
    fabric_state: str | None
    fabric_status: int | None
    recovery_action: str | None

    def __str__(self) -> str:
        return f"GPU {self.index}" + (f" ({self.pci_address})" if self.pci_address else "")


class Nvml(_Part):
    """NVML as a whole; ``failure`` None: it answers. ``code`` is its own number of why it did not start."""

    failure: str | None
    code: int | None
    hung: bool | None
    library_version: str | None
    driver_version: str | None
    cuda_version: str | None


class Xid(_Part):
    """One kind of Xid error of one GPU since boot, with the text of the last."""

    pci_address: str
    xid: int
    count: int
    first: str | None
    last: str | None
    text: str


class KernelLog(_Part):
    """``failure``: why the Xids since boot are not known, or not all of them."""

    xids: list[Xid]
    failure: str | None


class FabricManager(_Part):
    """The installed fabric manager, None without; ``service`` is what systemctl is-active says."""

    package: str | None
    version: str | None
    service: str | None


class Health(_Part):
    """A host's GPUs, all that is known."""

    at: str
    pci: list[PciDevice]
    nouveau: bool
    module_version: str | None
    nvml: Nvml
    gpus: list[Gpu]
    kernel_log: KernelLog
    fabric_manager: FabricManager | None
    reboot_required: bool

    @property
    def gpus_on_bus(self) -> int:
        return sum(device.kind == "gpu" for device in self.pci)

    @property
    def has_nvswitch(self) -> bool:
        return any(device.kind == "nvswitch" for device in self.pci)

    @property
    def driver_absent(self) -> bool:
        """No NVIDIA kernel module runs here, so that there is nothing NVML could ask."""
        return self.nvml.failure is not None and self.module_version is None


def parse(line: str) -> Health | str:
    """The document, or why it cannot be read, in a few words."""
    try:
        return Health.model_validate_json(line)
    except ValidationError as error:
        problem = field_errors.lines(error, field_errors.path, Health.model_fields)[0]
        return f"gpu_health printed what cannot be read ({problem[:120]})"
