#!/usr/bin/python3
"""Makes the three tiny models of the lab, with the standard library alone: tiny_models.py DIRECTORY.

Each is a Llama of two layers with random, seeded weights, a byte-level BPE tokenizer and a chat template, about 1 MB.
They mean nothing, but vLLM serves them as it serves any Llama. Two things are not left to chance:

- each speaks words of its own (`tiny-a` names colours, `tiny-b` animals), so that an answer shows who gave it;
- no answer ends by itself: the end token is never sampled, so `max_tokens` alone says how long a stream is.

Both come from one constant: the first element of the hidden state is the same positive number for every token (all
weights that could change it are zero), and the output row of every token that must not be said is very negative there.
"""

from __future__ import annotations  # array[float] is a type for checkers only: Python 3.11 cannot subscript it

import hashlib
import json
import random
import shutil
import sys
from array import array
from dataclasses import dataclass
from pathlib import Path

HIDDEN = 128
HEADS = 2
INTERMEDIATE = 256
LAYERS = 2
NEVER = -10_000.0
SPECIAL_TOKENS = ("<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
STAMP = ".made-by"

# `strftime_now` and other extras are left out on purpose: any client's messages must render.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + (message['role'] if message['role'] in ['system', 'assistant'] else 'user') + '|>' }}"
    "{{ message['content'] }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True)
class TinyModel:
    """One model: its directory's name, the seed of its weights and the words it can say, separated by spaces."""

    name: str
    seed: int
    words: str


COLOURS = "red green blue amber teal black white grey pink gold silver violet brown olive navy coral"
ANIMALS = "cat dog heron otter lynx whale crow moth newt toad eel hare wolf swan crab bee"
MODELS = (
    TinyModel("tiny-a", 1, COLOURS),
    TinyModel("tiny-b", 2, ANIMALS),
    TinyModel("tiny-embed", 3, f"{COLOURS} {ANIMALS}"),
)


def byte_alphabet() -> list[str]:
    """The printable stand-in of each byte in byte-level BPE (GPT-2's `bytes_to_unicode`)."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)}
    replacements = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(replacements)) for byte in range(256)]


def vocabulary(words: list[str]) -> tuple[dict[str, int], list[list[str]]]:
    """Token ids and BPE merges: the special tokens, every byte, and what builds `words` with their leading space."""
    alphabet = byte_alphabet()
    vocab = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *alphabet))}
    merges = []
    for word in words:
        token = alphabet[ord(" ")]
        for letter in word:
            if token + letter not in vocab:
                merges.append([token, letter])
                vocab[token + letter] = len(vocab)
            token += letter
    return vocab, merges


def tokenizer(vocab: dict[str, int], merges: list[list[str]]) -> dict[str, object]:
    """The content of `tokenizer.json` (the format of the `tokenizers` library)."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocab[token], "content": token, "special": True, **plain} for token in SPECIAL_TOKENS],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": merges,
        },
    }


def tensors(vocab: dict[str, int], vocab_size: int, model: TinyModel) -> dict[str, tuple[list[int], array[float]]]:
    """Shape and values of every weight of a `LlamaForCausalLM`, in the order of the file."""
    source = random.Random(model.seed)

    def matrix(rows: int, columns: int, scale: float) -> array[float]:
        return array("f", (source.gauss(0, scale) for _ in range(rows * columns)))

    def silent_first_row(values: array[float]) -> array[float]:
        values[:HIDDEN] = array("f", bytes(4 * HIDDEN))
        return values

    ones = array("f", [1.0] * HIDDEN)
    embedding = matrix(vocab_size, HIDDEN, 1.0)
    head = matrix(vocab_size, HIDDEN, 0.25)
    can_be_said = {vocab["\u0120" + word] for word in model.words.split()}
    for token in range(vocab_size):
        embedding[token * HIDDEN] = 1.0
        head[token * HIDDEN] = 0.0 if token in can_be_said else NEVER
    made = {
        "lm_head.weight": ([vocab_size, HIDDEN], head),
        "model.embed_tokens.weight": ([vocab_size, HIDDEN], embedding),
        "model.norm.weight": ([HIDDEN], ones),
    }
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        made[f"{prefix}.input_layernorm.weight"] = ([HIDDEN], ones)
        made[f"{prefix}.post_attention_layernorm.weight"] = ([HIDDEN], ones)
        for part in ("q_proj", "k_proj", "v_proj"):
            made[f"{prefix}.self_attn.{part}.weight"] = ([HIDDEN, HIDDEN], matrix(HIDDEN, HIDDEN, 0.15))
        output = silent_first_row(matrix(HIDDEN, HIDDEN, 0.15))
        made[f"{prefix}.self_attn.o_proj.weight"] = ([HIDDEN, HIDDEN], output)
        for part in ("gate_proj", "up_proj"):
            made[f"{prefix}.mlp.{part}.weight"] = ([INTERMEDIATE, HIDDEN], matrix(INTERMEDIATE, HIDDEN, 0.1))
        # down_proj is [HIDDEN, INTERMEDIATE]: its first row holds two rows' worth of HIDDEN values.
        down = matrix(HIDDEN, INTERMEDIATE, 0.1)
        down[:INTERMEDIATE] = array("f", bytes(4 * INTERMEDIATE))
        made[f"{prefix}.mlp.down_proj.weight"] = ([HIDDEN, INTERMEDIATE], down)
    return made


def bfloat16(values: array[float]) -> bytes:
    """The upper half of each little-endian float32, which is bfloat16 cut off instead of rounded."""
    single = values.tobytes()
    half = bytearray(len(single) // 2)
    half[0::2], half[1::2] = single[2::4], single[3::4]
    return bytes(half)


def safetensors(weights: dict[str, tuple[list[int], array[float]]]) -> bytes:
    """A safetensors file: the length of a JSON header in eight bytes, the header, then the values."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, (shape, values) in weights.items():
        part = bfloat16(values)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [len(body), len(body) + len(part)]}
        body += part
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


def write(model: TinyModel, directory: Path) -> None:
    """Write the model's files into `directory`, which must exist."""
    vocab, merges = vocabulary(model.words.split())
    vocab_size = -(-len(vocab) // 64) * 64
    begin, end = vocab["<|begin|>"], vocab["<|end|>"]
    ids = {"bos_token_id": begin, "eos_token_id": end}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "head_dim": HIDDEN // HEADS,
        "hidden_act": "silu",
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "vocab_size": vocab_size,
        **ids,
    }
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 8192,
        "bos_token": "<|begin|>",
        "eos_token": "<|end|>",
        "pad_token": "<|end|>",
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    documents = {
        "config.json": config,
        "generation_config.json": ids,
        "tokenizer.json": tokenizer(vocab, merges),
        "tokenizer_config.json": tokenizer_config,
    }
    for name, document in documents.items():
        (directory / name).write_text(json.dumps(document, indent=1) + "\n")
    (directory / "model.safetensors").write_bytes(safetensors(tensors(vocab, vocab_size, model)))


def make_all(directory: Path) -> None:
    """Make every model below `directory`, except those this very program has made already."""
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    for model in MODELS:
        target = directory / model.name
        stamp = target / STAMP
        if stamp.exists() and stamp.read_text() == digest:
            continue
        # A model appears whole or not at all: an interrupted run must not leave half a file behind a good name.
        partial = directory / f".{model.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write(model, partial)
        (partial / STAMP).write_text(digest)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: tiny_models.py DIRECTORY")
    make_all(Path(sys.argv[1]))
