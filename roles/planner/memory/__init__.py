"""Whether a model fits its GPUs, computed as vLLM does."""
