"""What clients see: asked over TLS on each host with a gateway, with a key made for it, and from the desk."""

import json

import pytest

from roles.model_serving.model import Model
from tests.hosts import desk
from tests.hosts.questions import (
    API_KEYS,
    CERTIFICATE,
    ask_gateway,
    certificate_is_ours,
    gateway_address,
    gateway_url,
)
from tests.hosts.reach import CheckedHost, CheckedRack, expect, last_line

# A weekend: whoever renews certificates has failed for long when one is as near to its end.
CERTIFICATE_DAYS = 3


def test_running_gateway_knows_the_keys_of_the_files(gateway_host: CheckedHost) -> None:
    # First in this file: to make a key, as the others do, has the gateway told of all keys.
    result = gateway_host.run(f"{API_KEYS} check")
    expect(
        result.rc == 0,
        f"{gateway_host}: {last_line(result.stderr or result.stdout)}",
        f"on {gateway_host}: {API_KEYS} apply",
    )


def test_gateway_answers(gateway_host: CheckedHost) -> None:
    answer = ask_gateway(gateway_host, "/healthz", key=None)
    expect(
        answer.status == 200,
        f"{gateway_host}: {gateway_url(gateway_host)}/healthz answers {answer.status}: {answer.body[:200]}",
        f"on {gateway_host}: systemctl status rayrack-gateway; journalctl -u rayrack-gateway -n 50",
    )


def test_model_is_listed(gateway_host: CheckedHost, checked: CheckedRack, model: Model) -> None:
    path = f"{model.route_prefix}/models"
    answer = ask_gateway(gateway_host, path)
    expect(
        answer.status == 200,
        f"{gateway_host}: {gateway_url(gateway_host)}{path} answers {answer.status}: {answer.body[:200]}",
        f"on {gateway_host}: systemctl status rayrack-gateway",
    )
    listed = [entry["id"] for entry in answer.json()["data"]]
    expect(
        model.model_id in listed,
        f"{gateway_host}: {gateway_url(gateway_host)}{path} does not list {model.model_id}, "
        f"only: {', '.join(listed) or 'nothing'}",
        f"on {checked.head}: systemctl status rayrack-model@{model.slug}",
    )


def test_model_answers(gateway_host: CheckedHost, checked: CheckedRack, model: Model) -> None:
    body: dict[str, object] = {"model": model.model_id}
    if model.runner == "pooling":
        path = "embeddings"
        body |= {"input": "Hello"}
    else:
        path = "completions"
        body |= {"prompt": "Hello", "max_tokens": 1}
    url = f"{model.route_prefix}/{path}"
    answer = ask_gateway(gateway_host, url, body=body)
    expect(
        answer.status == 200,
        f"{gateway_host}: {model.model_id} at {gateway_url(gateway_host)}{url} answers {answer.status}: "
        f"{answer.body[:200]}",
        f"on {checked.head}: systemctl status rayrack-model@{model.slug}; "
        f"journalctl -u rayrack-model@{model.slug} -n 50",
    )


@pytest.mark.parametrize("key", [None, "wrong"], ids=["no key", "wrong key"])
def test_gateway_is_closed_to_those_without_a_key(gateway_host: CheckedHost, key: str | None) -> None:
    for path, body in (("/v1/models", None), ("/v1/completions", {"model": "x", "prompt": "x"}), ("/metrics", None)):
        answer = ask_gateway(gateway_host, path, key="wrong" if key else None, body=body)
        expect(
            answer.status == 401 and code_of(answer.body) == "invalid_api_key",
            f"{gateway_host}: {gateway_url(gateway_host)}{path} answers {answer.status} to a client with "
            f"{key or 'no key'}, must be 401 with the code invalid_api_key: {answer.body[:200]}",
            gateway_host.deploy_again,
        )


def code_of(body: str) -> str | None:
    """The code of an error in OpenAI's shape; None when it is none."""
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, LookupError, TypeError):
        return None


def test_gateway_speaks_tls_1_2_or_newer_only(gateway_host: CheckedHost) -> None:
    where = {"address": gateway_address(gateway_host), "port": gateway_host.rack_host.settings.gateway_port}
    heard = gateway_host.run_program("knock", json.dumps(where))
    expect(
        not heard["plain"],
        f"{gateway_host}: port {where['port']} answers plain HTTP: {heard['plain']}",
        gateway_host.deploy_again,
    )
    for version, outcome in heard["old_tls"].items():
        # Only its own alert tells that the gateway has refused, and not that nobody was there to do so.
        expect(
            "ALERT" in outcome,
            f"{gateway_host}: port {where['port']} does not refuse {version}: {outcome}",
            f"{gateway_host.deploy_again}; systemctl status rayrack-gateway",
        )


def test_certificate_does_not_end_soon(gateway_host: CheckedHost) -> None:
    command = f"openssl x509 -in %s -noout -enddate -checkend {CERTIFICATE_DAYS * 24 * 3600}"
    result = gateway_host.run(command, CERTIFICATE)
    ends = result.stdout.partition("\n")[0].removeprefix("notAfter=") or last_line(result.stderr)
    expect(
        result.rc == 0,
        f"{gateway_host}: the certificate {CERTIFICATE} ends in less than {CERTIFICATE_DAYS} days: {ends}",
        gateway_host.deploy_again
        if certificate_is_ours(gateway_host)
        else f"renew it, and on {gateway_host}: systemctl reload rayrack-gateway",
    )


def test_clients_get_in_from_the_desk(gateway_host: CheckedHost) -> None:
    address, port = desk.address_of(gateway_host), gateway_host.rack_host.settings.gateway_port
    why, detour = desk.not_reached(address, port), desk.detour(gateway_host)
    if why and detour:
        pytest.skip(f"the desk does not reach {address} port {port} ({why}; {detour}): asked on {gateway_host} alone")
    expect(
        not why,
        f"{gateway_host}: {address} port {port} is not reached from the desk, where SSH is: {why}",
        f"look at what filters between: on {gateway_host}: nft list ruleset",
    )
    journal = f"on {gateway_host}: systemctl status rayrack-gateway; journalctl -u rayrack-gateway -n 50"
    stranger = desk.ask(gateway_host, address, "/v1/models", key=None)
    expect(
        stranger.status == 401,
        f"{gateway_host}: https://{address}:{port}/v1/models answers {stranger.status} to a client on the desk without "
        f"a key, must be 401: {stranger.body[:200]}",
        journal,
    )
    with desk.key_on(gateway_host) as key:
        answer = desk.ask(gateway_host, address, "/v1/models", key=key)
    expect(
        answer.status in (200, 404),
        f"{gateway_host}: https://{address}:{port}/v1/models answers {answer.status} to a client on the desk with a "
        f"key: {answer.body[:200]}",
        journal,
    )
