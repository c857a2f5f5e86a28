"""How vLLM 0.29 lays out the KV cache, as far as it decides how many tokens fit. Pure.

vllm/v1/core/kv_cache_utils.py and vllm/v1/kv_cache_interface.py: layers are put into groups, a block holds
`block_size` tokens of all layers of one group, and every group takes blocks of its own from one pool.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from roles.planner.memory.model_config import ModelShape

# Of one value, by the beginning of vLLM's `kv_cache_dtype`; scales for each token and head come on top.
_BYTES = {"fp8": 1.0, "int8": 1.0, "int4": 0.5, "nvfp4": 9 / 16, "float16": 2.0, "bfloat16": 2.0}
_SCALE_BYTES = 4


@dataclass(frozen=True)
class Group:
    """Layers that share a block table on one rank."""

    layers: int
    window: int | None


@dataclass(frozen=True)
class KvCache:
    """The cache of one rank."""

    block_size: int
    """Tokens in a block."""
    layer_block_bytes: int
    """Bytes that one layer takes in a block."""
    groups: tuple[Group, ...]

    @property
    def block_bytes(self) -> int:
        """Bytes of a block: as many layers as the largest group has."""
        return self.layer_block_bytes * max(group.layers for group in self.groups)

    def context_blocks(self, tokens: int, in_flight: int) -> int:
        """Blocks that one context of ``tokens`` takes at most; ``in_flight``: tokens scheduled and not yet done."""
        return sum(self._group_blocks(group, tokens, in_flight) for group in self.groups)

    @property
    def token_bytes(self) -> int:
        """What one more token takes in the layers that keep all of them; in all layers where none does."""
        full = sum(group.layers for group in self.groups if group.window is None)
        return self.layer_block_bytes * (full or sum(group.layers for group in self.groups)) // self.block_size

    def _group_blocks(self, group: Group, tokens: int, in_flight: int) -> int:
        if group.window is None:
            return -(-tokens // self.block_size)
        return -(-min(group.window - 1 + in_flight, tokens) // self.block_size) + 1


def value_bytes(dtype: str, model_bytes: int) -> float | None:
    """Bytes of one cached value for vLLM's ``kv_cache_dtype``; None: not known here."""
    if dtype == "auto":
        return float(model_bytes)
    if dtype == "fp8_ds_mla" or dtype.startswith("turboquant"):
        return None
    return next((size for beginning, size in _BYTES.items() if dtype.startswith(beginning)), None)


def layer_token_bytes(shape: ModelShape, dtype: str, model_bytes: int, tensor_parallel_size: int) -> int | None:
    """What one token takes in one layer on one rank; None: this dtype is not known here."""
    size = value_bytes(dtype, model_bytes)
    if size is None:
        return None
    if shape.latent_dim is not None:  # every rank keeps the whole latent vector
        return round(shape.latent_dim * size)
    heads = max(1, shape.num_kv_heads // tensor_parallel_size)
    scales = _SCALE_BYTES if "per_token_head" in dtype else 0
    return 2 * heads * (round(shape.head_dim * size) + scales)


def by_rank(shape: ModelShape, token_bytes: int, block_size: int, stages: Sequence[range]) -> tuple[KvCache, ...]:
    """The cache of each pipeline stage; ``stages`` are their layers."""
    groups = _groups(shape.windows)
    caches = []
    for stage in stages:
        own = tuple(
            Group(count, window)
            for layers, window in groups
            if (count := sum(1 for layer in layers if layer in stage)) > 0
        )
        caches.append(KvCache(block_size, token_bytes * block_size, own))
    return tuple(caches)


def _groups(windows: Sequence[int | None]) -> list[tuple[Sequence[int], int | None]]:
    """Layers of equal kind, in groups of equal size (`_get_kv_cache_groups_uniform_page_size`)."""
    kinds: dict[int | None, list[int]] = {}
    for layer, window in enumerate(windows):
        kinds.setdefault(window, []).append(layer)
    counts = [len(layers) for layers in kinds.values()]
    size = max(counts) if max(counts) < 1.5 * min(counts) else min(counts)
    groups: list[tuple[Sequence[int], int | None]] = []
    for window, layers in kinds.items():
        number = -(-len(layers) // size)
        groups += [(layers[index::number], window) for index in range(number)]
    return groups


def stages(layers: int, pipeline_parallel_size: int) -> tuple[range, ...]:
    """The layers of each pipeline stage: those left over go to the stages before the last (`get_pp_indices`)."""
    sizes = [layers // pipeline_parallel_size] * pipeline_parallel_size
    for index in range(2, layers % pipeline_parallel_size + 2):
        sizes[-index] += 1
    ranges, start = [], 0
    for size in sizes:
        ranges.append(range(start, start + size))
        start += size
    return tuple(ranges)
