"""Starts vLLM's engine and prints what it says about its weights and its KV cache: start_engine.py ARGUMENTS_AS_JSON.

Run by the Python of a runtime, which has vLLM. It is a file, and its work is in main(), because the engine starts its
processes from it again: what stands outside of main() runs in them, too.
"""

import json
import sys
from typing import Any

from vllm.model_executor.model_loader import base_loader

prepare = base_loader.process_weights_after_loading


def count_then_prepare(model: Any, *arguments: Any, **named: Any) -> Any:
    """On CPUs vLLM logs no size of the weights, and then packs them anew for its kernels: count what was loaded."""
    loaded = {tensor.data_ptr(): tensor.nbytes for tensor in model.parameters()}
    print(json.dumps({"weights": sum(loaded.values())}), flush=True)
    return prepare(model, *arguments, **named)


base_loader.process_weights_after_loading = count_then_prepare


def main() -> None:
    from vllm import LLM

    cache = LLM(**json.loads(sys.argv[1])).llm_engine.vllm_config.cache_config
    print(json.dumps({"tokens": cache.kv_cache_size_tokens, "contexts": cache.kv_cache_max_concurrency}))


if __name__ == "__main__":
    main()
