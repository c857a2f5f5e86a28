"""The endpoint as users meet it, with the official OpenAI client and the real gateway, Serve HAProxy and vLLM."""

import json
import socket
from dataclasses import replace

import openai
import pytest

from tests.conftest import DeployedRack

GENERATING = ("tiny-a", "tiny-b")


def test_the_list_names_every_model(client: openai.OpenAI) -> None:
    assert {model.id for model in client.models.list()} == {"tiny-a", "tiny-b", "tiny-embed"}


@pytest.mark.parametrize("model", GENERATING)
def test_a_model_completes_a_chat(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hello"}], max_tokens=8)
    assert answer.model == model
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8


@pytest.mark.parametrize("model", GENERATING)
def test_a_model_completes_a_prompt(client: openai.OpenAI, model: str) -> None:
    assert client.completions.create(model=model, prompt="once", max_tokens=4).choices[0].text


def test_a_stream_arrives_in_pieces(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="tiny-a", messages=[{"role": "user", "content": "tell"}], max_tokens=32, stream=True
    )
    pieces = [chunk.choices[0].delta.content for chunk in stream if chunk.choices]
    assert len([piece for piece in pieces if piece]) > 4


def test_a_pooling_model_embeds(client: openai.OpenAI) -> None:
    one, other = client.embeddings.create(model="tiny-embed", input=["a text", "another"]).data
    assert len(one.embedding) == len(other.embedding) > 8
    assert one.embedding != other.embedding


def test_an_unknown_model_is_the_clients_not_found_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "hello"}])
    assert caught.value.code == "model_not_found"


def test_a_wrong_parameter_is_vllms_own_bad_request(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.completions.create(model="tiny-a", prompt="x", max_tokens=-1)


def test_paths_that_are_no_api_are_refused(rack: DeployedRack) -> None:
    for path in ("/m/tiny-a/v1/models", "/v1/messages", "/scale_elastic_ep", "/-/healthz", "/metrics"):
        answer = rack.entrance.ask(path, b"{}")
        assert answer.status in (404, 405), path
        assert "error" in answer.json(), path


@pytest.mark.parametrize("key", ["none", "rr-" + 43 * "A"])
def test_without_a_key_of_the_rack_there_is_an_authentication_error(rack: DeployedRack, key: str) -> None:
    stranger = replace(rack.entrance, key=key).client()
    for ask in (
        stranger.models.list,
        lambda: stranger.completions.create(model="tiny-a", prompt="x"),
        lambda: stranger.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "hello"}]),
    ):
        with pytest.raises(openai.AuthenticationError) as caught:
            ask()
        assert caught.value.code == "invalid_api_key"


def test_clear_text_gets_no_answer(rack: DeployedRack) -> None:
    with socket.create_connection((rack.entrance.address, 8000), timeout=10) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: rack\r\n\r\n")
        try:
            said = connection.recv(4096)
        except ConnectionResetError:
            said = b""
    assert b"HTTP" not in said


def test_a_key_stands_in_clear_nowhere_on_the_hosts(rack: DeployedRack) -> None:
    key = rack.entrance.key
    rack.client().models.list()
    for host in (rack.head, rack.worker):
        places = "/etc /run /var/log /opt/rayrack/bin /opt/rayrack/lib"
        files = rack.lab.ssh(host, f"grep -rlFs -D skip -e {key} {places}", check=False)
        assert files.stdout.strip() == "", host
        journal = rack.lab.ssh(host, f"journalctl -o cat | grep -cF -e {key}", check=False)
        assert journal.stdout.strip() == "0", host


def test_the_dashboard_answers_on_the_heads_loopback_only(rack: DeployedRack) -> None:
    ask = "curl -s -o /dev/null -w '%{http_code}' --max-time 5 http://127.0.0.1:8265/api/gcs_healthz"
    assert rack.lab.read(rack.head, ask) == "200"

    def reaches(port: int) -> bool:
        connect = f"timeout 5 bash -c 'exec 3<>/dev/tcp/{rack.lab.address(rack.head)}/{port}'"
        return rack.lab.ssh(rack.worker, connect, check=False).returncode == 0

    assert (reaches(8000), reaches(8265)) == (True, False)


def test_the_dashboard_asks_for_the_token(rack: DeployedRack) -> None:
    ask = "curl -s -o /dev/null -w '%{http_code}' --max-time 5"
    url = "http://127.0.0.1:8265/api/serve/applications/"
    assert rack.lab.read(rack.head, f"{ask} {url}") == "401"
    assert (
        rack.lab.read(rack.head, f'{ask} -H "Authorization: Bearer $(cat /etc/rayrack/secrets/ray.token)" {url}')
        == "200"
    )


def test_autoscaling_settings_reach_serve(rack: DeployedRack) -> None:
    token = '-H "Authorization: Bearer $(cat /etc/rayrack/secrets/ray.token)"'
    text = rack.lab.read(rack.head, f"curl -s {token} http://127.0.0.1:8265/api/serve/applications/")
    deployments = json.loads(text)["applications"]["m-tiny-a"]["deployments"]
    scaling = [
        each["deployment_config"].get("autoscaling_config") for name, each in deployments.items() if "LLMServer" in name
    ]
    assert [(one["min_replicas"], one["max_replicas"], one["target_ongoing_requests"]) for one in scaling] == [
        (1, 1, 8.0)
    ]
