"""What clients see: asked on the head, through the gateway's port."""

from roles.model_serving.model import Model
from tests.hosts.questions import ask, gateway_url
from tests.hosts.reach import CheckedHost, expect


def test_gateway_answers(head: CheckedHost) -> None:
    url = gateway_url(head, "/healthz")
    answer = ask(head, url)
    expect(
        answer.status == 200,
        f"{head}: {url} answers {answer.status}: {answer.body[:200]}",
        f"on {head}: systemctl status rayrack-gateway; journalctl -u rayrack-gateway -n 50",
    )


def test_model_is_listed(head: CheckedHost, model: Model) -> None:
    url = gateway_url(head, f"{model.route_prefix}/models")
    answer = ask(head, url)
    expect(
        answer.status == 200,
        f"{head}: {url} answers {answer.status}: {answer.body[:200]}",
        f"on {head}: systemctl status rayrack-gateway",
    )
    listed = [entry["id"] for entry in answer.json()["data"]]
    expect(
        model.model_id in listed,
        f"{head}: {url} does not list {model.model_id}, only: {', '.join(listed) or 'nothing'}",
        f"on {head}: systemctl status rayrack-model@{model.slug}",
    )


def test_model_answers(head: CheckedHost, model: Model) -> None:
    body: dict[str, object] = {"model": model.model_id}
    if model.runner == "pooling":
        path = "embeddings"
        body |= {"input": "Hello"}
    else:
        path = "completions"
        body |= {"prompt": "Hello", "max_tokens": 1}
    url = gateway_url(head, f"{model.route_prefix}/{path}")
    answer = ask(head, url, body=body)
    expect(
        answer.status == 200,
        f"{head}: {model.model_id} at {url} answers {answer.status}: {answer.body[:200]}",
        f"on {head}: systemctl status rayrack-model@{model.slug}; journalctl -u rayrack-model@{model.slug} -n 50",
    )
