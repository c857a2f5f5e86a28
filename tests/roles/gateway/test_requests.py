"""Requests on their way to a model and back."""

import time
from typing import Any

import pytest

from tests.roles.gateway.running import RunningGateway, until
from tests.roles.gateway.serve_side import ServeSide

HELLO: Any = [{"role": "user", "content": "hello"}]


def test_chat_goes_to_the_application_of_the_model(gateway: RunningGateway, serve: ServeSide) -> None:
    completion = gateway.client().chat.completions.create(model="Qwen/Qwen2.5-0.5B:it", messages=HELLO)
    assert completion.choices[0].message.content == "hello from qwen-qwen2.5-0.5b-it"
    assert serve.requests[-1].path == "/m/qwen-qwen2.5-0.5b-it/v1/chat/completions"


def test_the_same_id_on_two_prefixes_is_two_models(gateway: RunningGateway) -> None:
    answers = [
        gateway.client(prefix).chat.completions.create(model="tiny-a", messages=HELLO).choices[0].message.content
        for prefix in ("/v1", "/team-a")
    ]
    assert answers == ["hello from tiny-a", "hello from private"]


def test_embeddings_come_back(gateway: RunningGateway) -> None:
    embedding = gateway.client().embeddings.create(model="tiny-a", input="x", encoding_format="float")
    assert embedding.data[0].embedding == [0.5, 1.0]


@pytest.mark.parametrize("endpoint", ["chat/completions", "completions", "embeddings", "responses"])
@pytest.mark.parametrize(
    ("prefix", "slug", "model"), [("/team-a", "private", "tiny-a"), ("/v1/inner", "nested", "nested")]
)
def test_every_prefix_has_every_endpoint(
    gateway: RunningGateway, serve: ServeSide, endpoint: str, prefix: str, slug: str, model: str
) -> None:
    assert gateway.ask("POST", f"{prefix}/{endpoint}", {"model": model}).status == 200
    assert serve.requests[-1].path == f"/m/{slug}/v1/{endpoint}"


@pytest.mark.parametrize(
    "body",
    [
        rb'{"messages":[{"content":"\"model\":\"nope\" \\"}],"model":"Qwen/Qwen2.5-0.5B:it"}',
        rb'{"metadata":{"model":"nope"},"model":"Qwen/Qwen2.5-0.5B:it"}',
        rb'{"messages":"http:\/\/x","model":"Qwen\/Qwen2.5-0.5B:it"}',
        rb'{ "model" : "\u0051wen/Qwen2.5-0.5B:it" }',
    ],
    ids=["behind messages that speak of models", "beside another model deeper down", "as PHP writes it", "with \\u"],
)
def test_the_model_is_found_where_json_has_it(gateway: RunningGateway, body: bytes) -> None:
    answer = gateway.ask("POST", "/v1/chat/completions", body)
    assert answer.json["model"] == "qwen-qwen2.5-0.5b-it"


def test_a_body_reaches_the_model_as_it_was_sent(gateway: RunningGateway, serve: ServeSide) -> None:
    body = b'{"x":"' + b"y" * 250 * 1024 + rb'\/","model":"tiny-a"}'
    assert gateway.ask("POST", "/v1/completions", body).status == 200
    assert serve.requests[-1].body == body


def test_a_body_in_chunks_is_read_too(gateway: RunningGateway, serve: ServeSide) -> None:
    first, second = b'{"x":"' + b"y" * 100_000, b'","model":"tiny-a"}'
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (first, second, b""))
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert gateway.raw(head + chunks).startswith(b"HTTP/1.1 200 ")
    assert serve.requests[-1].body == first + second


def test_a_client_that_waits_for_100_continue_gets_it(gateway: RunningGateway) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    answer = gateway.raw(head + b'Expect: 100-continue\r\nContent-Length: 18\r\n\r\n{"model":"tiny-a"}')
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")


def test_the_first_of_two_models_decides(gateway: RunningGateway, serve: ServeSide) -> None:
    """vLLM takes the last one and refuses a name that is not its own: neither model is reached by the other's name."""
    gateway.ask("POST", "/v1/completions", b'{"model":"tiny-a","model":"Qwen/Qwen2.5-0.5B:it"}')
    assert serve.requests[-1].path == "/m/tiny-a/v1/completions"


def test_tokens_arrive_one_by_one(gateway: RunningGateway) -> None:
    began = time.monotonic()
    stream = gateway.client().chat.completions.create(model="tiny-a", messages=HELLO, max_tokens=8, stream=True)
    arrivals = [(chunk.choices[0].delta.content, time.monotonic() - began) for chunk in stream]
    assert [text for text, _ in arrivals] == [f"{number} " for number in range(8)]
    assert arrivals[0][1] < 0.3 < arrivals[-1][1]


def test_a_client_that_leaves_ends_its_request(gateway: RunningGateway, serve: ServeSide) -> None:
    with pytest.raises(Exception, match="timed out"):
        gateway.client().with_options(timeout=0.2).chat.completions.create(
            model="tiny-a", messages=HELLO, extra_body={"play": "think"}
        )
    assert serve.requests[-1].abandoned.wait(3)


def test_only_the_headers_an_engine_needs_go_on(gateway: RunningGateway, serve: ServeSide) -> None:
    sent = {
        "Authorization": f"Bearer {gateway.key}",
        "Cookie": "session=1",
        "X-Request-Id": "somebody-elses",
        "X-Forwarded-For": "10.0.0.1",
        "Forwarded": "for=10.0.0.1",
        "X-Data-Parallel-Rank": "3",
        "X-Session-Id": "x",
        "X-Serve-Replica": "x",
        "serve_multiplexed_model_id": "x",
        "User-Agent": "test",
        "Accept": "application/json",
        "Content-Type": "application/json",
    }
    answer = gateway.ask("POST", "/v1/completions", {"model": "tiny-a"}, sent)
    arrived = serve.requests[-1].headers
    assert set(arrived) == {
        "host", "user-agent", "accept", "content-type", "content-length", "connection", "x-request-id"
    }  # fmt: skip
    assert arrived["x-request-id"] == answer.headers["x-request-id"] != "somebody-elses"


def test_what_the_model_answers_is_not_touched(gateway: RunningGateway) -> None:
    answer = gateway.ask("POST", "/v1/completions", {"model": "tiny-a", "play": "vllm-error"})
    assert (answer.status, answer.json) == (400, {"error": {"message": "too long", "code": 400}})


def test_the_log_names_the_model_and_tells_nothing_of_the_prompt(gateway: RunningGateway) -> None:
    answer = gateway.ask("POST", "/v1/completions?key=confidential", {"prompt": "confidential", "model": "tiny-a"})
    mine = [answer.headers["x-request-id"]]
    until(lambda: any(line["request_id"] in mine for line in gateway.log_lines()), "the request is logged", 3)
    line = next(line for line in gateway.log_lines() if line["request_id"] in mine)
    assert (line["model"], line["path"], line["status"]) == ("tiny-a", "/v1/completions", 200)
    assert "confidential" not in gateway.log.read_text()
