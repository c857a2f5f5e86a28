"""HTTP questions asked on a host itself, so that nothing needs to be open to the operator's machine."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.hosts.reach import CheckedHost, expect

TOKEN_FILE = "/etc/rayrack/secrets/ray.token"
# A model that has not been asked for a while may take some seconds; a dead one must not hold the checks up for long.
LIMIT_S = 60


@dataclass(frozen=True)
class Answer:
    """Status 0: nobody answered, and ``body`` says why."""

    status: int
    body: str

    def json(self) -> Any:
        return json.loads(self.body)


def ask(host: CheckedHost, url: str, **more: object) -> Answer:
    """One request from ``host`` to ``url``; ``more`` is what programs/ask.py takes."""
    return Answer(**host.run_program("ask", json.dumps({"url": url, "timeout_s": LIMIT_S, **more})))


def ask_ray(head: CheckedHost, path: str) -> Any:
    """What Ray's dashboard answers on the head's loopback, with the token that only root can read there."""
    port = head.rack_host.settings.dashboard_port
    answer = ask(head, f"http://127.0.0.1:{port}{path}", token_file=TOKEN_FILE)
    expect(
        answer.status == 200,
        f"{head}: Ray's dashboard on port {port} answers {path} with {answer.status}: {answer.body[:200]}",
        f"on {head}: systemctl status rayrack-head",
    )
    return answer.json()


@cache
def node_ip(host: CheckedHost) -> str:
    """The address under which a deploy made the host a node of Ray's."""
    line = host.run("grep -m1 ^RAYRACK_NODE_IP= /etc/rayrack/ray.env").stdout.strip()
    expect(bool(line), f"{host}: /etc/rayrack/ray.env has no RAYRACK_NODE_IP", host.deploy_again)
    return str(json.loads(line.partition("=")[2].strip("'")))


def gateway_url(head: CheckedHost, path: str) -> str:
    """A URL of the gateway, as seen from the head."""
    settings = head.rack_host.settings
    address = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.gateway_bind, settings.gateway_bind)
    bracketed = f"[{address}]" if ":" in address else address
    return f"http://{bracketed}:{settings.gateway_port}{path}"
