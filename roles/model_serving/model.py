"""One model of the list: its fields, their defaults and limits. The table in docs/model-list.md is made from them."""

import json
import math
from collections.abc import Callable, Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, WithJsonSchema, model_validator

from roles import field_errors
from roles.accelerators import GpuModel
from roles.model_serving import rules
from roles.model_serving import slug as slugs

AcceleratorType = Literal["cpu", GpuModel]

# What models that share a GPU may take of its memory together; the rest is CUDA's and the drivers' own.
SHARED_GPU_MEMORY = 0.95
# A mapping becomes one environment variable of the unit, and Linux takes 128 KiB for one (MAX_ARG_STRLEN, execve(2)).
# Escaping turns a character into six at most.
MAPPING_MAX_BYTES = 16 * 1024


def _checked(problem: Callable[[str], str | None]) -> AfterValidator:
    def check(value: str) -> str:
        if (text := problem(value)) is not None:
            raise ValueError(f"{text}; it is {field_errors.shown(value)}")
        return value

    return AfterValidator(check)


def _pattern(pattern: str) -> dict[str, JsonValue]:
    """The rule as far as an editor can check it, for the JSON Schema."""
    return {"pattern": f"^(?:{pattern})$"}


class Model(BaseModel):
    """A model as the operator describes it. Field names are those of Ray Serve LLM and vLLM where they have one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())

    model_id: Annotated[str, _checked(rules.model_id)] = Field(
        description="the name clients use", json_schema_extra=_pattern(rules.MODEL_ID_PATTERN)
    )
    model_source: Annotated[str, _checked(rules.model_source)] = Field(
        default_factory=lambda data: data["model_id"],
        validate_default=True,
        description="where the weights are: a hub id, an absolute path on the host, or `s3://` or `gs://`",
        json_schema_extra=_pattern(rules.MODEL_SOURCE_PATTERN),
    )
    slug: Annotated[str, _checked(rules.slug)] = Field(
        default_factory=lambda data: slugs.derive(data["model_id"]),
        validate_default=True,
        description="name of its unit (`rayrack-model@<slug>`), its files and its route",
        json_schema_extra=_pattern(slugs.SLUG_PATTERN),
    )
    route_prefix: Annotated[str, _checked(rules.route_prefix)] = Field(
        "/v1",
        description="the OpenAI `base_url` path: `/team-a` serves `/team-a/chat/completions`; models with one prefix "
        "share one API; `/m`, `/-` and `/healthz` are reserved",
        json_schema_extra=_pattern(rules.ROUTE_PREFIX_PATTERN),
    )
    runner: Literal["generate", "pooling"] = Field("generate", description="`generate`, or `pooling` for embeddings")
    weights_gib: float | None = Field(
        None,
        gt=0,
        le=100_000,
        description="size of the weights in GiB, which every host that can run the model must have room for until they "
        "are there; null: not known. Of hub ids only",
    )
    start_timeout_s: int = Field(1800, ge=10, le=86_400, description="time limit of a start, in seconds")

    accelerator_type: AcceleratorType | None = Field(
        None, description="Ray's name of the GPUs it needs (`H100`, `L4`, ...); null: any GPU; `cpu`: none"
    )
    tensor_parallel_size: int = Field(1, ge=1, le=64, description="GPUs of one host that share each layer")
    pipeline_parallel_size: int = Field(1, ge=1, le=64, description="groups of layers, on one host or several")
    min_replicas: int = Field(1, ge=1, le=1000, description="replicas that always run")
    max_replicas: int = Field(1, ge=1, le=1000, description="replicas under load, at most")
    target_ongoing_requests: int = Field(
        8, ge=1, le=10_000, description="requests in progress per replica that autoscaling aims at"
    )
    gpu_memory_utilization: float = Field(
        0.9, gt=0, le=1, description="share of a GPU's memory that the engine may take"
    )
    share_gpu: bool = Field(
        False,
        description="take `gpu_memory_utilization` of a GPU instead of a whole one, so that several models fit on it "
        f"(up to {SHARED_GPU_MEMORY} together); needs both parallel sizes 1 and an explicit `gpu_memory_utilization`",
    )
    max_model_len: int | None = Field(
        None, ge=1, le=100_000_000, description="longest context in tokens; null: as the model says"
    )
    dtype: Literal["auto", "half", "float16", "bfloat16", "float", "float32"] = Field(
        "auto", description="number format of the weights"
    )
    quantization: str | None = Field(
        None, min_length=1, max_length=64, description="vLLM's quantization method; null: as the model says"
    )
    enforce_eager: bool = Field(False, description="no CUDA graphs and no compilation: starts sooner, answers slower")

    env: dict[str, str] = Field(
        {},
        description="environment of the model's processes; names ending in TOKEN, KEY or SECRET belong in `secrets`",
    )
    secrets: dict[str, str] = Field(
        {}, description="environment name: file in `/etc/rayrack/secrets/` that holds its value (`HF_TOKEN: hub.token`)"
    )
    engine_kwargs: Annotated[dict[str, JsonValue], WithJsonSchema({"type": "object"})] = Field(
        {}, description="anything else that vLLM's engine takes"
    )
    update: Literal["swap", "surge"] = Field(
        "swap", description="`swap`: stop the old replica, then start the new; `surge`: start first (needs free GPUs)"
    )

    @property
    def uses_gpu(self) -> bool:
        return self.accelerator_type != "cpu"

    @property
    def gpus_per_replica(self) -> float:
        """What one replica asks of Ray: 0, a fraction of one GPU, or whole GPUs over all its hosts."""
        if not self.uses_gpu:
            return 0.0
        if self.share_gpu:
            return gpu_share(self.gpu_memory_utilization)
        return float(self.tensor_parallel_size * self.pipeline_parallel_size)

    @model_validator(mode="after")
    def _fields_fit_together(self) -> "Model":
        field_errors.cross_field((*_size_problems(self), *_sharing_problems(self), *_mapping_problems(self)))
        return self


def gpu_share(gpu_memory_utilization: float) -> float:
    """The part of a GPU to ask Ray for, so that models with together 0.95 of its memory are one whole GPU.

    Ray counts in units of 1/10000 and cuts the rest off (FixedPoint in src/ray/common/scheduling); doing the same
    here keeps everybody's sums equal.
    """
    return math.floor(gpu_memory_utilization / SHARED_GPU_MEMORY * 10_000 + 1e-6) / 10_000


def _size_problems(model: Model) -> Iterator[tuple[tuple[str, ...], str]]:
    if model.max_replicas < model.min_replicas:
        yield ("max_replicas",), f"must be at least min_replicas ({model.min_replicas}), not {model.max_replicas}"
    for name in ("env", "secrets", "engine_kwargs"):
        size = len(json.dumps(getattr(model, name)))
        if size > MAPPING_MAX_BYTES:
            yield (name,), f"has {size} bytes as JSON and may have {MAPPING_MAX_BYTES}"


def _sharing_problems(model: Model) -> Iterator[tuple[tuple[str, ...], str]]:
    if not model.share_gpu:
        return
    if not model.uses_gpu:
        yield ("share_gpu",), "must be false with accelerator_type `cpu`"
    for name in ("tensor_parallel_size", "pipeline_parallel_size"):
        if getattr(model, name) != 1:
            yield (name,), f"must be 1 with share_gpu, not {getattr(model, name)}"
    if "gpu_memory_utilization" not in model.model_fields_set:
        yield ("gpu_memory_utilization",), "missing: share_gpu needs to be told how much of the GPU this model takes"
    elif model.gpu_memory_utilization > SHARED_GPU_MEMORY:
        yield (
            ("gpu_memory_utilization",),
            f"must be at most {SHARED_GPU_MEMORY} with share_gpu, not {model.gpu_memory_utilization}",
        )
    elif gpu_share(model.gpu_memory_utilization) == 0:
        yield ("gpu_memory_utilization",), f"too small to share a GPU: {model.gpu_memory_utilization}"


def _mapping_problems(model: Model) -> Iterator[tuple[tuple[str, ...], str]]:
    checks: list[tuple[str, str, str | None]] = []
    checks += [("env", name, rules.plain_env_name(name)) for name in model.env]
    for name, file in model.secrets.items():
        twice = "is set in `env` too: keep one" if name in model.env else None
        checks.append(("secrets", name, twice or rules.env_name(name) or rules.secret_file(file)))
    checks += [("engine_kwargs", name, rules.engine_argument(name, FIELDS)) for name in model.engine_kwargs]
    for field, name, problem in checks:
        if problem is not None:
            yield (field, name), problem


FIELDS = frozenset(Model.model_fields)
