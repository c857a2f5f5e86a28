"""What the gateway refuses, always in the shape of OpenAI's errors."""

from typing import Any

import openai
import pytest

from tests.roles.gateway.conftest import MODELS
from tests.roles.gateway.running import MAX_BODY_KIB, RunningGateway, until
from tests.roles.gateway.serve_side import ServeSide

HELLO: Any = [{"role": "user", "content": "hello"}]


def test_an_unknown_model_is_not_found(gateway: RunningGateway) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        gateway.client().chat.completions.create(model="nope", messages=HELLO)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert "`nope`" in caught.value.message


@pytest.mark.parametrize(
    ("prefix", "model"), [("/team-a", "Qwen/Qwen2.5-0.5B:it"), ("/v1", "nested"), ("/v1", "private")]
)
def test_a_model_of_another_prefix_is_not_found(gateway: RunningGateway, prefix: str, model: str) -> None:
    answer = gateway.ask("POST", f"{prefix}/chat/completions", {"model": model})
    assert (answer.status, answer.code) == (404, "model_not_found")


@pytest.mark.parametrize("model", ["sick", "absent"])
def test_a_declared_model_that_is_down_is_unavailable(gateway: RunningGateway, model: str) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        gateway.client().chat.completions.create(model=model, messages=HELLO)
    assert (caught.value.status_code, caught.value.code) == (503, "model_not_up")
    assert caught.value.response.headers["retry-after"] == "5"


@pytest.mark.parametrize(
    ("play", "status", "code"),
    [("plain-500", 503, "model_not_up"), ("break-off", 502, "bad_gateway"), ("no-such-api", 404, "unknown_path")],
)
def test_what_serve_says_in_its_own_way_is_said_in_openais(
    gateway: RunningGateway, play: str, status: int, code: str
) -> None:
    answer = gateway.ask("POST", "/v1/completions", {"model": "tiny-a", "play": play})
    assert (answer.status, answer.code) == (status, code)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b'["tiny-a"]',
        b'{"messages":[]}',
        b'{"model":null}',
        b'{"model":{"tiny-a":1}}',
        b'{"model":"tiny-a',
    ],
)
def test_a_body_that_names_no_model_is_a_bad_request(gateway: RunningGateway, body: bytes) -> None:
    answer = gateway.ask("POST", "/v1/chat/completions", body)
    assert (answer.status, answer.code) == (400, "model_required")


@pytest.mark.parametrize("model", [1, True, "", "tiny-a\0", "tiny-a ", "x" * 100_000, '"}%[env(PATH)]'])
def test_a_strange_name_is_a_model_that_does_not_exist(gateway: RunningGateway, model: Any) -> None:
    answer = gateway.ask("POST", "/v1/chat/completions", {"model": model})
    assert (answer.status, answer.code) == (404, "model_not_found")
    assert len(answer.body) < 500


def test_a_list_of_models_is_refused(gateway: RunningGateway) -> None:
    answer = gateway.ask("POST", "/v1/chat/completions", {"model": ["tiny-a"]})
    assert (answer.status, answer.code) in {(400, "model_required"), (404, "model_not_found")}  # HAProxy 2.6, 3.0


@pytest.mark.parametrize("size_kib", [MAX_BODY_KIB, 20 * MAX_BODY_KIB])
def test_a_body_over_the_limit_is_too_large(gateway: RunningGateway, size_kib: int) -> None:
    with pytest.raises(openai.APIStatusError, match=f"larger than {MAX_BODY_KIB} KiB") as caught:
        gateway.client().completions.create(model="tiny-a", prompt="x" * size_kib * 1024)
    assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")


def test_a_body_over_the_limit_in_chunks_is_too_large(gateway: RunningGateway) -> None:
    data = b'{"model":"tiny-a","x":"' + b"y" * (MAX_BODY_KIB * 1024) + b'"}'
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    answer = gateway.raw(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"request_too_large"' in answer


def test_headers_that_would_crowd_out_the_body_are_too_large(gateway: RunningGateway) -> None:
    answer = gateway.ask("GET", "/v1/models", headers={"X-Large": "x" * 33_000})
    assert (answer.status, answer.code) == (431, "headers_too_large")


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("OPTIONS", "/v1/embeddings", "POST"),
        ("PUT", "/team-a/responses", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("DELETE", "/v1/models/tiny-a", "GET, HEAD"),
    ],
)
def test_another_method_is_refused(gateway: RunningGateway, method: str, target: str, allow: str) -> None:
    answer = gateway.ask(method, target, {"model": "tiny-a"})
    assert (answer.status, answer.code, answer.headers["allow"]) == (405, "method_not_allowed", allow)


HOSTILE = [
    "/",
    "/m/tiny-a/v1/chat/completions",
    "/m/tiny-a/health",
    "/-/routes",
    "/v1",
    "/v1/",
    "/v2/chat/completions",
    "/V1/chat/completions",
    "//v1/chat/completions",
    "/v1//chat/completions",
    "/v1/chat/completions/",
    "/v1/chat%2Fcompletions",
    "/v1/chat/completions%3Fx",
    "/v1/chat/completions;x=1",
    "/v1/../m/private/v1/completions",
    "/v1/%2e%2e/m/private/v1/completions",
    "/v1/./chat/completions",
    "/v1/chat/completions/../../../m/private/health",
    "/%76%31/chat/completions",
    "/v1/inner/../chat/completions",
    "/v1/scale_elastic_ep",
    "/v1/messages",
    "/v1/load_lora_adapter",
    "/metrics",
    "/tokenize",
    "/v1/chat/completions%00",
    "http://elsewhere/m/tiny-a/health",
    "/healthz/",
    "/healthz/../m/tiny-a/health",
]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("target", HOSTILE)
def test_no_other_path_leads_anywhere(gateway: RunningGateway, serve: ServeSide, method: str, target: str) -> None:
    before = len(serve.requests)
    answer = gateway.ask(method, target, {"model": "tiny-a"})
    assert (answer.status, answer.code) in {(404, "unknown_path"), (400, "bad_request")}
    assert len(serve.requests) == before


def test_a_path_above_the_models_page_is_only_a_name(gateway: RunningGateway) -> None:
    answer = gateway.ask("GET", "/v1/models/../../m/tiny-a/health")
    assert (answer.status, answer.code) == (404, "model_not_found")


def test_cleartext_http2_is_refused(gateway: RunningGateway) -> None:
    answer = gateway.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"bad_request"' in answer


def test_the_gateway_says_that_it_is_alive_and_what_it_runs(gateway: RunningGateway) -> None:
    answer = gateway.ask("GET", "/healthz")
    expected = gateway.gateway(MODELS)
    assert answer.status == 200
    assert answer.json == {"status": "ok", "config": expected.config_digest, "unit": expected.unit_digest}


def test_a_model_that_goes_down_and_up_again_is_followed(gateway: RunningGateway, serve: ServeSide) -> None:
    serve.healthy.discard("nested")
    until(lambda: gateway.ask("GET", "/v1/inner/models").json["data"] == [], "nested is off the list")
    assert gateway.ask("POST", "/v1/inner/completions", {"model": "nested"}).status == 503
    serve.healthy.add("nested")
    until(lambda: gateway.ask("POST", "/v1/inner/completions", {"model": "nested"}).status == 200, "nested is back")
