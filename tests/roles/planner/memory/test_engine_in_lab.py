"""Weights and KV cache of vLLM's engine, started on this machine's CPUs, against what the plan computes."""

import hashlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from roles.model_serving.model import Model
from roles.planner.memory import check as memory
from roles.planner.memory import model_config
from tests.conftest import TEST_LAB
from tests.lab import tiny_models

REPOSITORY = Path(__file__).parents[4]
LOCK = REPOSITORY / "roles" / "serving_runtime" / "locks" / "cpu-linux-x86_64-py311.txt"
KWARGS = {"kv_cache_memory_bytes": 128 * 2**20, "max_num_batched_tokens": 256, "max_num_seqs": 16}
ONE_HEAD = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 512,
    "max_position_embeddings": 4096,
    "sliding_window": 128,
    "torch_dtype": "bfloat16",
    "rms_norm_eps": 1e-6,
}
# Layers of two kinds in groups of equal size; and layers that all have a window.
CONFIGS: dict[str, dict[str, Any]] = {
    "hybrid": {
        "architectures": ["Gemma2ForCausalLM"],
        "model_type": "gemma2",
        "num_hidden_layers": 6,
        "query_pre_attn_scalar": 64,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "hidden_activation": "gelu_pytorch_tanh",
        **ONE_HEAD,
    },
    "window": {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "num_hidden_layers": 5, **ONE_HEAD},
}

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def runtime() -> Path:
    """The Python of the runtime that hosts get, installed from the lab's wheelhouse."""
    directory = TEST_LAB.cache / "planner-runtime"
    stamp, digest = directory / ".lock", hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        uv = str(REPOSITORY / ".venv" / "bin" / "uv")
        links = ("--offline", "--no-index", "--find-links", str(TEST_LAB.cache / "wheelhouse"))
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", "3.11", str(directory)], check=True, timeout=60)
        command = [uv, "pip", "sync", "--quiet", "--python", str(directory), *links, "--require-hashes", str(LOCK)]
        subprocess.run(command, check=True, timeout=600)
        stamp.write_text(digest)
    return directory / "bin" / "python"


@pytest.mark.parametrize(
    ("name", "length"),
    [
        ("tiny-a", 1000),
        pytest.param("hybrid", 2000, marks=pytest.mark.long),
        pytest.param("window", 2000, marks=pytest.mark.long),
    ],
)
def test_an_engine_has_the_weights_and_room_for_as_many_tokens_as_the_plan_says(
    runtime: Path, tmp_path: Path, name: str, length: int
) -> None:
    directory = tmp_path / name
    directory.mkdir()
    arguments: dict[str, Any] = {"model": str(directory), "max_model_len": length, "dtype": "bfloat16", **KWARGS}
    if name in CONFIGS:
        (directory / "config.json").write_text(json.dumps(CONFIGS[name]))
        arguments |= {"load_format": "dummy", "skip_tokenizer_init": True}
    else:
        tiny_models.write(next(model for model in tiny_models.MODELS if model.name == name), directory)
    reported = start(runtime, {**arguments, "enforce_eager": True}, tmp_path)

    shape = model_config.read((directory / "config.json").read_bytes(), name)
    fields = {"accelerator_type": "cpu", "max_model_len": length, "engine_kwargs": KWARGS}
    planned = memory.check(Model.model_validate({"model_id": name, **fields}), shape, None, None)
    assert (planned.verdict, planned.kv_tokens) == ("fits", reported["tokens"])
    assert planned.contexts == int(reported["contexts"])
    assert planned.weights_bytes == reported["weights"]


def start(runtime: Path, arguments: dict[str, Any], directory: Path) -> dict[str, Any]:
    """What an engine with these arguments reports."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "VLLM_CACHE_ROOT": str(directory / "cache"),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
    }
    command = [str(runtime), str(Path(__file__).with_name("start_engine.py")), json.dumps(arguments)]
    result = subprocess.run(
        command,
        env=environment,
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    # vLLM puts the name of its process before what is printed there.
    told = re.findall(r"^(?:\(\w+ pid=\d+\) )?(\{.*\})$", result.stdout, re.MULTILINE)
    assert len(told) == 2, result.stdout[-3000:]
    weights, cache = map(json.loads, told)
    return {**weights, **cache}
