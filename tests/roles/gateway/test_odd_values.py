"""Values that vLLM 0.29 answers with a 500, though it is the request that is wrong: the gateway says so instead."""

from typing import Any

import pytest

from tests.roles.gateway.running import RunningGateway
from tests.roles.gateway.serve_side import ServeSide


def ask(gateway: RunningGateway, serve: ServeSide, members: str) -> tuple[int, Any, int]:
    """The status and error of a request with these members, and how many have reached Serve."""
    before = len(serve.requests)
    answer = gateway.ask("POST", "/v1/chat/completions", ('{"model":"tiny-a",' + members + "}").encode())
    return answer.status, answer.json.get("error"), len(serve.requests) - before


@pytest.mark.parametrize("value", ['"x"', '""', "1", "-0.5", "1e400", "true", "false"])
def test_structured_outputs_that_are_no_object_are_refused(
    gateway: RunningGateway, serve: ServeSide, value: str
) -> None:
    status, error, arrived = ask(gateway, serve, f'"structured_outputs":{value}')
    assert (status, error["code"], error["param"], arrived) == (400, "invalid_value", "structured_outputs", 0)


@pytest.mark.parametrize("value", ['{"regex":"a+"}', "{}", "null"])
def test_structured_outputs_go_on(gateway: RunningGateway, serve: ServeSide, value: str) -> None:
    assert ask(gateway, serve, f'"structured_outputs":{value}')[::2] == (200, 1)


@pytest.mark.parametrize(
    "value", ["18446744073709551616", "1" + "0" * 400, "-36893488147419103232", "1e30", '"18446744073709551616"']
)
def test_a_number_beyond_64_bits_is_no_top_k(gateway: RunningGateway, serve: ServeSide, value: str) -> None:
    status, error, arrived = ask(gateway, serve, f'"top_k":{value}')
    assert (status, error["code"], error["param"], arrived) == (400, "invalid_value", "top_k", 0)


@pytest.mark.parametrize("value", ["0", "-1", "50", "4294967296", '"5"', "0.5", "null", "1e-30"])
def test_any_other_top_k_goes_on(gateway: RunningGateway, serve: ServeSide, value: str) -> None:
    assert ask(gateway, serve, f'"top_k":{value}')[::2] == (200, 1)


@pytest.mark.parametrize(
    "text", [r"\ud800", r"\uDC00", r"x\\\ud83d", r"\ud83d\ud83d\ude00", r"\ude00\ud83d", r"\ud83dx"]
)
def test_half_of_a_surrogate_pair_is_refused(gateway: RunningGateway, serve: ServeSide, text: str) -> None:
    status, error, arrived = ask(gateway, serve, f'"stop":"{text}"')
    assert (status, error["code"], arrived) == (400, "invalid_value", 0)


@pytest.mark.parametrize(
    "text", [r"\ud83d\ude00", r"\uD83D\uDE00\ud83d\ude00", r"\\ud800", r"\\\\udc00", r"\ue000", "\U0001f600"]
)
def test_whole_pairs_and_what_only_looks_like_a_half_go_on(
    gateway: RunningGateway, serve: ServeSide, text: str
) -> None:
    assert ask(gateway, serve, f'"stop":"{text}"')[::2] == (200, 1)
