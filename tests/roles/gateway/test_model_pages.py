"""GET <prefix>/models and <prefix>/models/<id>, answered by the gateway itself."""

import openai
import pytest

from tests.roles.gateway.running import RunningGateway, until


def listed(gateway: RunningGateway, prefix: str) -> set[str]:
    return {model.id for model in gateway.client(prefix).models.list()}


def test_a_prefix_lists_its_own_models_that_are_up(gateway: RunningGateway) -> None:
    until(lambda: listed(gateway, "/v1") == {"tiny-a", "Qwen/Qwen2.5-0.5B:it"}, "absent and sick are off the list", 3)
    assert listed(gateway, "/team-a") == {"tiny-a"}
    assert listed(gateway, "/v1/inner") == {"nested"}


def test_the_list_has_the_shape_of_openai(gateway: RunningGateway) -> None:
    assert gateway.ask("GET", "/team-a/models").json == {
        "object": "list",
        "data": [{"id": "tiny-a", "object": "model", "created": 0, "owned_by": "rayrack"}],
    }


@pytest.mark.parametrize("target", ["Qwen/Qwen2.5-0.5B:it", "Qwen%2FQwen2.5-0.5B%3Ait", "%51wen%2fQwen2%2E5-0.5B:it"])
def test_a_model_is_found_however_its_id_is_encoded(gateway: RunningGateway, target: str) -> None:
    answer = gateway.ask("GET", f"/v1/models/{target}")
    assert (answer.status, answer.json["id"], answer.json["object"]) == (200, "Qwen/Qwen2.5-0.5B:it", "model")


def test_the_official_client_retrieves_a_model(gateway: RunningGateway) -> None:
    assert gateway.client().models.retrieve("Qwen/Qwen2.5-0.5B:it").id == "Qwen/Qwen2.5-0.5B:it"


def test_a_declared_model_that_is_down_is_there_but_not_up(gateway: RunningGateway) -> None:
    answer = gateway.ask("GET", "/v1/models/sick")
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "model_not_up", "5")


@pytest.mark.parametrize("target", ["nope", "", "tiny-a/", "tiny-a%00", "tiny-a%2500", "nested", "%22%7D"])
def test_another_name_is_no_model_of_this_prefix(gateway: RunningGateway, target: str) -> None:
    answer = gateway.ask("GET", f"/v1/models/{target}")
    assert (answer.status, answer.code) == (404, "model_not_found")


def test_the_official_client_raises_not_found(gateway: RunningGateway) -> None:
    with pytest.raises(openai.NotFoundError, match="The model `nope` does not exist here"):
        gateway.client().models.retrieve("nope")


def test_head_is_answered_without_a_body(gateway: RunningGateway) -> None:
    answer = gateway.raw(b"HEAD /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")
