"""What vLLM 0.29 refuses whatever the memory: sizes that do not divide, GPUs that cannot compute it. Pure."""

import math
from collections.abc import Iterator

from roles import field_errors
from roles.model_serving.model import Model
from roles.planner.memory.hardware import MIB, Gpu
from roles.planner.memory.model_config import ModelShape

Problem = tuple[field_errors.Path, str]

# CUDA 13, which the runtime `cuda` is built with, has no code for GPUs before Turing.
MIN_CAPABILITY = (7, 5)
BFLOAT16_CAPABILITY = (8, 0)
# `get_min_capability` of each class in vllm/model_executor/layers/quantization/, where it is above the minimum.
QUANTIZATION_CAPABILITY = {
    "experts_int8": (8, 0),
    "fbgemm_fp8": (8, 0),
    "fp_quant": (10, 0),
    "gpt_oss_mxfp4": (8, 0),
    "modelopt": (8, 0),
    "modelopt_mxfp8": (8, 0),
    "mxfp4": (8, 0),
}
# CUDA's context is there before vLLM looks at what is free, and vLLM refuses to take more than that (logs: 0.4 GiB of
# an A100, 0.6 of an H100).
CONTEXT_BYTES = 400 * MIB
# Below it vLLM unpacks FP8 weights for every use (Marlin): same memory, less speed.
FP8_CAPABILITY = (8, 9)


def problems(model: Model, shape: ModelShape | None, gpu: Gpu | None) -> list[Problem]:
    """What no change of memory would mend: where, and one line."""
    found = list(_size_problems(model, shape)) if shape else []
    if model.uses_gpu and gpu is not None:
        found += _share_problems(model, gpu)
        if gpu.capability is not None:
            found += _capability_problems(model, shape, gpu.name, gpu.capability)
    return found


def notes(model: Model, shape: ModelShape, gpu: Gpu | None) -> list[str]:
    """What works, but not as one may expect."""
    if gpu is None or gpu.capability is None:
        return []
    found = []
    method = _method(model, shape)
    if method is not None and "fp8" in method and gpu.capability < FP8_CAPABILITY:
        found.append(f"{gpu.name} does not compute in FP8: the weights are unpacked for every use, which is slower")
    if model.dtype == "auto" and gpu.capability < BFLOAT16_CAPABILITY:
        found.append(f"{gpu.name} does not compute in bfloat16: vLLM takes float16")
    return found


def _size_problems(model: Model, shape: ModelShape) -> Iterator[Problem]:
    tensor, heads, kv_heads = model.tensor_parallel_size, shape.num_attention_heads, shape.num_kv_heads
    if heads % tensor:
        sizes = ", ".join(str(size) for size in range(1, 65) if heads % size == 0)
        yield ("tensor_parallel_size",), f"{heads} attention heads cannot be divided by {tensor}: take one of {sizes}"
    elif shape.latent_dim is None and max(kv_heads, tensor) % min(kv_heads, tensor):
        yield (
            ("tensor_parallel_size",),
            f"{kv_heads} KV heads can be neither divided nor repeated over {tensor} GPUs: take a divisor of {kv_heads}",
        )
    if model.pipeline_parallel_size > shape.num_hidden_layers:
        yield (
            ("pipeline_parallel_size",),
            f"{shape.num_hidden_layers} layers cannot make {model.pipeline_parallel_size} stages",
        )
    if (
        model.max_model_len is not None
        and model.max_model_len > shape.max_len
        and "hf_overrides" not in model.engine_kwargs
        and model.env.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN") != "1"
    ):
        yield (
            ("max_model_len",),
            f"{model.max_model_len} is longer than the model's config allows ({shape.max_len} tokens)",
        )


def _share_problems(model: Model, gpu: Gpu) -> Iterator[Problem]:
    if model.engine_kwargs.get("kv_cache_memory_bytes") or gpu.total_bytes <= CONTEXT_BYTES:
        return
    most = (gpu.total_bytes - CONTEXT_BYTES) / gpu.total_bytes
    if model.gpu_memory_utilization > most:
        yield (
            ("gpu_memory_utilization",),
            f"{model.gpu_memory_utilization:g} of one {gpu.name} leaves no room for CUDA itself: take at most "
            f"{math.floor(most * 100) / 100:g}",
        )


def _capability_problems(
    model: Model, shape: ModelShape | None, name: str, capability: tuple[int, int]
) -> Iterator[Problem]:
    has = f"{name} has compute capability {_shown(capability)}"
    if capability < MIN_CAPABILITY:
        yield ("accelerator_type",), f"{has}, and the runtime's CUDA starts at {_shown(MIN_CAPABILITY)}"
        return
    if model.dtype == "bfloat16" and capability < BFLOAT16_CAPABILITY:
        yield ("dtype",), f"{has}, and bfloat16 needs {_shown(BFLOAT16_CAPABILITY)}: set float16"
    method = _method(model, shape)
    needed = QUANTIZATION_CAPABILITY.get(method or "", MIN_CAPABILITY)
    if capability < needed:
        yield (
            ("quantization" if model.quantization else "model_source",),
            f"{has}, and the quantization {method} needs {_shown(needed)}",
        )


def _method(model: Model, shape: ModelShape | None) -> str | None:
    of_config = shape.quantization.method if shape and shape.quantization else None
    return model.quantization or of_config


def _shown(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"
