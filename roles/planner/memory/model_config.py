"""What a model's config.json says about memory. Pure: no I/O, no Ray, no vLLM.

Names and rules are those of Hugging Face's configs as vLLM 0.29 reads them
(vllm/transformers_utils/model_arch_config_convertor.py, vllm/config/model.py).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from roles.errors import InputError
from roles.planner.memory import parameters, safetensors
from roles.planner.memory.parameters import Parameters

# Real ones have a few KiB; lists of modules that are not quantised can make it some hundred.
CONFIG_MAX_BYTES = 4 * 2**20
LAYERS_MAX = 1000
NUMBER_MAX = 10**9

_TEXT_CONFIGS = ("text_config", "language_config", "llm_config")
_LENGTH_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
# What vLLM takes when a config names no length.
_DEFAULT_LENGTH = 2048
# Families whose layers read the whole text at once and keep no KV cache.
_ENCODERS = frozenset({"bert", "roberta", "xlm-roberta", "modernbert", "nomic_bert", "new", "gte"})
# Of these the config says nothing per layer: every n-th layer reads all, the others a window.
_WINDOW_PATTERNS = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6, "cohere2": 4}
# Families whose config names a latent size that vLLM caches instead of heads (`is_deepseek_mla`).
_LATENT = frozenset(
    {"deepseek_v2", "deepseek_v3", "kimi_k2", "longcat_flash", "glm4_moe_lite", "pangu_ultra_moe", "axk1"}
)
_DTYPES = {"float16": 2, "half": 2, "bfloat16": 2, "float32": 4, "float": 4}


@dataclass(frozen=True)
class Quantization:
    """How the checkpoint is quantised."""

    method: str
    """vLLM's name of it."""
    bits: int | None
    """Of one weight; None: not known."""
    kv_cache_is_fp8: bool
    """The checkpoint brings scales for a KV cache of one byte a value, and vLLM's `auto` uses them."""


@dataclass(frozen=True)
class ModelShape:
    """The part of a config that decides how much memory a model takes."""

    model_type: str
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    max_len: int
    """Longest context the config allows, in tokens, position scaling included."""
    default_len: int
    """What vLLM takes when nobody sets `max_model_len`."""
    windows: tuple[int | None, ...]
    """By layer: how many tokens back it looks; None: all."""
    latent_dim: int | None
    """Values that multi-head latent attention caches for a token and layer, for all heads together."""
    has_kv_cache: bool
    stored_bytes: int | None
    """Of one weight in the checkpoint where it is not quantised; None: the config does not say."""
    quantization: Quantization | None
    parameters: Parameters
    is_multimodal: bool
    not_modelled: str | None
    """Why the KV cache cannot be computed: kinds of layers that keep something else."""


def read(text: bytes, name: str) -> ModelShape:
    """The shape that a config.json describes. ``name`` is the file's name for errors.

    Raises:
        InputError: it is too large, not a JSON object, or lacks what is needed; one line.
    """
    if len(text) > CONFIG_MAX_BYTES:
        raise InputError(f"{name}: larger than {CONFIG_MAX_BYTES // 2**20} MiB: that is no config.json of a model")
    return shape(safetensors.parse_json(text, name), name)


def shape(data: object, name: str) -> ModelShape:
    """The same, of a config that was read already."""
    if not isinstance(data, dict):
        raise InputError(f"{name}: must be a JSON object")
    text = next((data[key] for key in _TEXT_CONFIGS if isinstance(data.get(key), dict)), data)
    fields = _Fields(text, name)
    model_type = _name(text.get("model_type") or data.get("model_type"))
    layers = fields.number("num_hidden_layers", "n_layer", "num_layers", limit=LAYERS_MAX)
    heads = fields.number("num_attention_heads", "n_head")
    hidden = fields.number("hidden_size", "n_embd", "d_model")
    latent = _latent(fields, model_type)
    max_len, default_len = _lengths(fields, model_type)
    kv_heads = fields.optional("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num") or heads
    head_dim = fields.optional("head_dim") or max(1, hidden // heads)
    return ModelShape(
        model_type=model_type,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=fields.number("vocab_size"),
        max_len=max_len,
        default_len=default_len,
        windows=_windows(fields, model_type, layers),
        latent_dim=latent,
        has_kv_cache=model_type not in _ENCODERS,
        stored_bytes=_stored_bytes(text, data),
        quantization=_quantization(data, text),
        parameters=parameters.count(fields, model_type, layers, heads, kv_heads, head_dim, hidden),
        is_multimodal=text is not data or isinstance(data.get("vision_config"), dict),
        not_modelled=_not_modelled(text, model_type),
    )


class _Fields:
    """A config's numbers, checked: between 1 and a limit that keeps sums small."""

    def __init__(self, data: Mapping[str, Any], name: str) -> None:
        self.data = data
        self._name = name

    def optional(self, *keys: str, limit: int = NUMBER_MAX) -> int | None:
        """The first of ``keys`` that is set; 0 counts as unset, as configs use it."""
        for key in keys:
            value = self.data.get(key)
            if value is None or value is False or (value == 0 and not isinstance(value, bool)):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= limit:
                raise InputError(f"{self._name}: {key}: must be a whole number from 1 to {limit}")
            return value
        return None

    def number(self, *keys: str, limit: int = NUMBER_MAX) -> int:
        value = self.optional(*keys, limit=limit)
        if value is None:
            raise InputError(f"{self._name}: {keys[0]}: missing: this is not the config.json of a language model")
        return value

    def mapping(self, *keys: str) -> Mapping[str, Any]:
        for key in keys:
            value = self.data.get(key)
            if isinstance(value, dict):
                return value
        return {}


def _name(value: object) -> str:
    """A name as it may stand in a line for the operator."""
    return re.sub(r"[^A-Za-z0-9_.+-]", "?", value[:64]) if isinstance(value, str) else ""


def _latent(fields: _Fields, model_type: str) -> int | None:
    rank = fields.optional("kv_lora_rank")
    if rank is None or model_type not in _LATENT:
        return None
    return rank + (fields.optional("qk_rope_head_dim") or 0)


def _lengths(fields: _Fields, model_type: str) -> tuple[int, int]:
    """The longest context, and the default one (vLLM's `_get_and_verify_max_len`)."""
    given = [length for key in _LENGTH_KEYS if (length := fields.optional(key)) is not None]
    longest = float(min(given, default=_DEFAULT_LENGTH))
    if model_type in ("roberta", "xlm-roberta"):
        longest -= 2  # its positions begin behind the padding token's
    scaling = fields.mapping("rope_parameters", "rope_scaling")
    kind = scaling.get("rope_type", scaling.get("type"))
    original = scaling.get("original_max_position_embeddings", fields.data.get("original_max_position_embeddings"))
    if not _is_length(original):
        original = None
    if "gemma3" not in model_type and kind not in ("su", "longrope", "llama3"):
        if kind == "yarn" and original is not None:
            longest = float(original)
        factor = scaling.get("factor")
        if isinstance(factor, int | float) and not isinstance(factor, bool) and 0 < factor <= 10_000:
            longest *= factor
    most = max(1, int(min(longest, NUMBER_MAX)))
    return most, min(most, original) if kind == "longrope" and original is not None else most


def _is_length(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= NUMBER_MAX


def _windows(fields: _Fields, model_type: str, layers: int) -> tuple[int | None, ...]:
    window = fields.optional("sliding_window")
    if fields.data.get("use_sliding_window") is False:
        window = None
    kinds = fields.data.get("layer_types")
    if isinstance(kinds, list) and len(kinds) >= layers:
        chunk = fields.optional("attention_chunk_size")
        by_kind = {"sliding_attention": window, "chunked_attention": chunk}
        return tuple(by_kind.get(str(kind)) for kind in kinds[:layers])
    if window is None:
        return (None,) * layers
    pattern = fields.optional("sliding_window_pattern") or _WINDOW_PATTERNS.get(model_type)
    if pattern is None:
        return (window,) * layers
    return tuple(None if (index + 1) % pattern == 0 else window for index in range(layers))


def _stored_bytes(text: Mapping[str, Any], whole: Mapping[str, Any]) -> int | None:
    for config in (text, whole):
        for key in ("dtype", "torch_dtype"):
            name = config.get(key)
            if isinstance(name, str) and name.removeprefix("torch.") in _DTYPES:
                return _DTYPES[name.removeprefix("torch.")]
    return None


def _quantization(*configs: Mapping[str, Any]) -> Quantization | None:
    for config in configs:
        for key in ("quantization_config", "compression_config"):
            found = config.get(key)
            if isinstance(found, dict) and isinstance(found.get("quant_method"), str):
                method = _name(found["quant_method"].lower()).replace("compressed_tensors", "compressed-tensors")
                bits = {"fp8": 8, "fbgemm_fp8": 8, "mxfp4": 4}.get(method, found.get("bits", found.get("w_bit")))
                if not isinstance(bits, int) or isinstance(bits, bool) or not 1 <= bits <= 16:
                    bits = None
                return Quantization(method, bits, _kv_cache_is_fp8(found))
    return None


def _kv_cache_is_fp8(quantization: Mapping[str, Any]) -> bool:
    """As vLLM's `get_kv_cache_quant_algo_string` and compressed-tensors' scheme."""
    inner = quantization.get("quantization")
    for config in (inner, quantization):
        if isinstance(config, dict):
            scheme = config.get("kv_cache_scheme")
            if isinstance(scheme, dict) and scheme.get("num_bits") == 8:
                return True
            if str(config.get("kv_cache_quant_algo")).upper() == "FP8":
                return True
    return False


def _not_modelled(text: Mapping[str, Any], model_type: str) -> str | None:
    kinds = text.get("layer_types")
    known = ("full_attention", "sliding_attention", "chunked_attention")
    if isinstance(kinds, list) and any(kind not in known for kind in kinds):
        return f"{model_type} has layers that keep a state instead of a KV cache"
    for key in ("ssm_cfg", "mamba_d_state", "ssm_state_size", "state_size", "attn_layer_period", "layers_block_type"):
        if text.get(key) is not None:
            return f"{model_type} has layers that keep a state instead of a KV cache"
    if text.get("index_topk") is not None or text.get("compress_ratios") is not None:
        return f"{model_type} caches an index beside its latent values"
    if text.get("kv_lora_rank") is not None and model_type not in _LATENT:
        return f"{model_type} caches latent values in a way that is not known here"
    if text.get("is_encoder_decoder") is True:
        return f"{model_type} has an encoder and a decoder"
    return None
