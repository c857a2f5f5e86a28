#!/usr/bin/python3
"""Prints, as one line of JSON, what models' files on this host say about memory: model_files.py WEIGHTS_DIR SOURCE...

A source is an absolute path, or a hub id that is looked up in the hub's cache below WEIGHTS_DIR (HF_HOME). Of each it
prints the fields of config.json that decide about memory, and the sizes of the weights by their number format. Files
are taken for hostile: whatever they hold, the time and memory spent on them are bounded, and the answer is a reason.
Sent to the host and run there as root. Standard library only, and nothing newer than Python 3.9.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import stat
import sys
from pathlib import Path
from typing import Any

CONFIG_MAX_BYTES = 4 * 2**20
INDEX_MAX_BYTES = 32 * 2**20
# The format allows headers of 100 MB. Those of real files have some KiB to some MiB; of larger ones only the size is
# taken, since parsing takes many times their size of memory.
HEADER_MAX_BYTES = 100_000_000
HEADER_PARSED_BYTES = 16 * 2**20
ENTRIES_MAX = 20_000
FILES_MAX = 5_000
LIST_MAX = 10_000
TEXT_MAX = 200

KEYS_MAX = 1000
# Of a config every number and short text is printed; of lists and objects those that decide about memory.
LISTS = frozenset(("layer_types", "mlp_only_layers", "layers_block_type", "compress_ratios"))
CONFIGS = ("text_config", "language_config", "llm_config")
ROPE = frozenset(("rope_parameters", "rope_scaling"))
ROPE_FIELDS = ("rope_type", "type", "factor", "original_max_position_embeddings")
QUANTIZATION = frozenset(("quantization_config", "compression_config"))
QUANTIZATION_FIELDS = ("quant_method", "bits", "w_bit", "kv_cache_quant_algo", "num_bits")
PRESENT = frozenset(("vision_config", "ssm_cfg"))

LAYER = re.compile(r"(?:language_model\.)?model\.layers\.(\d{1,9})\.")


class Unusable(Exception):
    """Why a file or directory tells nothing: one line."""


def regular_file(path: str) -> int:
    """The size of a file; anything that is not one could block for ever."""
    try:
        found = os.stat(path)  # noqa: PTH116 - names come from os.scandir
    except OSError as error:
        raise Unusable(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise Unusable(f"{path}: is no regular file")
    return found.st_size


def read_json(path: str, limit: int, start: int = 0, length: int | None = None) -> Any:
    size = regular_file(path) if length is None else length
    if size > limit:
        raise Unusable(f"{path}: has {size} bytes and may have {limit}")
    try:
        with Path(path).open("rb") as file:
            file.seek(start)
            text = file.read(size)
        if len(text) < size:
            raise Unusable(f"{path}: is cut off")
        return json.loads(text.decode("utf-8-sig"), object_pairs_hook=unique)
    except OSError as error:
        raise Unusable(f"{path}: {error.strerror}") from None
    except RecursionError:
        raise Unusable(f"{path}: nested too deeply") from None
    except ValueError:  # not UTF-8, not JSON, a name that is set twice, an integer of thousands of digits
        raise Unusable(f"{path}: is not usable JSON") from None


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError
    return result


def trimmed(config: dict[str, Any], inner: bool = True) -> dict[str, Any]:
    """The fields of a config.json that decide about memory, cut to a size that can be printed."""
    result: dict[str, Any] = {}
    for key, value in config.items():
        if len(result) == KEYS_MAX or len(key) > 64:
            continue
        if isinstance(value, (int, float, str, type(None))):
            result[key] = short(value)
        elif key in LISTS and isinstance(value, list):
            result[key] = [short(item) for item in value[:LIST_MAX]]
        elif key in ROPE and isinstance(value, dict):
            result[key] = {name: short(value[name]) for name in ROPE_FIELDS if name in value}
        elif key in QUANTIZATION and isinstance(value, dict):
            result[key] = quantization(value)
        elif key in PRESENT and isinstance(value, dict):
            result[key] = {}
        elif key in CONFIGS and isinstance(value, dict) and inner:
            result[key] = trimmed(value, inner=False)
    return result


def quantization(config: dict[str, Any], depth: int = 3) -> dict[str, Any]:
    result = {name: short(config[name]) for name in QUANTIZATION_FIELDS if name in config}
    for name in ("quantization", "kv_cache_scheme"):
        if isinstance(config.get(name), dict) and depth:
            result[name] = quantization(config[name], depth - 1)
    return result


def short(value: Any) -> Any:
    if isinstance(value, str):
        return value[:TEXT_MAX]
    if isinstance(value, int) and abs(value) > 2**63:
        return 2**63
    return value if isinstance(value, (int, float, type(None))) else None


def header(path: str, parsed_bytes: int) -> tuple[int, dict[str, tuple[str, int]]]:
    """Bytes of the tensors in a safetensors file, and dtype and size of each; none of these above ``parsed_bytes``.

    https://huggingface.co/docs/safetensors/index#format: the length of the header in eight bytes, the header in JSON,
    then the tensors without gaps.
    """
    size = regular_file(path)
    try:
        with Path(path).open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
    except OSError as error:
        raise Unusable(f"{path}: {error.strerror}") from None
    data = size - 8 - length
    if size < 8 or (length <= HEADER_MAX_BYTES and data < 0):
        raise Unusable(f"{path}: is cut off")
    if length > HEADER_MAX_BYTES:
        raise Unusable(f"{path}: is no safetensors file")
    if length > parsed_bytes:
        return data, {}
    found = read_json(path, parsed_bytes, start=8, length=length)
    tensors, spans = {}, []
    for name, entry in found.items() if isinstance(found, dict) else ():
        if name != "__metadata__":
            dtype, begin, end = tensor(entry, path)
            tensors[name] = (dtype, end - begin)
            spans.append((begin, end))
    at = 0
    for begin, end in sorted(spans):
        if begin != at:
            raise Unusable(f"{path}: its tensors overlap or leave gaps")
        at = end
    if at != data:
        raise Unusable(f"{path}: is cut off" if at > data else f"{path}: its header is not that of its tensors")
    return data, tensors


def tensor(entry: Any, path: str) -> tuple[str, int, int]:
    if isinstance(entry, dict):
        dtype, offsets = entry.get("dtype"), entry.get("data_offsets")
        if isinstance(dtype, str) and len(dtype) <= 16 and isinstance(offsets, list) and len(offsets) == 2:
            begin, end = offsets
            if type(begin) is int and type(end) is int and 0 <= begin <= end < 2**63:
                return dtype, begin, end
    raise Unusable(f"{path}: has a tensor without dtype and offsets")


def names(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            found = [entry.name for entry in itertools.islice(entries, ENTRIES_MAX + 1)]
    except OSError as error:
        raise Unusable(f"{directory}: {error.strerror}") from None
    if len(found) > ENTRIES_MAX:
        raise Unusable(f"{directory}: has more than {ENTRIES_MAX} files: that is no model")
    return sorted(found)


def weights(directory: str, layers: Any) -> dict[str, Any]:
    """Sizes of the weights in a model's directory; ``layers``: how many the config says it has."""
    there = names(directory)
    safetensors = [name for name in there if name.endswith(".safetensors")]
    if "model.safetensors.index.json" in there:
        index = read_json(f"{directory}/model.safetensors.index.json", INDEX_MAX_BYTES)
        listed = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
            raise Unusable(f"{directory}/model.safetensors.index.json: has no weight_map")
        wanted = sorted(set(listed.values()))
        if set(wanted) - set(there):
            return of_index(index, directory, len(set(wanted) - set(there)), len(wanted))
        safetensors = wanted
    elif any(not name.startswith("consolidated") for name in safetensors):
        safetensors = [name for name in safetensors if not name.startswith("consolidated")]
    if safetensors:
        return of_safetensors(directory, safetensors, layers)
    for kind, pattern in (("pytorch", r"pytorch_model.*\.bin|.*\.pth?"), ("gguf", r".*\.gguf")):
        files = [name for name in there if re.fullmatch(pattern, name)]
        if files:
            total = sum(regular_file(f"{directory}/{name}") for name in files[:FILES_MAX])
            return {"total": total, "by_dtype": {}, "unused": 0, "format": kind}
    raise Unusable(f"{directory}: has no weights (*.safetensors, pytorch_model*.bin, *.gguf)")


def of_index(index: dict[str, Any], directory: str, missing: int, files: int) -> dict[str, Any]:
    """The size that the index names, while its files are still being downloaded."""
    metadata = index.get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    if not isinstance(total, (int, float)) or isinstance(total, bool) or not 0 < total < 2**50:
        raise Unusable(f"{directory}: {missing} of {files} files of weights are not there")
    return {"total": int(total), "by_dtype": {}, "unused": 0, "format": "safetensors"}


def of_safetensors(directory: str, files: list[str], layers: Any) -> dict[str, Any]:
    if len(files) > FILES_MAX:
        raise Unusable(f"{directory}: has {len(files)} files of weights and may have {FILES_MAX}")
    total, unused, left = 0, 0, 4 * HEADER_PARSED_BYTES
    by_dtype: dict[str, int] = {}
    is_complete = True
    for name in files:
        if "/" in name:
            raise Unusable(f"{directory}: its index names a file elsewhere")
        data, tensors = header(f"{directory}/{name}", parsed_bytes=min(left, HEADER_PARSED_BYTES))
        left -= sum(len(tensor_name) + 80 for tensor_name in tensors)  # about what their part of the header takes
        total += data
        is_complete = is_complete and (bool(tensors) or not data)
        for tensor_name, (dtype, size) in tensors.items():
            by_dtype[dtype] = by_dtype.get(dtype, 0) + size
            match = LAYER.match(tensor_name)
            if match and type(layers) is int and int(match.group(1)) >= layers:
                unused += size
    if not total:
        raise Unusable(f"{directory}: its files of weights are empty")
    return {"total": total, "by_dtype": by_dtype if is_complete else {}, "unused": unused, "format": "safetensors"}


def snapshot(weights_dir: str, hub_id: str) -> str:
    """The directory of a model in the hub's cache: the revision of its main branch, else the newest."""
    model = f"{weights_dir}/hub/models--{hub_id.replace('/', '--')}"
    try:
        revisions = names(f"{model}/snapshots")
    except Unusable:
        raise Unusable(f"{hub_id}: is not on this host") from None
    try:
        main = Path(model, "refs", "main").read_bytes()[:100].decode("ascii", "replace").strip()
    except OSError:
        main = ""
    if main in revisions:
        return f"{model}/snapshots/{main}"
    if not revisions:
        raise Unusable(f"{hub_id}: is not on this host")
    return max((f"{model}/snapshots/{name}" for name in revisions), key=lambda path: os.stat(path).st_mtime)  # noqa: PTH116


def look(source: str, weights_dir: str) -> dict[str, Any]:
    result: dict[str, Any] = {"path": None, "config": None, "weights": None, "reasons": []}
    try:
        path = source if source.startswith("/") else snapshot(weights_dir, source)
        if not Path(path).exists():
            raise Unusable(f"{path}: is not on this host")
    except (Unusable, OSError) as error:
        result["reasons"].append(line(error))
        return result
    result["path"] = path
    if path.endswith(".gguf"):
        add(result, "weights", lambda: {"total": regular_file(path), "by_dtype": {}, "unused": 0, "format": "gguf"})
        return result
    add(result, "config", lambda: config(f"{path}/config.json"))
    text = next((result["config"][key] for key in CONFIGS if key in (result["config"] or {})), result["config"] or {})
    add(result, "weights", lambda: weights(path, text.get("num_hidden_layers")))
    return result


def line(error: Exception) -> str:
    """A reason in one line: file names may hold anything."""
    return re.sub(r"[^ -~]", "?", str(error))[:TEXT_MAX]


def config(path: str) -> dict[str, Any]:
    found = read_json(path, CONFIG_MAX_BYTES)
    if not isinstance(found, dict):
        raise Unusable(f"{path}: is no JSON object")
    return trimmed(found)


def add(result: dict[str, Any], name: str, read: Any) -> None:
    try:
        result[name] = read()
    except (Unusable, OSError) as error:
        result["reasons"].append(line(error))


def main(weights_dir: str, sources: list[str]) -> None:
    print(json.dumps({source: look(source, weights_dir) for source in sources}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
