"""Does a model fit its GPUs, and if not, which single change would make it fit. Pure: no pyinfra, no Ray, no I/O.

vLLM 0.29 takes `gpu_memory_utilization` of what CUDA offers, and gives the KV cache what weights, the peak of a profile
run, CUDA graphs and what PyTorch does not count leave of it (`determine_available_memory` in
vllm/v1/worker/gpu_worker.py). It refuses to start when one context of `max_model_len` does not fit into that.
How far the estimates are from what engines report: docs/planner/memory.md.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from roles.model_serving.model import Model
from roles.planner.memory import kv_cache, requirements, weights
from roles.planner.memory.engine import Engine, not_counted
from roles.planner.memory.hardware import GIB, MIB, Gpu
from roles.planner.memory.kv_cache import KvCache
from roles.planner.memory.model_config import ModelShape
from roles.planner.memory.requirements import Problem
from roles.planner.memory.safetensors import Weights

# What PyTorch does not count: CUDA's own, and the buffers through which a tensor-parallel group speaks. Logs show 0.07
# to 0.3 GiB without such a group; with one 0.5 to 0.7 GiB, and 2.06 to 2.17 GiB over NVLink (vLLM 0.19 on H100s).
NON_TORCH_BYTES = 300 * MIB
NON_TORCH_BYTES_OF_GROUP = 700 * MIB
NON_TORCH_BYTES_OVER_NVLINK = 2250 * MIB
# Of a CUDA graph, for one layer and captured size: 0.84 GiB for 32 layers and 51 sizes, 1.55 for 64 layers.
GRAPH_BYTES = MIB // 2
# Above this share vLLM may find less free memory than it is told to take: CUDA's context comes first.
UTILIZATION_MAX = 0.95
# An estimate may be wrong by this: a share of what is not KV cache.
UNCERTAINTY = 0.04

Verdict = Literal["fits", "does not fit", "unknown"]


@dataclass(frozen=True)
class Change:
    """One field of the model list, and a value with which the model fits."""

    field: str
    value: int | float

    def __str__(self) -> str:
        return f"{self.field}: {self.value:g}" if isinstance(self.value, float) else f"{self.field}: {self.value}"


@dataclass(frozen=True)
class Memory:
    """What a replica of a model needs on each GPU and what it gets. Sizes are None where they are not known."""

    verdict: Verdict
    problems: tuple[Problem, ...] = ()
    """Why it does not fit, by the field of the model that is best changed."""
    reason: str = ""
    """Why nothing can be said, with the verdict `unknown`."""
    changes: tuple[Change, ...] = ()
    """Each alone makes it fit."""
    notes: tuple[str, ...] = ()
    """What an operator should know although it fits."""
    max_model_len: int | None = None
    weights_bytes: int | None = None
    """Of the GPU that has the most."""
    overhead_bytes: int | None = None
    """What is neither weights nor KV cache: profile run, CUDA graphs, CUDA's own."""
    kv_token_bytes: int | None = None
    """What a token takes on one GPU, in the layers that keep all of them."""
    context_bytes: int | None = None
    """What one context of `max_model_len` takes of the KV cache of one GPU."""
    kv_available_bytes: int | None = None
    """Room for the KV cache on the GPU that has the least; negative: how much is missing for the rest."""
    kv_tokens: int | None = None
    """As vLLM's log says `GPU KV cache size`."""
    contexts: int | None = None
    """Contexts of `max_model_len` that fit at once."""


@dataclass(frozen=True)
class _Rank:
    """One GPU of a pipeline stage."""

    weights: int
    overhead: int
    available: int
    cache: KvCache | None


def check(
    model: Model,
    shape: ModelShape | None,
    stored: Weights | None,
    gpu: Gpu | None,
    *,
    max_tensor_parallel_size: int = 8,
) -> Memory:
    """Whether one replica of ``model`` fits GPUs like ``gpu``.

    Args:
        shape: what its config.json says; None: nobody found it.
        stored: the size of its weights; None: `weights_gib` of the list, else what the config's numbers give.
        gpu: None for a GPU of unknown memory. A model that runs on CPUs has none, whatever is given.
        max_tensor_parallel_size: GPUs of the largest host: no larger size is proposed.
    """
    gpu = gpu if model.uses_gpu else None
    result = _evaluate(model, shape, stored, gpu)
    if result.verdict != "does not fit":
        return result
    return replace(result, changes=tuple(_changes(model, shape, stored, gpu, max_tensor_parallel_size)))


def _evaluate(model: Model, shape: ModelShape | None, stored: Weights | None, gpu: Gpu | None) -> Memory:
    if problems := requirements.problems(model, shape, gpu):
        return Memory("does not fit", tuple(problems))
    if stored is None and model.weights_gib is not None:
        stored = Weights(int(model.weights_gib * GIB), source="weights_gib")
    if model.uses_gpu and gpu is None:
        return Memory(
            "unknown", reason="the GPUs' memory is not known: set gpu_model or gpu_memory_gib in the inventory"
        )
    if shape is None:
        return _without_shape(model, stored, gpu)
    stored = stored or weights.computed(shape)
    if stored is None:
        return Memory("unknown", reason="the size of its weights is not known: set weights_gib in the model list")
    return _with_shape(model, shape, stored, gpu)


def _without_shape(model: Model, stored: Weights | None, gpu: Gpu | None) -> Memory:
    """Without a config it can only be said that weights alone are too large, and that if nothing shrinks them."""
    unknown = Memory("unknown", reason="its config.json was not found, so its KV cache cannot be computed")
    if stored is None or gpu is None or model.quantization or model.engine_kwargs.get("cpu_offload_gb"):
        return unknown
    each = stored.loaded // (model.tensor_parallel_size * model.pipeline_parallel_size)
    budget = _budget(model, gpu)
    # Weights stored as float32 are half as large once they are loaded.
    if each // (1 if model.dtype in ("float", "float32") else 2) <= budget:
        return replace(unknown, weights_bytes=each)
    return Memory(
        "does not fit", (_too_large(model, gpu, each, 0),), weights_bytes=each, kv_available_bytes=budget - each
    )


def _with_shape(model: Model, shape: ModelShape, stored: Weights, gpu: Gpu | None) -> Memory:
    engine = Engine.of(model, shape, gpu)
    ranks = _ranks(model, shape, stored, gpu, engine)
    heaviest = max(ranks, key=lambda rank: rank.weights)
    tightest = min(ranks, key=lambda rank: rank.available)
    known = Memory(
        "fits",
        notes=tuple(_notes(model, shape, gpu)),
        max_model_len=engine.max_model_len,
        weights_bytes=heaviest.weights,
        overhead_bytes=max(rank.overhead for rank in ranks),
        kv_available_bytes=tightest.available,
    )
    if gpu is not None and tightest.available < (1 if shape.has_kv_cache else 0):
        problem = _too_large(model, gpu, tightest.weights, tightest.overhead)
        return replace(known, verdict="does not fit", problems=(problem,))
    if not shape.has_kv_cache:
        return known
    if shape.not_modelled is not None:
        return replace(known, verdict="unknown", reason=f"{shape.not_modelled}: its KV cache cannot be computed")
    if tightest.cache is None:
        return replace(
            known, verdict="unknown", reason=f"the size of kv_cache_dtype {engine.kv_cache_dtype} is not known"
        )
    if gpu is None and engine.kv_cache_memory_bytes is None:
        return replace(known, verdict="unknown", reason="vLLM takes what memory its host has left: it runs on CPUs")
    return _with_cache(model, known, engine, ranks)


def _with_cache(model: Model, known: Memory, engine: Engine, ranks: Sequence[_Rank]) -> Memory:
    in_flight = engine.in_flight_tokens
    caches = [(rank, rank.cache) for rank in ranks if rank.cache is not None]
    # All ranks get as many blocks as the one that has room for the fewest; one block is vLLM's own.
    rank, cache = min(caches, key=lambda each: each[0].available // each[1].block_bytes)
    blocks = rank.available // cache.block_bytes
    needed = max(cache.context_blocks(engine.max_model_len, in_flight) for _, cache in caches)
    known = replace(
        known,
        kv_token_bytes=max(cache.token_bytes for _, cache in caches),
        context_bytes=needed * cache.block_bytes,
        kv_available_bytes=rank.available,
        kv_tokens=blocks * engine.max_model_len // needed,
        contexts=blocks // needed,
    )
    if needed > blocks - 1:
        text = (
            f"one context of {engine.max_model_len} tokens takes {_gib(needed * cache.block_bytes)} of KV cache, and "
            f"{_gib(rank.available)} are left beside weights of {_gib(rank.weights)}"
        )
        return replace(known, verdict="does not fit", problems=((("max_model_len",), text),))
    return replace(known, notes=(*known.notes, *_room_notes(model, known, rank)))


def _ranks(model: Model, shape: ModelShape, stored: Weights, gpu: Gpu | None, engine: Engine) -> list[_Rank]:
    stages = kv_cache.stages(shape.num_hidden_layers, model.pipeline_parallel_size)
    total = weights.in_memory(stored, model, shape, engine.dtype_bytes)
    held = weights.by_rank(total, shape, engine.dtype_bytes, model.tensor_parallel_size, stages)
    token_bytes = kv_cache.layer_token_bytes(
        shape, engine.kv_cache_dtype, engine.dtype_bytes, model.tensor_parallel_size
    )
    caches: Sequence[KvCache | None] = [None] * len(stages)
    if token_bytes is not None and shape.has_kv_cache:
        caches = kv_cache.by_rank(shape, token_bytes, engine.block_size, stages)
    ranks = []
    for index, (stage, size, cache) in enumerate(zip(stages, held, caches, strict=True)):
        size = max(0, size - engine.cpu_offload_bytes)
        overhead = _overhead(model, shape, gpu, engine, len(stage), index == len(stages) - 1) if gpu else 0
        ranks.append(_Rank(size, overhead, _available(model, gpu, engine, size, overhead), cache))
    return ranks


def _available(model: Model, gpu: Gpu | None, engine: Engine, size: int, overhead: int) -> int:
    """Room for the KV cache. Set in bytes, it is given regardless of the share, if the GPU has so much."""
    fixed = engine.kv_cache_memory_bytes
    if gpu is None:
        return fixed or 0
    if fixed is None:
        return _budget(model, gpu) - size - overhead
    left = int(gpu.total_bytes * UTILIZATION_MAX) - size - overhead
    return fixed if fixed <= left else left - fixed


def _overhead(model: Model, shape: ModelShape, gpu: Gpu, engine: Engine, layers: int, is_last: bool) -> int:
    """The peak of the profile run, CUDA graphs, and what PyTorch does not count."""
    tensor, tokens = model.tensor_parallel_size, engine.max_num_batched_tokens
    in_layers = tokens * engine.dtype_bytes * (4 * shape.hidden_size + shape.parameters.widest // tensor)
    peak = in_layers
    if is_last and model.runner == "generate":
        # Logits in the model's dtype and in float32, and the noise that sampling adds.
        logits = engine.max_num_seqs * shape.vocab_size * (engine.dtype_bytes + 8)
        peak = max(in_layers, 2 * tokens * engine.dtype_bytes * shape.hidden_size + logits)
    non_torch = NON_TORCH_BYTES
    if tensor > 1:
        non_torch = NON_TORCH_BYTES_OVER_NVLINK if gpu.nvlink else NON_TORCH_BYTES_OF_GROUP
    graphs = 0
    if model.env.get("VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS") != "0":
        graphs = engine.captured_sizes * layers * GRAPH_BYTES
    return peak + graphs + non_torch


def _changes(
    model: Model, shape: ModelShape | None, stored: Weights | None, gpu: Gpu | None, largest_tensor: int
) -> Iterator[Change]:
    def fits(field: str, value: int | float) -> bool:
        changed = model.model_copy(update={field: value})
        return _evaluate(changed, shape, stored, gpu).verdict == "fits"

    if shape is None:
        return
    if (length := _longest(model, shape, gpu, fits)) is not None:
        yield Change("max_model_len", length)
    # A model that shares its GPU cannot take more of it without looking at the others, and has one GPU.
    if model.share_gpu or not model.uses_gpu:
        return
    first = math.floor(model.gpu_memory_utilization * 100) + 1
    shares = (percent / 100 for percent in range(first, round(UTILIZATION_MAX * 100) + 1))
    if (share := next((share for share in shares if fits("gpu_memory_utilization", share)), None)) is not None:
        yield Change("gpu_memory_utilization", share)
    size = 2 * model.tensor_parallel_size
    while size <= largest_tensor:
        if fits("tensor_parallel_size", size):
            yield Change("tensor_parallel_size", size)
            return
        size *= 2


def _longest(model: Model, shape: ModelShape, gpu: Gpu | None, fits: Callable[[str, int | float], bool]) -> int | None:
    """The longest context that fits, in whole blocks; None when no shorter one does."""
    engine = Engine.of(model, shape, gpu)
    block = engine.block_size
    low, high = 0, min(engine.max_model_len - 1, shape.max_len) // block
    if high < 1:
        return None
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits("max_model_len", middle * block) else (low, middle - 1)
    return low * block or None


def _notes(model: Model, shape: ModelShape, gpu: Gpu | None) -> Iterator[str]:
    if gpu is not None and gpu.note is not None:
        yield gpu.note
    yield from requirements.notes(model, shape, gpu)
    if names := not_counted(model):
        yield f"engine_kwargs.{', '.join(names)}: its memory is not counted"
    if shape.is_multimodal:
        yield "the memory that its image or audio encoder works in is not counted"


def _room_notes(model: Model, known: Memory, rank: _Rank) -> Iterator[str]:
    contexts, length = known.contexts or 0, known.max_model_len
    if contexts < model.target_ongoing_requests:
        yield (
            f"room for {contexts} contexts of {length} tokens at once, and target_ongoing_requests is "
            f"{model.target_ongoing_requests}: more of that length wait"
        )
    spare = (known.kv_available_bytes or 0) - (known.context_bytes or 0)
    if spare < UNCERTAINTY * (rank.weights + rank.overhead) and rank.overhead:
        yield f"tight: {_gib(spare)} to spare, which is less than this estimate may be wrong by"


def _too_large(model: Model, gpu: Gpu, size: int, overhead: int) -> Problem:
    taken = f"weights of {_gib(size)} on each GPU and {_gib(overhead)} beside them"
    fixed = model.engine_kwargs.get("kv_cache_memory_bytes")
    if isinstance(fixed, int):
        text = f"{_gib(fixed)} are not left on one {gpu.name}: {taken} come first"
        return ("engine_kwargs", "kv_cache_memory_bytes"), text
    share = f"gpu_memory_utilization {model.gpu_memory_utilization:g} gives of one {gpu.name}"
    return ("tensor_parallel_size",), f"{taken} are more than the {_gib(_budget(model, gpu))} that {share}"


def _budget(model: Model, gpu: Gpu) -> int:
    return math.ceil(gpu.total_bytes * model.gpu_memory_utilization)


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
