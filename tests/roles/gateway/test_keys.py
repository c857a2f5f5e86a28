"""API keys at the gateway: who gets in, to which models, and how often."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.roles.gateway.running import RunningGateway, until
from tests.roles.gateway.serve_side import ServeSide
from tests.roles.gateway.test_refusals import HOSTILE

HELLO: Any = [{"role": "user", "content": "hello"}]
CHAT = "/v1/chat/completions"


@pytest.fixture
def limited(gateway: RunningGateway) -> Iterator[str]:
    """A key for one model that is on two prefixes."""
    yield gateway.api_keys("make", "limited", "--models", "tiny-a,sick").strip()
    gateway.api_keys("revoke", "limited")


def test_the_official_client_raises_an_authentication_error(gateway: RunningGateway) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        gateway.client(key="rr-" + "x" * 43).chat.completions.create(model="tiny-a", messages=HELLO)
    assert (caught.value.status_code, caught.value.code, caught.value.type) == (
        401, "invalid_api_key", "invalid_request_error"
    )  # fmt: skip


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "{key}",
        "Basic {key}",
        "Bearer {key}x",
        "Bearer {key},{key}",
        "Bearer {hash}",
    ],
)
def test_whatever_is_not_a_key_is_refused(gateway: RunningGateway, serve: ServeSide, authorization: str) -> None:
    before = len(serve.requests)
    digest = next(iter(gateway.held_hashes()))
    headers = {"Authorization": authorization.format(key=gateway.key, hash=digest)}
    answer = gateway.ask("POST", CHAT, {"model": "tiny-a"}, headers)
    assert (answer.status, answer.code, answer.headers["www-authenticate"]) == (401, "invalid_api_key", "Bearer")
    assert len(serve.requests) == before


def test_a_key_in_another_place_is_none(gateway: RunningGateway) -> None:
    answer = gateway.ask(
        "GET", f"/v1/models?api_key={gateway.key}", headers={"Authorization": "", "X-Api-Key": gateway.key}
    )
    assert answer.status == 401


@pytest.mark.parametrize("second", ["Bearer {key}", "Bearer x", "Basic eDp5"])
def test_two_authorization_headers_are_refused(gateway: RunningGateway, second: str) -> None:
    head = f"GET /v1/models HTTP/1.1\r\nAuthorization: {second}\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = gateway.raw(head.format(key=gateway.key).encode())
    assert answer.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_a_stranger_learns_nothing_of_paths_and_models(gateway: RunningGateway, method: str) -> None:
    """Whatever there is or is not, the answer is the same to the byte, but for the request's id."""
    strange = ["/v1/models", "/v1/models/tiny-a", "/v1/models/nope", CHAT, "/team-a/models", "/v2/models", *HOSTILE]
    targets = [target for target in strange if "elsewhere" not in target]
    answers = [gateway.ask(method, target, {"model": "tiny-a"}, {"Authorization": "Bearer x"}) for target in targets]
    assert {(answer.status, answer.body) for answer in answers} == {(401, answers[0].body)}


def test_a_strangers_body_is_not_waited_for(gateway: RunningGateway) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n"
    assert gateway.raw(head.encode()).startswith(b"HTTP/1.1 401 ")


def test_the_health_of_the_gateway_needs_no_key(gateway: RunningGateway) -> None:
    assert gateway.ask("GET", "/healthz", headers={"Authorization": ""}).json["status"] == "ok"


def test_a_key_reaches_its_models_alone(gateway: RunningGateway, limited: str) -> None:
    client = gateway.client(key=limited)
    assert client.chat.completions.create(model="tiny-a", messages=HELLO).choices[0].message.content
    assert gateway.client("/team-a", key=limited).chat.completions.create(model="tiny-a", messages=HELLO)
    with pytest.raises(openai.PermissionDeniedError, match=r"may not use the model `Qwen/Qwen2\.5-0\.5B:it`") as caught:
        client.chat.completions.create(model="Qwen/Qwen2.5-0.5B:it", messages=HELLO)
    assert (caught.value.status_code, caught.value.code, caught.value.param) == (403, "model_not_allowed", "model")


def test_a_key_lists_and_finds_its_models_alone(gateway: RunningGateway, limited: str) -> None:
    client = gateway.client(key=limited)
    until(lambda: {model.id for model in client.models.list()} == {"tiny-a"}, "sick is off the list", 3)
    assert client.models.retrieve("tiny-a").id == "tiny-a"
    with pytest.raises(openai.PermissionDeniedError):
        client.models.retrieve("Qwen/Qwen2.5-0.5B:it")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nope")


@pytest.mark.parametrize("models", ["tiny", "tiny-", "iny-a", "tiny-a-2", "tiny-aa", "Tiny-a"])
def test_a_name_within_a_name_is_not_the_name(gateway: RunningGateway, models: str) -> None:
    key = gateway.api_keys("make", "similar", "--models", models).strip()
    try:
        answer = gateway.ask("POST", CHAT, {"model": "tiny-a"}, {"Authorization": f"Bearer {key}"})
        assert (answer.status, answer.code) == (403, "model_not_allowed")
    finally:
        gateway.api_keys("revoke", "similar")


def test_a_key_expires_by_itself(gateway: RunningGateway) -> None:
    key = gateway.api_keys("make", "brief", "--expires-in", "3s").strip()
    headers = {"Authorization": f"Bearer {key}"}
    assert gateway.ask("GET", "/v1/models", headers=headers).status == 200
    until(lambda: gateway.ask("GET", "/v1/models", headers=headers).status == 401, "the key has expired", 5)
    answer = gateway.ask("GET", "/v1/models", headers=headers)
    assert (answer.code, answer.json["error"]["message"]) == ("invalid_api_key", "This API key has expired.")
    assert "(expired)" in next(line for line in gateway.api_keys("list").splitlines() if line.startswith("brief "))
    gateway.api_keys("revoke", "brief")


def test_a_line_that_cannot_be_read_lets_nobody_in(gateway: RunningGateway) -> None:
    """HAProxy reads what stands in the files, also what none of our programs wrote there."""
    for value in ("broken", "broken|", "broken|x|0|*", "broken||0|*"):
        with gateway.as_key(value) as key:
            assert gateway.ask("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"}).status == 401
    with gateway.as_key("broken|9999999999|0") as key:
        answer = gateway.ask("POST", CHAT, {"model": "tiny-a"}, {"Authorization": f"Bearer {key}"})
        assert answer.status == 403


def test_over_its_limit_a_key_is_told_when_to_come_again(gateway: RunningGateway) -> None:
    """Seven requests lie in two minutes of the clock at most, so at least one is over the limit of three."""
    key = gateway.api_keys("make", "slow", "--requests-per-minute", "3").strip()
    client = gateway.client(key=key)
    answered, refused = 0, None
    for _ in range(7):
        try:
            client.chat.completions.create(model="tiny-a", messages=HELLO)
            answered += 1
        except openai.RateLimitError as error:
            refused = error
    assert refused is not None
    assert 3 <= answered <= 6
    assert (refused.status_code, refused.code) == (429, "rate_limit_exceeded")
    assert "3 requests per minute" in refused.message
    assert 1 <= int(refused.response.headers["retry-after"]) <= 60
    assert gateway.ask("POST", CHAT, {"model": "tiny-a"}).status == 200, "another key has nothing to do with it"
    gateway.api_keys("revoke", "slow")


def test_the_log_tells_whose_key_it_was_and_never_the_key(gateway: RunningGateway) -> None:
    ids = [
        gateway.ask("POST", f"{CHAT}?key={gateway.key}", {"model": "tiny-a"}).headers["x-request-id"],
        gateway.ask("POST", CHAT, {"model": "x"}, {"Authorization": "Bearer confidential"}).headers["x-request-id"],
    ]
    lines: dict[str, Any] = {}
    until(
        lambda: lines.update((line["request_id"], line) for line in gateway.log_lines()) or set(ids) <= set(lines),
        "log",
    )
    assert [(lines[each]["key"], lines[each]["status"]) for each in ids] == [("tests", 200), ("-", 401)]
    text = gateway.log.read_text()
    assert gateway.key not in text
    assert "confidential" not in text
    assert not [digest for digest in gateway.held_hashes() if digest in text]
