"""HTTP questions asked on a host itself, so that nothing needs to be open to the operator's machine."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from tests.hosts.reach import CheckedHost, expect

TOKEN_FILE = "/etc/rayrack/secrets/ray.token"
CERTIFICATE = "/etc/rayrack/gateway/tls.pem"
OURS = "self-signed by the deploy"
API_KEYS = "/opt/rayrack/bin/api_keys"
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


def gateway_address(host: CheckedHost) -> str:
    """Where a host reaches its own gateway."""
    bind = host.rack_host.settings.gateway_bind
    return {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)


def gateway_url(host: CheckedHost) -> str:
    """The same as a URL, without a path."""
    address = gateway_address(host)
    bracketed = f"[{address}]" if ":" in address else address
    return f"https://{bracketed}:{host.rack_host.settings.gateway_port}"


@cache
def certificate_is_ours(host: CheckedHost) -> bool:
    """Whether the gateway's certificate is one that a deploy made on the host, self-signed, and not an operator's."""
    return OURS in host.run("openssl x509 -in %s -noout -issuer", CERTIFICATE).stdout


def ask_gateway(
    host: CheckedHost, path: str, *, key: Literal["made", "wrong"] | None = "made", body: object = None
) -> Answer:
    """One request to the host's own gateway, as programs/ask_gateway.py makes it."""
    wanted = {"url": gateway_url(host), "path": path, "timeout_s": LIMIT_S, "key": key, "body": body}
    return Answer(**host.run_program("ask_gateway", json.dumps(wanted)))
