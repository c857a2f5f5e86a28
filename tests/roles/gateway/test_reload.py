"""The gateway's process: reloads, and a Serve that is not there."""

import socket
import ssl
import threading
from pathlib import Path
from typing import Any

from roles.gateway.config import GatewayModel
from tests.roles.gateway.conftest import MODELS
from tests.roles.gateway.running import RunningGateway, until

HELLO: Any = [{"role": "user", "content": "hello"}]


class Load:
    """Requests without a pause from four clients, each on connections of its own, until stopped."""

    def __init__(self, gateway: RunningGateway, context: ssl.SSLContext | None = None) -> None:
        self.answered = 0
        self._context = context
        self.failures: list[Exception] = []
        self._gateway = gateway
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(4)]

    def _run(self) -> None:
        client = self._gateway.client(context=self._context)
        while not self._stop.is_set():
            try:
                client.chat.completions.create(model="tiny-a", messages=HELLO)
                self.answered += 1
            except Exception as error:
                self.failures.append(error)

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)


def test_no_request_and_no_stream_notices_a_reload(own_gateway: RunningGateway) -> None:
    stream = own_gateway.client().chat.completions.create(model="tiny-a", messages=HELLO, max_tokens=50, stream=True)
    received = [next(stream)]
    with Load(own_gateway) as load:
        for number in range(5):
            own_gateway.reload([*MODELS, GatewayModel("/v1", f"more-{number}", f"more-{number}")])
    received += list(stream)
    assert load.failures == []
    assert load.answered > 20
    assert [chunk.choices[0].delta.content for chunk in received] == [f"{number} " for number in range(50)]


def test_a_model_added_by_a_reload_is_served(own_gateway: RunningGateway) -> None:
    own_gateway.reload([*MODELS, GatewayModel("/team-b", "new", "later")])
    completion = own_gateway.client("/team-b").chat.completions.create(model="new", messages=HELLO)
    assert completion.choices[0].message.content == "hello from later"


def test_a_configuration_that_cannot_be_loaded_leaves_the_old_one_at_work(own_gateway: RunningGateway) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        good = own_gateway.path.read_text()
        own_gateway.path.write_text(good.replace(f":{own_gateway.config.port} ", f":{taken.getsockname()[1]} "))
        own_gateway.signal_reload()
        own_gateway.wait_for_log("Loading failure!")
        until(own_gateway.loaded, "the old process takes connections again")
    assert own_gateway.ask("POST", "/v1/completions", {"model": "tiny-a"}).status == 200


def test_it_starts_without_serve_and_says_that_no_model_is_up(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        running = RunningGateway(tmp_path, MODELS, closed.getsockname()[1])
        try:
            answer = running.ask("POST", "/v1/completions", {"model": "tiny-a"})
            assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "model_not_up", "5")
            assert running.ask("GET", "/v1/models").json == {"object": "list", "data": []}
        finally:
            running.close()
