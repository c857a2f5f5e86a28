"""Starts vLLM's engine and prints what it says about its KV cache: start_engine.py ARGUMENTS_AS_JSON.

Run by the Python of a runtime, which has vLLM. It is a file, and its work is in main(), because the engine starts its
processes from it again.
"""

import json
import sys


def main() -> None:
    from vllm import LLM

    cache = LLM(**json.loads(sys.argv[1])).llm_engine.vllm_config.cache_config
    print(json.dumps({"tokens": cache.kv_cache_size_tokens, "contexts": cache.kv_cache_max_concurrency}))


if __name__ == "__main__":
    main()
