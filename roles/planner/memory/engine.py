"""How vLLM 0.29 fills in what a model of the list leaves open. Pure.

vllm/engine/arg_utils.py: `get_batch_defaults`, `_set_default_max_num_seqs_and_batched_tokens_args`. Ray Serve LLM 2.60
starts the engine in the usage context of the OpenAI server.
"""

from dataclasses import dataclass

from roles.model_serving.model import Model
from roles.planner.memory.hardware import GIB, Gpu
from roles.planner.memory.model_config import ModelShape

# Arguments that take memory in ways that are not counted here; the plan says so.
NOT_COUNTED = (
    "decode_context_parallel_size",
    "enable_lora",
    "hf_overrides",
    "kv_transfer_config",
    "num_gpu_blocks_override",
    "offload_group_size",
    "speculative_config",
)


@dataclass(frozen=True)
class Engine:
    """An engine's arguments that decide about memory."""

    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    in_flight_tokens: int
    """Tokens that are scheduled and not yet done, at most: those of one step for each pipeline stage, and of one more
    where the next step is scheduled while this one runs."""
    block_size: int
    """Tokens in a block of the KV cache."""
    kv_cache_dtype: str
    dtype_bytes: int
    """Of one value that is not quantised."""
    kv_cache_memory_bytes: int | None
    """Set by the operator instead of a share of the GPU."""
    cpu_offload_bytes: int
    """Weights of each GPU that stay in the host's memory."""
    captured_sizes: int
    """CUDA graphs: for how many batch sizes; 0: none."""

    @classmethod
    def of(cls, model: Model, shape: ModelShape, gpu: Gpu | None) -> "Engine":
        max_model_len = model.max_model_len or shape.default_len
        tokens, seqs = _batch(model, shape, gpu, max_model_len)
        offload = model.engine_kwargs.get("cpu_offload_gb")
        is_number = isinstance(offload, int | float) and not isinstance(offload, bool) and 0 < offload < 1e6
        is_async = model.uses_gpu and model.runner == "generate"
        return cls(
            max_model_len=max_model_len,
            max_num_seqs=seqs,
            max_num_batched_tokens=tokens,
            in_flight_tokens=tokens * (model.pipeline_parallel_size + is_async),
            block_size=_block_size(model, shape),
            kv_cache_dtype=_kv_cache_dtype(model, shape),
            dtype_bytes=4 if model.dtype in ("float", "float32") else 2,
            kv_cache_memory_bytes=_whole(model, "kv_cache_memory_bytes"),
            cpu_offload_bytes=int(float(offload) * GIB) if is_number and isinstance(offload, int | float) else 0,
            captured_sizes=0 if model.enforce_eager or not model.uses_gpu else _captured_sizes(seqs, tokens, gpu),
        )


def not_counted(model: Model) -> tuple[str, ...]:
    """Arguments of this model whose memory is not counted."""
    return tuple(name for name in NOT_COUNTED if model.engine_kwargs.get(name))


def _batch(model: Model, shape: ModelShape, gpu: Gpu | None, max_model_len: int) -> tuple[int, int]:
    """Tokens and requests that one step takes at most."""
    total = gpu.total_bytes if gpu else 0
    if total >= 160 * GIB:
        default_tokens, default_seqs = 16_384, 1024
    elif total >= 70 * GIB and gpu is not None and not gpu.name.startswith("A100"):
        default_tokens, default_seqs = 8192, 1024
    else:
        default_tokens, default_seqs = 2048, 256
    seqs = _whole(model, "max_num_seqs") or default_seqs
    tokens = _whole(model, "max_num_batched_tokens")
    if tokens is None:
        is_chunked = shape.has_kv_cache and model.engine_kwargs.get("enable_chunked_prefill") is not False
        tokens = default_tokens if is_chunked else max(default_tokens, max_model_len)
        tokens = min(tokens, seqs * max_model_len)
    return tokens, min(seqs, tokens)


def _block_size(model: Model, shape: ModelShape) -> int:
    # Layers with a window take the smallest block their kernels know, and others only force them to a larger one.
    if all(window is not None for window in shape.windows):
        return 16 if model.uses_gpu else 32
    if given := _whole(model, "block_size"):
        return given
    if not model.uses_gpu:
        return 128 if shape.latent_dim is None else 16
    return 16 if shape.latent_dim is None else 64


def _kv_cache_dtype(model: Model, shape: ModelShape) -> str:
    given = model.engine_kwargs.get("kv_cache_dtype", "auto")
    if given == "auto" and shape.quantization is not None and shape.quantization.kv_cache_is_fp8:
        return "fp8"
    return given if isinstance(given, str) else "auto"


def _captured_sizes(seqs: int, tokens: int, gpu: Gpu | None) -> int:
    """How many batch sizes are captured (`_set_cudagraph_sizes` in vllm/config/vllm.py)."""
    is_blackwell = gpu is not None and gpu.capability is not None and gpu.capability[0] == 10
    largest = min(2 * seqs, 1024 if is_blackwell else 512, tokens)
    small = sum(1 for size in (1, 2, 4) if size <= largest)
    return small + len(range(8, min(largest + 1, 256), 8)) + len(range(256, largest + 1, 16))


def _whole(model: Model, name: str) -> int | None:
    """An argument that is a whole number above 0; anything else is left to vLLM to refuse."""
    value = model.engine_kwargs.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53 else None
