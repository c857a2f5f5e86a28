"""The same model in a plain vLLM API server on a lab host, with the arguments that rayrack's replica was given."""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from roles.model_serving.model import Model
from tests.hosts.questions import ask_ray, node_ip
from tests.hosts.reach import CheckedHost, CheckedRack, expect

UNIT = "plain-vllm-bench.service"
PORT = 8199
PYTHON = "/opt/rayrack/current/bin/python"


@dataclass(frozen=True)
class Replica:
    """Where rayrack runs a model, and with what."""

    host: CheckedHost
    address: str
    model_source: str
    engine_kwargs: dict[str, Any]
    env: dict[str, str]


def replica_of(checked: CheckedRack, model: Model) -> Replica:
    """The one replica of a model, as Ray Serve tells it."""
    application = ask_ray(checked.head, "/api/serve/applications/")["applications"].get(f"m-{model.slug}")
    expect(
        bool(application),
        f"{model.model_id} is not served",
        f"on {checked.head}: systemctl status rayrack-model@{model.slug}",
    )
    config = application["deployed_app_config"]["args"]["llm_configs"][0]
    addresses = [
        replica["node_ip"]
        for name, deployment in application["deployments"].items()
        if name.startswith("LLMServer")
        for replica in deployment["replicas"]
    ]
    expect(len(addresses) == 1, f"{model.model_id} has {len(addresses)} replicas", "measure a model with one replica")
    return Replica(
        next(host for host in checked.hosts if node_ip(host) == addresses[0]),
        addresses[0],
        config["model_loading_config"]["model_source"],
        config["engine_kwargs"],
        config.get("runtime_env", {}).get("env_vars", {}),
    )


def flags(engine_kwargs: dict[str, Any]) -> list[str]:
    """vLLM's engine arguments as its command line takes them: ``enforce_eager: true`` is ``--enforce-eager``."""
    arguments = []
    for name, value in engine_kwargs.items():
        flag = name.replace("_", "-")
        if value is None:
            continue
        if isinstance(value, bool):
            arguments.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            arguments += [f"--{flag}", text]
    return arguments


@contextmanager
def plain_server(replica: Replica, model: Model) -> Iterator[None]:
    """Start the server on the replica's host, as the same user, without waiting for it; stop it at the end."""
    environment = [f"--setenv={name}={value}" for name, value in sorted(replica.env.items())]
    server = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", replica.model_source]
    server += ["--served-model-name", model.model_id, "--host", replica.address, "--port", str(PORT)]
    command = ["systemd-run", "--collect", "--quiet", f"--unit={UNIT}", "--property=User=rayrack", *environment]
    started = replica.host.run(shlex.join([*command, *server, *flags(replica.engine_kwargs)]))
    expect(started.rc == 0, f"{replica.host}: {started.stderr.strip()}", f"on {replica.host}: systemctl stop {UNIT}")
    try:
        yield
    finally:
        replica.host.run("systemctl stop %s", UNIT)


def expect_alive(replica: Replica) -> None:
    """Fail at once, with its reason, when the server has ended."""
    if replica.host.run("systemctl is-active --quiet %s", UNIT).rc != 0:
        journal = f"journalctl -u {UNIT} -n 300 -o cat --no-pager | grep Error: | head -n 1"
        reason = replica.host.run(journal).stdout.strip() or "it does not say why"
        expect(False, f"the plain vLLM server ended: {reason}", f"on {replica.host}: journalctl -u {UNIT}")
