"""What the deploy asks a gateway's host, with the real gateway."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import check_gateway
import gateway_client
import gateway_keys

from tests.roles.gateway.running import until
from tests.roles.verification.host.conftest import GatewayHost

BOTH = [("tiny-a", "/v1", "tiny-a"), ("org-big", "/team-a", "Org/Big")]


def client_of(host: GatewayHost) -> gateway_client.Gateway:
    return gateway_client.Gateway(host.url, host.certificate)


def look(host: GatewayHost, *prefixes: str) -> dict[str, Any]:
    return check_gateway.look(client_of(host), prefixes, host.api_keys, host.key_files[0].parent)


def wait(host: GatewayHost, limit_s: float, models: Sequence[tuple[str, str, str]]) -> list[str]:
    return check_gateway.wait(client_of(host), limit_s, models, host.api_keys)


def test_it_tells_what_clients_see(gateway_host: GatewayHost) -> None:
    found = look(gateway_host, "/team-a", "/v1")
    assert found == {"listed": {"/team-a": ["Org/Big"], "/v1": ["tiny-a"]}, "problem": "", "keys": 0}


def test_it_counts_the_keys_of_clients_and_not_its_own(gateway_host: GatewayHost) -> None:
    declared, _ = gateway_host.key_files
    declared.write_text(f"{64 * 'a'} ci|9999999999|0|*\n{64 * 'b'} old|1000|0|*\n")
    gateway_host.running.api_keys("make", "somebody")
    gateway_host.running.api_keys("make", "verify-of-another-run", "--expires-in", "15m")
    assert look(gateway_host, "/v1")["keys"] == 2


def test_a_host_without_keys_files_has_no_keys(tmp_path: Path) -> None:
    assert check_gateway.client_keys(gateway_keys.KeyFiles(tmp_path), time.time()) == 0


def test_a_file_of_keys_that_cannot_be_read_is_told(gateway_host: GatewayHost) -> None:
    gateway_host.key_files[0].write_text("nonsense\n")
    assert "declared.map:1: not a line of an API key" in look(gateway_host, "/v1")["problem"]


def test_a_gateway_that_does_not_answer_lists_nothing_and_says_why(gateway_host: GatewayHost) -> None:
    gateway_host.running.process.terminate()
    gateway_host.running.process.wait(10)
    found = look(gateway_host, "/v1")
    assert found["listed"] == {}
    assert "ConnectionRefusedError" in found["problem"]


def test_what_is_listed_is_not_waited_for(gateway_host: GatewayHost) -> None:
    assert wait(gateway_host, 10, BOTH) == []


def test_a_model_that_comes_up_is_waited_for(gateway_host: GatewayHost) -> None:
    gateway_host.serve.healthy.discard("org-big")
    until(lambda: not look(gateway_host, "/team-a")["listed"]["/team-a"], "the model is off the list", within_s=20)
    (problem,) = wait(gateway_host, 0.5, BOTH)
    assert problem == ("org-big: not listed by the gateway on /team-a within 0.5 s: see journalctl -u rayrack-gateway")
    gateway_host.serve.healthy.add("org-big")
    assert wait(gateway_host, 20, BOTH) == []


def test_a_prefix_without_models_is_told_with_what_the_gateway_says(gateway_host: GatewayHost) -> None:
    (problem,) = wait(gateway_host, 0.1, [("x", "/nowhere", "x")])
    assert problem.startswith("x: not listed by the gateway on /nowhere within 0.1 s (/nowhere/models answers 404: {")
