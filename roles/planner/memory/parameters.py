"""How many weights a model has, and which of them tensor parallelism divides. Pure.

Counted from the config as transformers and vLLM 0.29 build the layers. Of each layer three parts are told apart: what
tensor parallelism divides, what it divides up to the number of KV heads, and what every rank holds whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

# Families whose layers are counted exactly; of all others the count serves for shares, not for sums.
_EXACT = frozenset(
    {"llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "phi3"}
    | {"gpt_oss", "deepseek_v2", "deepseek_v3", "kimi_k2", "bert", "roberta", "xlm-roberta"}
)
_ENCODERS = frozenset({"bert", "roberta", "xlm-roberta"})


class Fields(Protocol):
    """Checked numbers of a config."""

    data: Mapping[str, Any]

    def optional(self, *keys: str, limit: int = ...) -> int | None: ...

    def number(self, *keys: str, limit: int = ...) -> int: ...


@dataclass(frozen=True)
class Layer:
    """Weights of one layer, in elements."""

    divided: int
    """By tensor parallelism."""
    kv: int
    """Key and value projections: with fewer KV heads than ranks, several ranks hold the same head."""
    whole: int
    """On every rank: norms, routers, latent projections."""
    experts: int = 0
    """Part of ``divided``: the matrices of the routed experts, which some checkpoints quantise alone."""

    @property
    def total(self) -> int:
        return self.divided + self.kv + self.whole


@dataclass(frozen=True)
class Parameters:
    """Weights of a model, in elements."""

    exact: bool
    embedding: int
    head: int
    """0 where it is the embedding (`tie_word_embeddings`)."""
    rest: int
    """Final norm, pooler, positions: on every rank that has them."""
    layers: tuple[Layer, ...]
    widest: int
    """Values that one token takes at once in the widest place of a layer, not divided by tensor parallelism."""

    @property
    def total(self) -> int:
        return self.embedding + self.head + self.rest + sum(layer.total for layer in self.layers)


def count(
    fields: Fields, model_type: str, layers: int, heads: int, kv_heads: int, head_dim: int, hidden: int
) -> Parameters:
    """Raises:
    InputError: a number that is there is not plausible; from ``fields``.
    """
    vocab = fields.number("vocab_size")
    if model_type in _ENCODERS:
        return _encoder(fields, layers, hidden, vocab)
    if fields.optional("kv_lora_rank"):
        attention = _latent_attention(fields, heads, hidden)
    else:
        attention = _attention(fields, model_type, heads, kv_heads, head_dim, hidden)
    norms = hidden * (4 if model_type in ("gemma2", "gemma3_text") else 2)
    intermediate = fields.optional("intermediate_size", "n_inner") or 4 * hidden
    dense = Layer(attention.divided + 3 * hidden * intermediate, attention.kv, attention.whole + norms)
    sparse, expert_width = _sparse(fields, model_type, attention, norms, hidden, intermediate)
    is_dense = [sparse is None or _is_dense(fields, index) for index in range(layers)]
    tied = fields.data.get("tie_word_embeddings", model_type.startswith("gemma"))
    return Parameters(
        exact=model_type in _EXACT,
        embedding=vocab * hidden,
        head=0 if tied else vocab * hidden,
        rest=hidden,
        layers=tuple(dense if flag or sparse is None else sparse for flag in is_dense),
        widest=max(expert_width, 5 * intermediate if any(is_dense) else 0),
    )


def _attention(fields: Fields, model_type: str, heads: int, kv_heads: int, head_dim: int, hidden: int) -> Layer:
    query, kv = heads * head_dim, kv_heads * head_dim
    # Qwen2 has these whether or not the config says so.
    has_bias = fields.data.get("attention_bias") is True or model_type in ("qwen2", "qwen2_moe")
    bias = query if has_bias else 0
    whole = 2 * head_dim if model_type in ("qwen3", "qwen3_moe", "gemma3_text") else 0  # norms of queries and keys
    if model_type == "gpt_oss":
        bias += heads  # sinks
        whole += hidden  # the bias of the output projection
    return Layer(2 * hidden * query + bias, 2 * hidden * kv + (2 * kv if has_bias else 0), whole)


def _latent_attention(fields: Fields, heads: int, hidden: int) -> Layer:
    latent = fields.number("kv_lora_rank")
    rope = fields.optional("qk_rope_head_dim") or 0
    nope = fields.optional("qk_nope_head_dim") or 0
    value = fields.optional("v_head_dim") or nope
    query_latent = fields.optional("q_lora_rank")
    query_input = query_latent or hidden
    divided = query_input * heads * (nope + rope) + latent * heads * (nope + value) + heads * value * hidden
    whole = hidden * (latent + rope) + latent
    if query_latent:
        whole += hidden * query_latent + query_latent
    return Layer(divided, 0, whole)


def _sparse(
    fields: Fields, model_type: str, attention: Layer, norms: int, hidden: int, intermediate: int
) -> tuple[Layer | None, int]:
    """A layer with experts, and the width of what a token needs there; (None, 0) for models without experts."""
    experts = fields.optional("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
    if experts is None:
        return None, 0
    width = fields.optional("moe_intermediate_size") or intermediate
    matrices = routed = experts * 3 * hidden * width
    shared = 3 * hidden * width * (fields.optional("n_shared_experts") or 0)
    shared += 3 * hidden * (fields.optional("shared_expert_intermediate_size") or 0)
    router = experts * hidden
    if model_type == "gpt_oss":
        routed += experts * (2 * width + hidden)  # biases
        router += experts
    if fields.data.get("topk_method") == "noaux_tc":
        router += experts  # e_score_correction_bias
    chosen = fields.optional("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk") or 1
    layer = Layer(attention.divided + routed + shared, attention.kv, attention.whole + norms + router, matrices)
    return layer, chosen * (max(2 * width, hidden) + width)


def _is_dense(fields: Fields, index: int) -> bool:
    """Whether layer ``index`` of a model with experts has none."""
    first_dense = fields.optional("first_k_dense_replace") or 0
    step = fields.optional("decoder_sparse_step", "moe_layer_freq") or 1
    listed = fields.data.get("mlp_only_layers")
    return index < first_dense or (index + 1) % step != 0 or (isinstance(listed, list) and index in listed)


def _encoder(fields: Fields, layers: int, hidden: int, vocab: int) -> Parameters:
    intermediate = fields.optional("intermediate_size") or 4 * hidden
    attention = 4 * (hidden * hidden + hidden)
    mlp = 2 * hidden * intermediate + intermediate + hidden
    layer = Layer(attention + mlp, 0, 4 * hidden)
    positions = (fields.optional("max_position_embeddings") or 0) + (fields.optional("type_vocab_size") or 0)
    pooler = hidden * hidden + hidden
    return Parameters(
        True, vocab * hidden, 0, positions * hidden + 2 * hidden + pooler, (layer,) * layers, 5 * intermediate
    )
