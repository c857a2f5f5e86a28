"""The serving runtime of a host: Ray, vLLM and PyTorch in a virtual environment made from a hash-pinned lock."""
