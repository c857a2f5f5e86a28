"""What the hub says, asked of a small one on loopback."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from roles.planner.memory import hub
from tests.roles.planner.memory import fixtures

MODEL = fixtures.published("qwen3-8b")
CONFIG, INDEX = "/a/b/resolve/main/config.json", "/a/b/resolve/main/model.safetensors.index.json"
SIZES = json.dumps({"metadata": {"total_size": MODEL.weights_bytes}, "weight_map": {}}).encode()


@dataclass
class FakeHub:
    """Answers by path: a body, or a status. ``asked``: what it was asked, with the token."""

    answers: dict[str, bytes | int] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""
    trickle_s: float = 0


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    state = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append((self.path, self.headers.get("Authorization")))
            answer = state.answers.get(self.path, 404)
            if isinstance(answer, int):
                self.send_error(answer)
                return
            if answer.startswith(b"Location: "):
                self.send_response(302)
                self.send_header("Location", answer.removeprefix(b"Location: ").decode())
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            for index in range(len(answer) if state.trickle_s else 1):
                time.sleep(state.trickle_s)
                self.wfile.write(answer[index : index + 1] if state.trickle_s else answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def test_config_and_size_of_a_model_are_found(fake: FakeHub) -> None:
    fake.answers = {CONFIG: json.dumps(MODEL.config).encode(), INDEX: SIZES}
    found = hub.Hub({"HF_ENDPOINT": fake.url + "/", "HF_TOKEN": "hf_x"}).find("a/b")
    assert found.shape == MODEL.shape
    assert found.weights is not None
    assert (found.weights.total, found.reasons) == (MODEL.weights_bytes, ())
    assert fake.asked == [(CONFIG, "Bearer hf_x"), (INDEX, "Bearer hf_x")]


def test_a_model_of_one_file_is_measured_by_the_api(fake: FakeHub) -> None:
    parameters = {"safetensors": {"parameters": {"BF16": 1000}}}
    fake.answers = {CONFIG: json.dumps(MODEL.config).encode(), "/api/models/a/b": json.dumps(parameters).encode()}
    found = hub.Hub({"HF_ENDPOINT": fake.url}).find("a/b")
    assert found.weights is not None
    assert (found.weights.total, found.reasons) == (2000, ())


def test_a_token_is_not_sent_along_to_where_the_hub_redirects(fake: FakeHub) -> None:
    fake.answers = {CONFIG: f"Location: {fake.url}/elsewhere".encode(), "/elsewhere": json.dumps(MODEL.config).encode()}
    hub.Hub({"HF_ENDPOINT": fake.url, "HF_TOKEN": "hf_x"}).find("a/b")
    assert fake.asked[:2] == [(CONFIG, "Bearer hf_x"), ("/elsewhere", None)]


@pytest.mark.parametrize("target", [b"file:///etc/passwd", b"ftp://127.0.0.1/x"])
def test_a_redirect_leads_to_web_addresses_only(fake: FakeHub, target: bytes) -> None:
    fake.answers = {CONFIG: b"Location: " + target, INDEX: SIZES}
    found = hub.Hub({"HF_ENDPOINT": fake.url}).find("a/b")
    assert (found.shape, found.weights is not None) == (None, True)


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_model_says_what_to_do(fake: FakeHub, status: int) -> None:
    fake.answers = {CONFIG: status, INDEX: status, "/api/models/a/b": status}
    found = hub.Hub({"HF_ENDPOINT": fake.url}).find("a/b")
    assert found.reasons == (
        f"a/b: the hub does not show it (HTTP {status}): it is gated, private or does not exist; set HF_TOKEN to a "
        "token that may read it, or weights_gib",
    )


def test_an_absent_model_is_no_reason_to_stop_asking_for_others(fake: FakeHub) -> None:
    asked = hub.Hub({"HF_ENDPOINT": fake.url})
    assert asked.find("c/d").reasons == ("c/d: the hub has no such model or file (HTTP 404)",)
    fake.answers = {CONFIG: json.dumps(MODEL.config).encode(), INDEX: SIZES}
    assert asked.find("a/b").reasons == ()


def test_a_hub_that_is_broken_is_asked_once(fake: FakeHub) -> None:
    fake.answers = {CONFIG: 503}
    asked = hub.Hub({"HF_ENDPOINT": fake.url})
    assert asked.find("a/b").reasons == (f"the hub at {fake.url} answers HTTP 503",)
    assert asked.find("c/d").reasons == (f"the hub at {fake.url} answers HTTP 503",)
    assert len(fake.asked) == 1


def test_answers_that_are_none_are_reasons(fake: FakeHub) -> None:
    fake.answers = {CONFIG: b"<html>", INDEX: b"{}"}
    found = hub.Hub({"HF_ENDPOINT": fake.url}).find("a/b")
    assert [reason.split(": ")[0] for reason in found.reasons] == ["a/b/config.json on the hub", "a/b on the hub"]


def test_an_answer_that_is_too_large_is_not_read_to_its_end(fake: FakeHub) -> None:
    fake.answers = {CONFIG: b" " * (5 * 2**20), INDEX: SIZES}
    found = hub.Hub({"HF_ENDPOINT": fake.url}).find("a/b")
    assert found.reasons == ("a/b: the hub's answer is larger than 4 MiB",)


def test_an_answer_that_trickles_is_given_up(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "ANSWER_S", 0.2)
    fake.answers, fake.trickle_s = {CONFIG: b" " * 100}, 0.05
    found = hub.Hub({"HF_ENDPOINT": fake.url}).find("a/b")
    assert found.reasons == (f"the hub at {fake.url} cannot be reached (an answer took longer than 0.2 s)",)


def test_nobody_there_costs_one_question_for_the_whole_run() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    asked, start = hub.Hub({"HF_ENDPOINT": f"http://127.0.0.1:{port}"}), time.monotonic()
    reasons = {asked.find(f"a/{index}").reasons for index in range(100)}
    assert time.monotonic() - start < 2
    assert reasons == {(f"the hub at http://127.0.0.1:{port} cannot be reached ([Errno 111] Connection refused)",)}


def test_a_hub_that_does_not_answer_costs_one_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        asked, start = hub.Hub({"HF_ENDPOINT": endpoint}), time.monotonic()
        assert (
            asked.find("a/b").reasons
            == asked.find("c/d").reasons
            == (f"the hub at {endpoint} cannot be reached (timed out)",)
        )
        assert time.monotonic() - start < 2


def test_a_resolver_that_hangs_costs_one_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "TIMEOUT_S", 0.2)
    hangs = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: hangs.wait(5))
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    start = time.monotonic()
    (reason,) = hub.Hub({}).find("a/b").reasons
    hangs.set()
    assert reason == "the hub at https://huggingface.co cannot be reached (no answer for its name within 0.2 s)"
    assert time.monotonic() - start < 2


def test_offline_the_hub_is_not_asked() -> None:
    assert hub.Hub({"HF_HUB_OFFLINE": "1"}).find("a/b").reasons == ("the hub was not asked: HF_HUB_OFFLINE is set",)


def test_an_endpoint_that_is_no_web_address_is_not_opened() -> None:
    (reason,) = hub.Hub({"HF_ENDPOINT": "file:///etc"}).find("a/b").reasons
    assert reason.startswith("the hub was not asked: HF_ENDPOINT is no http or https address")


def test_a_proxy_is_asked_in_its_place(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", fake.url)
    monkeypatch.setenv("no_proxy", "")
    fake.answers = {
        f"http://hub.invalid{CONFIG}": json.dumps(MODEL.config).encode(),
        f"http://hub.invalid{INDEX}": SIZES,
    }
    assert hub.Hub({"HF_ENDPOINT": "http://hub.invalid"}).find("a/b").shape == MODEL.shape


def test_a_model_is_asked_for_once(fake: FakeHub) -> None:
    fake.answers = {CONFIG: 404, INDEX: SIZES}
    asked = hub.Hub({"HF_ENDPOINT": fake.url})
    assert asked.find("a/b") == asked.find("a/b")
    assert len(fake.asked) == 2
