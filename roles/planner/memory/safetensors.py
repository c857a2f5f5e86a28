"""How large a model's weights are, from what describes them. Pure: no I/O.

The files themselves are read on the host (host/model_files.py). Format:
https://huggingface.co/docs/safetensors/index#format
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from roles import field_errors
from roles.errors import InputError

# Bytes of one element. What is narrower than a byte is stored packed in U8 or I32.
DTYPE_BYTES = {
    "F64": 8, "I64": 8, "U64": 8,
    "F32": 4, "I32": 4, "U32": 4,
    "BF16": 2, "F16": 2, "I16": 2, "U16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
# The largest index seen is DeepSeek-V3's with 8.5 MiB; this is what one may be.
INDEX_MAX_BYTES = 32 * 2**20
# Nothing is larger than this, so that hostile numbers stay small enough to compute with.
WEIGHTS_MAX_BYTES = 2**50


@dataclass(frozen=True)
class Weights:
    """Sizes of a checkpoint's tensors, in bytes as stored."""

    total: int
    by_dtype: Mapping[str, int] = field(default_factory=dict)
    """By safetensors' dtype name; empty when only the sum is known."""
    unused: int = 0
    """Part of the total that the engine does not load: the prediction layers behind the last layer (DeepSeek's MTP)."""
    source: str = ""
    """Where it was read, for the plan to say."""

    @property
    def loaded(self) -> int:
        return self.total - self.unused


def from_index(text: bytes, name: str) -> Weights:
    """What a ``model.safetensors.index.json`` says.

    Raises:
        InputError: it is too large, is no JSON object, or has no plausible ``metadata.total_size``.
    """
    if len(text) > INDEX_MAX_BYTES:
        raise InputError(f"{name}: larger than {INDEX_MAX_BYTES // 2**20} MiB: that is no index of safetensors files")
    total = _member(_member(parse_json(text, name), "metadata"), "total_size")
    if isinstance(total, float) and total.is_integer():
        total = int(total)
    if not is_size(total):
        raise InputError(f"{name}: metadata.total_size: must be a number of bytes: set weights_gib in the model list")
    assert isinstance(total, int)
    return Weights(total, source=name)


def from_parameters(data: object, name: str) -> Weights:
    """What the hub's model API says in ``safetensors.parameters``: elements by dtype.

    Raises:
        InputError: there are no such numbers, or they are not plausible.
    """
    parameters = _member(_member(data, "safetensors"), "parameters")
    if not isinstance(parameters, dict) or not parameters:
        raise InputError(f"{name}: has no sizes of its weights: set weights_gib in the model list")
    by_dtype = {}
    for dtype, count in parameters.items():
        if dtype not in DTYPE_BYTES or not is_size(count):
            where = field_errors.path(("safetensors", "parameters", dtype[:40]))
            raise InputError(f"{name}: {where}: not understood: set weights_gib")
        by_dtype[dtype] = count * DTYPE_BYTES[dtype]
    return Weights(sum(by_dtype.values()), by_dtype, source=name)


def is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= WEIGHTS_MAX_BYTES


def parse_json(text: bytes, name: str) -> object:
    """The JSON value in ``text``.

    Raises:
        InputError: it is not JSON in UTF-8, or nested too deeply.
    """
    try:
        return json.loads(text.decode("utf-8-sig"), object_pairs_hook=_unique)
    except RecursionError:
        raise InputError(f"{name}: nested too deeply") from None
    except UnicodeDecodeError:
        raise InputError(f"{name}: not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{name}: not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None
    except ValueError as error:  # ours, or an integer of thousands of digits
        raise InputError(f"{name}: not usable: {error}") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a name is set twice in one object")
    return result


def _member(data: object, name: str) -> object:
    return data.get(name) if isinstance(data, dict) else None
