"""Malformed requests against a whole rack: the gateway, Serve and vLLM are the real ones."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.attack.assault import Report, assault
from tests.attack.attempt import Aim
from tests.attack.innocent import Exchange, Innocent
from tests.attack.send import Door
from tests.conftest import DeployedRack
from tests.lab.lab import Lab

SEED, REQUESTS = 20260602, 1_500
# What vLLM 0.29 still answers with a 500, and the gateway cannot see: docs/threat-model.md names it.
KNOWN = re.compile(r"\"code\":500\D.*\n.*(structured_outputs|response_format)", re.DOTALL)
API_KEYS = "/opt/rayrack/bin/api_keys"
PROMPT = "nobody-else-reads-this-"
UNITS = "systemctl show -p Id,NRestarts,ActiveEnterTimestampMonotonic 'rayrack-*'"


@dataclass
class Attacked:
    """What an attack has led to, and the state of the hosts before and after it."""

    aim: Aim
    report: Report
    innocent: Innocent
    units: tuple[str, str]
    log: list[str]


def own_answer(exchange: Exchange) -> bool:
    """vLLM's answer has the id that the gateway gave its request."""
    answer = exchange.answer
    return answer["model"] == "tiny-b" and exchange.headers["x-request-id"] in answer["id"]


@pytest.fixture(scope="module")
def attacked(rack: DeployedRack) -> Iterator[Attacked]:
    lab, head = rack.lab, rack.head
    key = lab.read(head, f"{API_KEYS} make attack")
    limited = lab.read(head, f"{API_KEYS} make attack-limited --models tiny-a")
    trust = ssl.create_default_context(cadata=lab.read(head, "cat /etc/rayrack/gateway/tls.pem"))
    door = Door(lab.address(head), 8000, trust, silence_s=3)
    aim = Aim(key, limited, ("tiny-a", "tiny-embed"))
    before = state(lab)
    began = lab.read(head, "date +%s")
    innocent = Innocent(door, key, chat, own_answer, pause_s=0.2)
    try:
        with innocent:
            report = assault(door, aim, SEED, range(REQUESTS), at_once=12)
        print(report.text())
        log = lab.read(head, f"journalctl -u rayrack-gateway -o cat --no-pager --since @{began}").splitlines()
        yield Attacked(aim, report, innocent, (before, state(lab)), log)
    finally:
        lab.ssh(head, f"{API_KEYS} revoke attack; {API_KEYS} revoke attack-limited", check=False)


def chat(marker: str) -> dict[str, object]:
    return {"model": "tiny-b", "messages": [{"role": "user", "content": PROMPT + marker}], "max_tokens": 1}


def state(lab: Lab) -> str:
    """How often each unit was started, and when."""
    return "\n".join(lab.read(host, UNITS) for host in ("h1", "h2"))


def test_no_malformed_request_causes_a_5xx_or_opens_the_door(attacked: Attacked) -> None:
    problems = [problem for problem in attacked.report.problems if not KNOWN.search(problem)]
    assert not problems, f"{len(problems)}: " + "\n".join(problems[:10])
    assert attacked.report.sent == REQUESTS


def test_a_good_client_has_every_answer_and_its_own(attacked: Attacked) -> None:
    assert not attacked.innocent.problems, attacked.innocent.problems[:10]
    assert attacked.innocent.asked > 20


def test_the_log_is_json_without_another_5xx_and_without_a_key(attacked: Attacked) -> None:
    entries = [json.loads(line) for line in attacked.log if line.startswith("{")]
    assert len(entries) > REQUESTS / 3
    failed = [entry for entry in entries if entry.get("status", 0) >= 500]
    assert len(failed) <= sum(bool(KNOWN.search(problem)) for problem in attacked.report.problems)
    assert not [entry for entry in entries if entry.get("request_id") == "injected"]
    whole = "\n".join(attacked.log)
    assert attacked.aim.key[3:23] not in whole
    assert attacked.aim.limited_key[3:23] not in whole


def test_no_prompt_is_in_a_log_of_a_host(rack: DeployedRack, attacked: Attacked) -> None:
    """Neither Ray's, Serve's and vLLM's, nor the journal."""
    search = f"grep -rlF {PROMPT} /tmp/ray/*/logs; journalctl --no-pager -o cat | grep -F {PROMPT}"
    for host in (rack.head, rack.worker):
        assert rack.lab.ssh(host, search, check=False).stdout == ""
        assert rack.lab.read(host, "ls /tmp/ray/*/logs"), "there is nothing to search"


def test_no_unit_was_restarted(attacked: Attacked) -> None:
    before, after = attacked.units
    assert before == after


def test_every_model_still_answers(rack: DeployedRack, attacked: Attacked) -> None:
    for model in ("tiny-a", "tiny-b"):
        answer = rack.client().completions.create(model=model, prompt="hello", max_tokens=2)
        assert answer.choices[0].text
    assert rack.client().embeddings.create(model="tiny-embed", input="x", encoding_format="float").data[0].embedding
