"""Well-known models as small files: the fields of their config that decide about memory, and what is published of them.

Fields and `weights_bytes` are those of config.json and model.safetensors.index.json of the named model on the hub. The
files were not read there: every number was found in a public repository, which the file's `source` names where a name
is known; `kv_source` says it of the KV cache. Where nobody quotes the index, `weights_bytes` is the published number of
weights times their size, or the size of the files (`note`). Fields without a source are left out.

Starts are from public logs, `overhead_gib` is peak activation and what PyTorch does not count:

- 0.31: notes on `vllm/vllm-openai:v0.31.0-ubuntu2404` on one A100, with its log
- 0.27: "Running a single LLM across two GPUs with vLLM", with its log (0.27.1); overhead by subtraction
- 0.19: llm-d-incubation/llm-d-planner, docs/accuracy/vllm-v0.19.0-accuracy-report.md (H100s of 79.19 GiB); of
  Gemma 2 and gpt-oss the logs in accuracy/results/v0.19.0/logs
- 0.11: llm-d/llm-d-benchmark, config_explorer/empirical-vllm-memory-results.md (H100s of 79.18 GiB), and its later
  edition, with tensor parallelism and the image's version, in llm-d-incubation/llm-d-planner, docs
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from roles.errors import InputError
from roles.planner.memory import model_config
from roles.planner.memory.model_config import ModelShape

T = TypeVar("T")
HERE = Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in (HERE / "models").glob("*.json")))


@dataclass(frozen=True)
class Published:
    """One well-known model."""

    hub_id: str
    config: dict[str, Any]
    weights_bytes: int
    kv_token_bytes: int | None
    """KV cache of one token on one GPU; None: nobody published it."""
    kv_source: str
    note: str

    @property
    def shape(self) -> ModelShape:
        return model_config.shape(self.config, self.hub_id)


@dataclass(frozen=True)
class Start:
    """What an engine reported when it started, in GiB."""

    model: Published
    vllm: str
    gpu_model: Any
    gpu_memory_gib: float
    fields: dict[str, Any]
    weights_gib: float
    overhead_gib: float
    kv_gib: float


def published(name: str) -> Published:
    found = json.loads((HERE / "models" / f"{name}.json").read_text())
    return Published(
        found["hub_id"],
        found["config"],
        found["weights_bytes"],
        found.get("kv_token_bytes"),
        found.get("kv_source", ""),
        found.get("note", ""),
    )


def starts() -> list[Start]:
    found = json.loads((HERE / "starts.json").read_text())
    return [Start(published(entry.pop("fixture")), **entry) for entry in found]


def or_one_line(call: Callable[[], T]) -> T | None:
    """What ``call`` returns; None when it refused its input, which it may only do with one line."""
    try:
        return call()
    except InputError as error:
        problems = error.problems
    (line,) = problems
    assert "\n" not in line
    return None
