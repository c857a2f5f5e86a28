"""The REST client: it changes one application and leaves every other as it is, and errors are one line."""

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import serve_api

from tests.roles.model_serving.host.recorded_serve import TOKEN, RecordedServe, fixture, serving


@pytest.fixture
def serve() -> Iterator[RecordedServe]:
    with serving(RecordedServe()) as recorded:
        yield recorded


def api_at(port: int, tmp_path: Path, token: str = TOKEN) -> serve_api.ServeApi:
    lock = tmp_path / "lock"
    return serve_api.ServeApi(f"http://127.0.0.1:{port}", token, lock=lock, serve_host="127.0.0.1", serve_port=8100)


def client(serve: RecordedServe, tmp_path: Path, token: str = TOKEN) -> serve_api.ServeApi:
    return api_at(serve.port, tmp_path, token)


def app(name: str) -> dict[str, Any]:
    config: dict[str, Any] = fixture("running.json")["applications"]["m-tiny-a"]["deployed_app_config"]
    return {**config, "name": name}


def test_a_new_application_is_put_beside_the_others(serve: RecordedServe, tmp_path: Path) -> None:
    api = client(serve, tmp_path)
    api.change_application("m-a", app("m-a"))
    api.change_application("m-b", app("m-b"))
    assert [a["name"] for a in serve.puts[-1]["applications"]] == ["m-a", "m-b"]
    assert serve.puts[-1]["http_options"] == {"host": "127.0.0.1", "port": 8100}


def test_an_application_is_replaced_and_the_others_are_put_as_they_were(serve: RecordedServe, tmp_path: Path) -> None:
    api = client(serve, tmp_path)
    for name in ("m-a", "m-b"):
        api.change_application(name, app(name))
    api.change_application("m-a", {**app("m-a"), "deployments": []})
    by_name = {a["name"]: a for a in serve.puts[-1]["applications"]}
    assert by_name == {"m-a": {**app("m-a"), "deployments": []}, "m-b": app("m-b")}


def test_removing_leaves_the_others(serve: RecordedServe, tmp_path: Path) -> None:
    api = client(serve, tmp_path)
    for name in ("m-a", "m-b"):
        api.change_application(name, app(name))
    api.change_application("m-a", None)
    assert [a["name"] for a in serve.puts[-1]["applications"]] == ["m-b"]


def test_removing_what_is_not_there_puts_nothing(serve: RecordedServe, tmp_path: Path) -> None:
    client(serve, tmp_path).change_application("m-a", None)
    assert serve.puts == []


def test_an_application_that_is_being_deleted_is_not_brought_back(serve: RecordedServe, tmp_path: Path) -> None:
    serve.polls_to_go = 5
    api = client(serve, tmp_path)
    for name in ("m-a", "m-b"):
        api.change_application(name, app(name))
    api.change_application("m-a", None)
    assert api.applications()["m-a"]["status"] == "DELETING"
    api.change_application("m-c", app("m-c"))
    assert [a["name"] for a in serve.puts[-1]["applications"]] == ["m-b", "m-c"]


def test_nodes_have_what_they_are_using(serve: RecordedServe, tmp_path: Path) -> None:
    (node,) = client(serve, tmp_path).nodes()
    assert node["is_head_node"]
    assert node["resources_total"]["CPU"] == 8.0
    assert node["used"]["CPU"] > 0


def test_a_wrong_token_is_refused_for_good(serve: RecordedServe, tmp_path: Path) -> None:
    with pytest.raises(serve_api.Refused, match="403 Forbidden: Invalid authentication token"):
        client(serve, tmp_path, token="another").applications()


def test_a_server_error_may_pass(serve: RecordedServe, tmp_path: Path) -> None:
    serve.dashboard_status = 503
    with pytest.raises(serve_api.Unreachable, match="503 The GCS may be down"):
        client(serve, tmp_path).applications()


def test_an_answer_of_vllm_is_reduced_to_its_message(serve: RecordedServe) -> None:
    serve.warm_up_status = 400
    serve.warm_up_answer = '{"error":{"message":"The model does not support Completions API","code":400}}'
    with pytest.raises(serve_api.Refused, match=r"400 The model does not support Completions API$"):
        serve_api.request(f"http://127.0.0.1:{serve.port}/m/a/v1/completions", method="POST", body={}, timeout_s=5)


def test_nobody_listening_may_pass(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(serve_api.Unreachable, match="Connection refused"):
        api_at(port, tmp_path).applications()


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server that says these bytes to whoever asks, and closes; its port."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(answer)

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def json_answer(body: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", r"broken answer: IncompleteRead\(2 bytes read"),
        (b"garbage\r\n\r\n", "broken answer: BadStatusLine"),
        (b"", "closed connection without response"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 100\r\n\r\nhalf", "502 $"),
        (json_answer("half of {"), "the answer is no JSON object"),
        (json_answer("[]"), "the answer is no JSON object"),
        (json_answer('{"applications": []}'), "not the answer of Ray 2.60"),
    ],
)
def test_an_answer_that_is_broken_is_one_line_and_may_pass(answer: bytes, said: str, tmp_path: Path) -> None:
    with answering(answer) as port, pytest.raises(serve_api.Unreachable, match=said) as raised:
        api_at(port, tmp_path).applications()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("body", ["{}", '{"data": null}', '{"data": {"result": {"result": [{}]}}}'])
def test_nodes_in_another_shape_are_one_line_and_may_pass(body: str, tmp_path: Path) -> None:
    with (
        answering(json_answer(body)) as port,
        pytest.raises(serve_api.Unreachable, match=r"/api/v0/nodes.*not the answer of Ray 2\.60"),
    ):
        api_at(port, tmp_path).nodes()


def test_a_proxy_in_the_environment_is_not_asked(
    serve: RecordedServe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert client(serve, tmp_path).applications() == {}


def test_a_lock_that_is_held_is_waited_for_only_so_long(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    waits: list[int] = []
    with (
        serve_api.locked(lock, 5, "first"),
        pytest.raises(serve_api.Unreachable, match=r"waited 0\.5 s for the other"),
        serve_api.locked(lock, 0.5, "the other", lambda: waits.append(1)),
    ):
        pass
    assert waits
    with serve_api.locked(lock, 0, "third"):
        pass
