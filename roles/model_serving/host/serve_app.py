"""A model's settings as a Ray Serve application, and what a change of them needs. Pure: standard library, no I/O.

The application is built by ``rayrack_application`` from exactly one LLMConfig. Serve (2.60) computes an application's
version from ``import_path``, ``runtime_env`` and ``args``: a change in them replaces the replicas, while the numbers
under ``deployments`` are applied in place. So each setting stands where its change needs it to stand.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Fields = Mapping[str, Any]

# What a change of a field needs. Together these are the fields of the model list.
IN_PLACE = ("min_replicas", "max_replicas", "target_ongoing_requests")
# Read when a unit starts or stops, by the gateway, or by the preflight alone: a running application does not have them.
NOT_IN_APPLICATION = ("route_prefix", "weights_gib", "start_timeout_s", "update")
IN_REPLICA = (
    "model_id",
    "model_source",
    "slug",
    "runner",
    "accelerator_type",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "gpu_memory_utilization",
    "share_gpu",
    "max_model_len",
    "dtype",
    "quantization",
    "enforce_eager",
    "env",
    "secrets",
    "engine_kwargs",
)
FIELDS = (*IN_REPLICA, *IN_PLACE, *NOT_IN_APPLICATION)

_WHOLE_NUMBERS = (
    "start_timeout_s",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "min_replicas",
    "max_replicas",
    "target_ongoing_requests",
)
_MAPPINGS = ("env", "secrets", "engine_kwargs")

# The generation changes the application's version, so that a restart replaces the replicas and a failed application
# is tried again: Serve ignores a config that it has seen.
GENERATION = "RAYRACK_GENERATION"
DIRECT_STREAMING = "RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING"
SECRETS = "RAYRACK_SECRETS"
# On every node. Holds the module that builds the application, and a sitecustomize.py, which Python runs before anything
# else: it reads the secrets' files into the environment.
ENGINE_ENVIRONMENT = "/opt/rayrack/lib/engine_environment"

# Ray Serve LLM's default is 1e9. Above this Serve queues, and no replica is given more; vLLM batches 256 at most.
MAX_ONGOING_REQUESTS = 1000
# Three failed checks in a row make Serve replace a replica. For an engine that died, whose checks fail at once, that is
# after 15 s; one that is only slow to answer, on an overloaded host, gets more time.
HEALTH_CHECK_PERIOD_S = 5
HEALTH_CHECK_TIMEOUT_S = 30
# How long a replica that is being removed may go on with the requests it has.
DRAIN_LIMIT_S = 120
# A resource of nodes with the runtime `cpu`, 1 each, asked for as Ray asks for an accelerator's type: the engine of the
# runtime `cuda` finds no device to run on where Ray gives it no GPU. `node_config` has the same name.
RUNTIME_CPU = "rayrack_runtime_cpu"
# What models that share a GPU may take of its memory together, as in the model list.
SHARED_GPU_MEMORY = 0.95


class SettingsError(Exception):
    """The settings of a model on this host are wrong: one line that says what, where and what to do."""


@dataclass(frozen=True)
class Change:
    """What it takes to get from one set of fields to another, and the fields that need it."""

    kind: Literal["unchanged", "reload", "restart", "start"]
    fields: tuple[str, ...] = ()


def fields_from(environ: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a model from ``RAYRACK_<FIELD>=<JSON>``, as its env file and override file set them."""
    fields = {}
    for name in FIELDS:
        variable = f"RAYRACK_{name.upper()}"
        if variable not in environ:
            raise SettingsError(f"{variable} is missing in the model's env file: deploy again")
        try:
            value = json.loads(environ[variable])
        except ValueError:
            raise SettingsError(
                f"{variable}: not JSON: {environ[variable][:60]} (text needs double quotes inside the single ones)"
            ) from None
        _check_type(name, value)
        fields[name] = value
    return fields


def _check_type(name: str, value: object) -> None:
    """An override file is written by hand; a wrong type in it should not end as a traceback from Ray."""
    wanted = None
    if name in _WHOLE_NUMBERS and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        wanted = "a whole number of at least 1"
    elif name in _MAPPINGS and not isinstance(value, dict):
        wanted = "a JSON object"
    if wanted:
        raise SettingsError(f"RAYRACK_{name.upper()}: must be {wanted}, not {json.dumps(value)[:60]}")


def change(old: Fields, new: Fields) -> Change:
    """What applying ``new`` takes where ``old`` is running."""
    found = different(old, new)
    restart = tuple(name for name in found if name in IN_REPLICA)
    if restart:
        return Change("restart", restart)
    reload = tuple(name for name in found if name in IN_PLACE)
    return Change("reload", reload) if reload else Change("unchanged")


def different(old: Fields, new: Fields) -> tuple[str, ...]:
    """The fields whose JSON differs. For Python ``true`` is ``1``; an argument of vLLM's may tell them apart."""

    def text(value: object) -> str:
        return json.dumps(value, sort_keys=True)

    return tuple(name for name in FIELDS if text(old.get(name)) != text(new.get(name)))


def needed(active: str, applied: Fields | None, wanted: Fields | None) -> Change:
    """What makes a model's unit run with ``wanted``; the planner asks this before a run, the run's own step in it.

    ``active`` is systemd's ActiveState; ``applied`` the fields it was started with, None where nothing tells them;
    ``wanted`` is None where its files are wrong.
    """
    if active not in ("active", "activating", "reloading"):
        return Change("start")
    if wanted is None:
        return Change("restart")  # and it will say what is wrong with them
    if applied is None:
        return Change("restart" if active == "active" else "unchanged")
    found = change(applied, wanted)
    # A start under way cannot be reloaded, only begun anew.
    return Change("restart", found.fields) if found.kind == "reload" and active != "active" else found


def application_name(slug: str) -> str:
    return f"m-{slug}"


def route(slug: str) -> str:
    """The path prefix of the model on Serve's own port."""
    return f"/m/{slug}"


def server_deployment(slug: str) -> str:
    """The deployment whose replicas are the engines: the builder puts this prefix before the given name."""
    return f"LLMServer:{slug}"


def application(fields: Fields, *, generation: str, cache_dir: str) -> dict[str, Any]:
    """One entry of ``applications`` in Serve's declarative config. ``cache_dir`` is the same on every node."""
    return {
        "name": application_name(fields["slug"]),
        "route_prefix": route(fields["slug"]),
        "import_path": "rayrack_application:build",
        "runtime_env": {"env_vars": {DIRECT_STREAMING: "1", GENERATION: generation, "PYTHONPATH": ENGINE_ENVIRONMENT}},
        "args": {"llm_configs": [_llm_config(fields, cache_dir)]},
        "deployments": _deployments(fields),
    }


def generation_of(app: Mapping[str, Any]) -> str | None:
    """The generation of an application's config, or None when it is not one of ours."""
    value = app.get("runtime_env", {}).get("env_vars", {}).get(GENERATION)
    return value if isinstance(value, str) else None


def same_replicas(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two configs differ at most in what is applied in place and in their generation."""

    def core(app: Mapping[str, Any]) -> dict[str, Any]:
        runtime_env = dict(app.get("runtime_env", {}))
        env_vars = {k: v for k, v in runtime_env.get("env_vars", {}).items() if k != GENERATION}
        kept = {key: app.get(key) for key in ("name", "route_prefix", "import_path", "args")}
        return {**kept, "runtime_env": {**runtime_env, "env_vars": env_vars}}

    return core(one) == core(other)


def _llm_config(fields: Fields, cache_dir: str) -> dict[str, Any]:
    config: dict[str, Any] = {
        "model_loading_config": {"model_id": fields["model_id"], "model_source": fields["model_source"]},
        "engine_kwargs": _engine_kwargs(fields),
        "runtime_env": {"env_vars": _environment(fields, cache_dir)},
        "placement_group_config": {"bundle_per_worker": _worker_bundle(fields), "strategy": _strategy(fields)},
        "deployment_config": {
            "name": fields["slug"],
            "health_check_period_s": HEALTH_CHECK_PERIOD_S,
            "health_check_timeout_s": HEALTH_CHECK_TIMEOUT_S,
            "graceful_shutdown_timeout_s": DRAIN_LIMIT_S,
        },
    }
    if fields["accelerator_type"] == "cpu":
        config["accelerator_config"] = {"kind": "cpu"}
    elif fields["accelerator_type"] is not None:
        config["accelerator_type"] = fields["accelerator_type"]
    return config


def _engine_kwargs(fields: Fields) -> dict[str, Any]:
    """LLMConfig forbids fields of its own for these: they are arguments of vLLM's engine."""
    kwargs: dict[str, Any] = {
        name: fields[name]
        for name in ("runner", "tensor_parallel_size", "pipeline_parallel_size", "dtype", "enforce_eager")
    }
    kwargs |= {name: fields[name] for name in ("max_model_len", "quantization") if fields[name] is not None}
    if fields["accelerator_type"] != "cpu":
        kwargs["gpu_memory_utilization"] = fields["gpu_memory_utilization"]
    return {**kwargs, **fields["engine_kwargs"]}


def _environment(fields: Fields, cache_dir: str) -> dict[str, str]:
    """The environment of the replicas and their engines. Serve's REST API shows it: names of secrets' files only."""
    cache = f"{cache_dir}/{fields['slug']}"
    environment = {
        "VLLM_CACHE_ROOT": f"{cache}/vllm",
        "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor",
        "TRITON_CACHE_DIR": f"{cache}/triton",
        "FLASHINFER_WORKSPACE_BASE": f"{cache}/flashinfer",
        "CUDA_CACHE_PATH": f"{cache}/cuda",
        **fields["env"],
    }
    if fields["secrets"]:
        environment[SECRETS] = json.dumps(fields["secrets"], sort_keys=True)
        own_path = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{ENGINE_ENVIRONMENT}:{own_path}" if own_path else ENGINE_ENVIRONMENT
    return environment


def _worker_bundle(fields: Fields) -> dict[str, float]:
    """What one worker of the engine asks Ray for."""
    if fields["accelerator_type"] == "cpu":
        return {"CPU": 1, RUNTIME_CPU: 0.001}
    return {"GPU": gpu_share(fields["gpu_memory_utilization"]) if fields["share_gpu"] else 1}


def gpu_share(gpu_memory_utilization: float) -> float:
    """The part of a GPU to ask for; Ray counts in 1/10000 and cuts the rest off, as the model list's check does."""
    return math.floor(gpu_memory_utilization / SHARED_GPU_MEMORY * 10_000 + 1e-6) / 10_000


def _strategy(fields: Fields) -> str:
    """Tensor parallelism needs one host; Ray's default, PACK, would split a group over hosts that are short of GPUs."""
    return "STRICT_PACK" if fields["pipeline_parallel_size"] == 1 else "PACK"


def _deployments(fields: Fields) -> list[dict[str, Any]]:
    """What Serve applies in place."""
    target = fields["target_ongoing_requests"]
    return [
        {
            "name": server_deployment(fields["slug"]),
            "max_ongoing_requests": max(MAX_ONGOING_REQUESTS, 2 * target),
            "autoscaling_config": {
                "min_replicas": fields["min_replicas"],
                "max_replicas": fields["max_replicas"],
                "target_ongoing_requests": target,
            },
            "max_surge_percent": 100 if fields["update"] == "surge" else 0,
        }
    ]


@dataclass(frozen=True)
class Needs:
    """What one replica asks of Ray: ``bundles`` of resources, on one node when ``one_node``."""

    bundles: tuple[Mapping[str, float], ...]
    one_node: bool


def needs(fields: Fields) -> Needs:
    """As ray.serve.llm computes it: the replica's own CPU joins the first worker's bundle."""
    worker = _worker_bundle(fields)
    if fields["accelerator_type"] not in (None, "cpu"):
        worker[f"accelerator_type:{fields['accelerator_type']}"] = 0.001
    workers = fields["tensor_parallel_size"] * fields["pipeline_parallel_size"]
    first = {**worker, "CPU": worker.get("CPU", 0) + 1}
    return Needs(
        bundles=(first, *[dict(worker) for _ in range(workers - 1)]), one_node=_strategy(fields) == "STRICT_PACK"
    )
