"""The settings of a host: what may stand in ``inventories/group_data`` or beside a host in the inventory.

``deploy/inputs`` reads them from ``host.data``; roles take them as arguments. The table in ``docs/settings.md`` is
generated from the fields below.
"""

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from roles import setting_rules
from roles.accelerators import GpuModel
from roles.field_errors import cross_field, shown
from roles.nvidia_driver.versions import DriverVersion
from roles.setting_types import (
    MEMORY_MAX_MIB,
    NOFILE_MAX,
    AbsolutePath,
    AnyPort,
    BindAddress,
    CertificateName,
    Directory,
    Gib,
    HttpUrl,
    ImageFile,
    LimitMemlock,
    NodeIp,
    NoProxy,
    Port,
    ReplicaPorts,
    RepositoryUrl,
    WorkerPorts,
)

# Linux limits a Unix socket's path to 108 bytes with its closing NUL (man 7 unix). Ray puts its sockets at
# <ray_temp_dir>/session_2026-11-21_18-30-00_123456_1234567/sockets/plasma_store, and workers append a suffix.
UNIX_SOCKET_PATH_MAX_BYTES = 107
RAY_SOCKET_SUFFIX = "/session_2026-11-21_18-30-00_123456_1234567/sockets/plasma_store.1"


class Settings(BaseModel):
    """Everything an operator can set for a host. Units stand in the field names or descriptions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # the runtime
    runtime: Literal["cuda", "cpu"] = Field("cuda", description="which runtime the host gets: `cuda` or `cpu`")
    runtime_wheelhouse: AbsolutePath | None = Field(
        None, description="directory on the host that holds every wheel of the lock; null: wheels come from an index"
    )
    runtime_index_url: HttpUrl | None = Field(None, description="private package index; null: pip's own default")
    runtime_cpu_torch_index_url: HttpUrl = Field(
        "https://download.pytorch.org/whl/cpu",
        description="index of torch's CPU build, used without a wheelhouse",
    )
    http_proxy: HttpUrl | None = Field(None, description="proxy for package downloads on the host (apt, pip, uv)")
    no_proxy: NoProxy = Field("localhost,127.0.0.1", description="what the proxy is not asked for")

    # the models
    models_file: str | None = Field(None, description="path of the model list, relative to the working directory")
    remove_all: bool = Field(False, description="allow a model list that would remove every model")

    # Ray
    node_ip: NodeIp | None = Field(None, description="Ray's address on this host; null: the one it is reached at")
    num_cpus: int | None = Field(None, ge=1, le=4096, description="CPUs Ray may place on this host; null: all it has")
    gpus: int = Field(0, ge=0, le=64, description="GPUs this host has; the runtime `cpu` uses none")
    gpu_model: GpuModel | None = Field(None, description="Ray's accelerator name of these GPUs (`H100`, `L4`, ...)")
    gpu_memory_gib: float | None = Field(
        None,
        ge=1,
        le=4096,
        description="memory of one of these GPUs in GiB, as nvidia-smi shows it; null: as `gpu_model` has at least",
    )
    object_store_memory_mib: int | None = Field(
        None,
        ge=100,
        le=MEMORY_MAX_MIB,
        description="Ray's object store in MiB; null: Ray's own choice (30 % of memory)",
    )
    ray_temp_dir: Directory = Field("/tmp/ray", description="directory of Ray's sessions, sockets and logs")  # noqa: S108
    gcs_port: Port = Field(6379, description="GCS (head)")
    dashboard_port: Port = Field(8265, description="dashboard and REST API on the head's loopback")
    serve_port: Port = Field(8100, description="Ray Serve's HTTP port (head)")
    node_manager_port: Port = Field(6380, description="raylet")
    object_manager_port: Port = Field(6381, description="object transfer")
    ray_client_port: Port = Field(10001, description="Ray client server (head)")
    dashboard_agent_port: Port = Field(6382, description="dashboard agent, HTTP")
    dashboard_agent_grpc_port: Port = Field(6383, description="dashboard agent, gRPC")
    runtime_env_agent_port: Port = Field(6384, description="runtime environment agent")
    metrics_port: Port = Field(6385, description="Ray's metrics export")
    serve_metrics_port: Port = Field(9101, description="metrics of Serve's HAProxy")
    serve_stats_port: Port = Field(8404, description="stats page of Serve's HAProxy")
    worker_ports: WorkerPorts = Field("20000-20999", description="Ray workers")
    direct_ingress_ports: ReplicaPorts = Field("30000-30999", description="replicas reached by Serve's HAProxy")

    # the gateway
    gateway: bool | None = Field(None, description="this host runs one; null: the head does, workers do not")
    gateway_bind: BindAddress = Field("*", description="address the gateway listens on; `*`: all")
    gateway_port: AnyPort = Field(8000, description="the OpenAI-compatible endpoint")
    gateway_metrics_port: Port = Field(9102, description="metrics of the gateway, for Prometheus")
    gateway_names: list[CertificateName] | None = Field(
        None, description="more names and addresses that clients call this host, for the certificate made on it"
    )
    gateway_maxconn: int = Field(500, ge=10, le=100_000, description="connections the gateway holds at once")
    gateway_max_body_kib: int = Field(4032, ge=64, le=16_384, description="largest request body in KiB; memory follows")

    # the host
    limit_nofile: int = Field(1_048_576, ge=4096, le=NOFILE_MAX, description="open files per service")
    limit_memlock: LimitMemlock = Field("infinity", description="locked memory per service: `infinity`, or as `64G`")
    dev_shm_mib: int | None = Field(
        None, ge=64, le=MEMORY_MAX_MIB, description="size of /dev/shm in MiB; null: as the system has it"
    )
    weights_dir: Directory = Field("/var/lib/rayrack/models", description="downloaded weights")
    cache_dir: Directory = Field("/var/cache/rayrack", description="compile caches, one directory per model")
    min_free_gib_ray: Gib = Field(10, description="free space required where Ray's files live, in GiB")
    min_free_gib_runtime: Gib = Field(20, description="free space required to install a runtime, in GiB")
    min_free_gib_weights: Gib = Field(20, description="free space required where weights live, in GiB")
    cache_gib_per_model: Gib = Field(
        2, description="room for the compile caches of each model that has none on the host yet, in GiB"
    )
    disk_used_max_percent: int = Field(90, ge=10, le=100, description="a file system fuller than this is refused")
    clean_ray_min_age_minutes: int = Field(60, ge=0, le=10**6, description="a dead session younger than this is kept")

    # the run
    skip_unreachable: bool = Field(False, description="go on without workers that cannot be reached")
    plan_file: str | None = Field(
        None, min_length=1, description="file on this machine that each run writes its plan to, as JSON; null: none"
    )

    # the clean-up of Ray's directory (roles/ray_cleanup)
    clean_ray_log_max_age_hours: int = Field(168, ge=1, le=10**6, description="a log nobody has open goes after this")
    clean_ray_log_budget_mib: int = Field(
        10_240, ge=100, le=10**9, description="above this size of all logs of living sessions the oldest unused ones go"
    )
    # Ray itself rotates at 100 MiB (ray.env); a log that comes so far has no rotation.
    clean_ray_runaway_log_mib: int = Field(
        1024, ge=128, le=10**9, description="a log in use above this size is cut; its last MiB stays"
    )
    clean_ray_eager_percent: int = Field(
        80,
        ge=10,
        le=100,
        description="while Ray's file system is fuller than this, the clean-up takes younger dead things, too",
    )
    clean_ray_warn_percent: int = Field(
        90, ge=10, le=100, description="a file system still fuller than this after the clean-up is warned of"
    )

    # the disks
    ray_temp_size_gib: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description="size in GiB of a file system of its own for `ray_temp_dir`: an image file, grown when this grows, "
        "never shrunk; null: none is made",
    )
    ray_temp_image: ImageFile = Field(
        "/var/lib/rayrack-ray.img", description="that image file; it takes its whole size at once"
    )
    ignore_drive_health: bool = Field(False, description="go on with drives that SMART calls failing")

    # the NVIDIA driver
    nvidia_driver_version: str | None = Field(
        None,
        description="exact version, as `580.95.05`; its first number is the branch; null: the driver is left alone",
    )
    nvidia_kernel_modules: Literal["open", "proprietary"] = Field(
        "open", description="kernel modules: `open` (Turing and newer; a must from Blackwell on) or `proprietary`"
    )
    nvidia_driver_source: Literal["nvidia", "distribution"] = Field(
        "nvidia", description="whose packages: NVIDIA's, or the distribution's (Debian: non-free must be enabled)"
    )
    nvidia_driver_repository: RepositoryUrl | None = Field(
        None, description="URL of a mirror of NVIDIA's repository for this distribution; null: NVIDIA's own"
    )
    nvidia_driver_repository_key: str | None = Field(
        None, description="file on this machine with the armored key of the mirror; null: it is signed with NVIDIA's"
    )
    nvidia_fabric_manager: bool | None = Field(
        None, description="fabric manager of the driver's version; null: on hosts with NVSwitches on the PCI bus"
    )
    min_free_gib_driver: Gib = Field(4, description="free space required to install a driver, in GiB")
    allow_reboot: bool = Field(False, description="reboot a host when its driver needs it")
    lab_skip_cuda_check: bool = Field(
        False, description="lab only: accept a driver that is too old for the runtime's CUDA"
    )

    # the health gate (roles/gpu_health); hosts with `gpus` 0 or the runtime `cpu` have none
    gpu_mig: bool = Field(False, description="MIG is meant to be on")
    gpu_ecc_uncorrectable_max: int = Field(
        0, ge=0, le=1000, description="uncorrectable memory errors of a GPU since its driver was loaded; more blocks"
    )
    gpu_temperature_max_c: int = Field(90, ge=40, le=110, description="a GPU hotter than this, in °C, is a warning")
    gpu_memory_held_max_mib: int = Field(
        256, ge=0, le=1_000_000, description="memory of a GPU that a stranger's process may hold, in MiB; more blocks"
    )
    gpu_health_timeout_s: int = Field(60, ge=5, le=300, description="how long NVML may take on this host, in seconds")
    gpu_health_override: dict[str, str] | None = Field(
        None, description="`{reason: ...}` lets the host in, whatever the health gate finds"
    )
    metrics_dir: AbsolutePath = Field(
        "/var/lib/prometheus/node-exporter", description="where node_exporter's textfile collector reads metrics"
    )

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        wanted = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and {int, float} & {wanted, *get_args(wanted)}:
            raise ValueError(f"must be a number, not {shown(value)}")
        return value

    @field_validator("ray_temp_dir")
    @classmethod
    def _sockets_fit(cls, value: str) -> str:
        longest = len((value + RAY_SOCKET_SUFFIX).encode())
        if longest > UNIX_SOCKET_PATH_MAX_BYTES:
            raise ValueError(
                f"too long: Ray's socket paths would have {longest} bytes and Linux allows "
                f"{UNIX_SOCKET_PATH_MAX_BYTES}; shorten it by {longest - UNIX_SOCKET_PATH_MAX_BYTES}"
            )
        return value

    @field_validator("gpu_health_override")
    @classmethod
    def _override_has_a_reason(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        reason = (value or {}).get("reason", "").strip()
        if value is not None and (set(value) != {"reason"} or not reason.isprintable() or not 10 <= len(reason) <= 300):
            raise ValueError(f"must be {{reason: ...}} with one line of 10 to 300 characters, not {shown(value)}")
        return value

    @field_validator("nvidia_driver_version")
    @classmethod
    def _is_a_driver_version(cls, value: str | None) -> str | None:
        if value is not None and DriverVersion.parse(value) is None:
            raise ValueError(f"must be an exact driver version as 580.95.05, not {shown(value)}")
        return value

    @property
    def ray_gpus(self) -> int:
        """GPUs that Ray may place models on: the CPU runtime cannot use them."""
        return self.gpus if self.runtime == "cuda" else 0

    def runs_gateway(self, *, is_head: bool) -> bool:
        """Whether a host with these settings runs a gateway."""
        return is_head if self.gateway is None else self.gateway

    @model_validator(mode="after")
    def _settings_fit_together(self) -> "Settings":
        cross_field(setting_rules.problems(self))
        return self
