"""What a single value of the model list may be. Each function says what is wrong with a value, or None."""

import re

from roles.model_serving import slug as slugs

MODEL_ID_MAX = 128
MODEL_ID_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*"
ROUTE_PREFIX_PATTERN = r"(?:/[A-Za-z0-9][A-Za-z0-9._-]*)+"
MODEL_SOURCE_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)?|(?:/|s3://|gs://)[!-~]+"

# `/m` is Serve's side of the gateway, `/-` and `/healthz` are answered by Serve and the gateway themselves.
RESERVED_PREFIXES = ("/m", "/-", "/healthz")
# First segments of the OpenAI paths below a prefix: `/v1/models/x` as a prefix would be the model `x` of `/v1`.
_API_SEGMENTS = frozenset({"models", "chat", "completions", "embeddings", "responses"})

_SECRET_SUFFIXES = ("TOKEN", "KEY", "SECRET")
_RESERVED_ENV = {
    "RAY_ADDRESS": "the unit decides which Ray cluster serves",
    "CUDA_VISIBLE_DEVICES": "Ray sets it to the GPUs it gave the replica",
}
_RESERVED_ENV_PREFIXES = {
    "RAYRACK_": "the units' own settings have these names",
    "RAY_AUTH_": "the units set Ray's authentication",
}

# vLLM's arguments that another field of the list stands for, where the names differ.
_ENGINE_ARGUMENT_FIELDS = {
    "model": "`model_source`",
    "served_model_name": "`model_id`",
    "hf_token": "`secrets`, as HF_TOKEN",
    # ray.serve.llm asks Ray for tensor * pipeline GPUs only.
    "data_parallel_size": "`min_replicas` and `max_replicas`",
}


def model_id(value: str) -> str | None:
    # ':' would be safe everywhere but in Ray: ray.serve.llm takes what follows it for the name of a LoRA adapter.
    if len(value) <= MODEL_ID_MAX and re.fullmatch(MODEL_ID_PATTERN, value):
        return None
    return (
        f"must be 1 to {MODEL_ID_MAX} of A-Z, a-z, 0-9, '.', '_', '-' and single '/', each part beginning with a "
        "letter or digit: it stands in URLs and in HAProxy's map of models"
    )


def model_source(value: str) -> str | None:
    if len(value) > 1024 or not re.fullmatch(MODEL_SOURCE_PATTERN, value):
        return (
            "must be a hub id (name or owner/name), an absolute path on the host, s3://... or gs://..., without spaces"
        )
    if value.startswith("/") and ".." in value.split("/"):
        return "must be a path without '..'"
    return None


def route_prefix(value: str) -> str | None:
    if len(value) > 64 or not re.fullmatch(ROUTE_PREFIX_PATTERN, value):
        return (
            "must begin with '/', must not end with it, and consist of A-Z, a-z, 0-9, '.', '_' and '-', each part "
            "beginning with a letter or digit; at most 64 characters (`/v1`, `/team-a`)"
        )
    first, *rest = value[1:].split("/")
    if f"/{first}" in RESERVED_PREFIXES:
        return f"/{first} is reserved; take another prefix"
    taken = _API_SEGMENTS.intersection((first, *rest))
    if taken:
        return f"must not contain /{min(taken)}: that is a path of the OpenAI API"
    return None


def slug(value: str) -> str | None:
    return slugs.problem(value)


def env_name(name: str) -> str | None:
    """Why ``name`` cannot be set for a model at all, in `env` or in `secrets`."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        return "is not a name of an environment variable (letters, digits and '_', no digit first)"
    if name in _RESERVED_ENV:
        return f"must not be set: {_RESERVED_ENV[name]}"
    for prefix, reason in _RESERVED_ENV_PREFIXES.items():
        if name.startswith(prefix):
            return f"must not be set: {reason}"
    return None


def plain_env_name(name: str) -> str | None:
    """Why ``name`` cannot stand in `env`, whose values everybody can read who may ask Serve for its config."""
    if name.upper().endswith(_SECRET_SUFFIXES):
        return "looks like a secret, and Serve's REST API shows `env`: put the value in a file and name it in `secrets`"
    return env_name(name)


def secret_file(value: str) -> str | None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", value):
        return "must be the name of a file in /etc/rayrack/secrets: letters, digits, '.', '_' and '-', no '/'"
    if value == "ray.token":
        return "must not be ray.token: that one opens the whole cluster"
    return None


def engine_argument(name: str, fields: frozenset[str]) -> str | None:
    """Why ``name`` cannot stand in `engine_kwargs`; ``fields`` are the fields of the list."""
    if name in fields:
        return "is a field of the list: set it beside engine_kwargs, not in it"
    if name in _ENGINE_ARGUMENT_FIELDS:
        return f"must not be set here: use {_ENGINE_ARGUMENT_FIELDS[name]}"
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", name):
        return "is not an argument of vLLM's engine: they are lower case with underscores (`max_num_seqs`)"
    return None
