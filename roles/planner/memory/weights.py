"""How much of a model's weights each GPU holds. Pure."""

from collections.abc import Sequence

from roles.model_serving.model import Model
from roles.planner.memory.model_config import ModelShape
from roles.planner.memory.safetensors import DTYPE_BYTES, Weights

_FLOATS = ("F32", "BF16", "F16")
# Bytes of a weight that vLLM quantises while it loads, and of one in a checkpoint quantised to so many bits: 4 bits
# have a scale of 16 bits for each 128 weights and zero points; mxfp4 has 8 bits for each 32.
_ONLINE_BYTES = {"mxfp4": 17 / 32, "nvfp4_per_token": 9 / 16}
_STORED_BYTES = {8: 1.0, 4: 0.5 + 2.5 / 128}
_MXFP4_BYTES = 17 / 32


def computed(shape: ModelShape) -> Weights | None:
    """The size of the checkpoint by its config alone; None: this family, or its quantisation, is not known so well."""
    counts = shape.parameters
    if not counts.exact or shape.is_multimodal:
        return None
    size = shape.stored_bytes or 2
    if shape.quantization is None:
        return Weights(counts.total * size, source="the config's number of parameters")
    if shape.quantization.method == "mxfp4":
        packed, per_weight = sum(layer.experts for layer in counts.layers), _MXFP4_BYTES
    elif shape.quantization.bits in _STORED_BYTES:
        packed = sum(layer.divided + layer.kv for layer in counts.layers)
        per_weight = _STORED_BYTES[shape.quantization.bits]
    else:
        return None
    total = (counts.total - packed) * 2 + int(packed * per_weight)
    return Weights(total, source="the config's number of parameters")


def in_memory(weights: Weights, model: Model, shape: ModelShape, dtype_bytes: int) -> int:
    """Bytes over all GPUs of a replica once loaded: in the engine's dtype where they are not quantised."""
    if shape.quantization is not None:
        return weights.loaded
    counts = shape.parameters
    if model.quantization is not None:
        outside = (counts.embedding + counts.head + counts.rest) * dtype_bytes
        stored = sum(weights.by_dtype.get(name, 0) // DTYPE_BYTES[name] for name in _FLOATS) or (
            weights.loaded // (shape.stored_bytes or 2)
        )
        inside = max(0, stored - counts.embedding - counts.head - counts.rest)
        return outside + int(inside * _ONLINE_BYTES.get(model.quantization, 1.0))
    if not weights.by_dtype:
        return weights.loaded * dtype_bytes // (shape.stored_bytes or dtype_bytes)
    cast = sum(weights.by_dtype.get(name, 0) for name in _FLOATS)
    elements = sum(weights.by_dtype.get(name, 0) // DTYPE_BYTES[name] for name in _FLOATS)
    return max(0, weights.loaded - cast) + elements * dtype_bytes


def by_rank(
    total: int, shape: ModelShape, dtype_bytes: int, tensor_parallel_size: int, stages: Sequence[range]
) -> tuple[int, ...]:
    """Bytes of ``total`` on one GPU of each pipeline stage.

    Embedding and head are never quantised; what is left of the total belongs to the layers, in the shares that the
    config's numbers give.
    """
    counts, tensor = shape.parameters, tensor_parallel_size
    embedding, head, rest = (count * dtype_bytes for count in (counts.embedding, counts.head, counts.rest))
    counted = sum(layer.total for layer in counts.layers)
    inside = total - embedding - head - rest
    if inside <= 0:  # a total that cannot be: nothing is known of its parts
        return (-(-total // (tensor * len(stages))),) * len(stages)
    kv_ranks = min(tensor, shape.num_kv_heads)
    ranks = []
    for index, stage in enumerate(stages):
        own = sum(
            counts.layers[layer].divided / tensor + counts.layers[layer].kv / kv_ranks + counts.layers[layer].whole
            for layer in stage
        )
        size = inside * own / counted
        if index == 0:
            size += embedding / tensor
        if index == len(stages) - 1:
            tied_copy = embedding if counts.head == 0 and len(stages) > 1 else 0
            size += (head + tied_copy) / tensor + rest
        ranks.append(round(size))
    return tuple(ranks)
