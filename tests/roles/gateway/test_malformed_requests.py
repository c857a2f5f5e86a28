"""Ten thousand malformed requests against the real HAProxy, half of them with a valid key, while a good client goes on.

They come from a seed, so that a failure can be repeated: RAYRACK_ATTACK_SEED=... names another one, and a problem names
the number of its request (`python -m tests.attack SEED NUMBER` shows it).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from roles.gateway.config import GatewayModel
from tests.attack.assault import Report, assault
from tests.attack.attempt import SMUGGLED, Aim
from tests.attack.innocent import Exchange, Innocent
from tests.attack.plan import attempt
from tests.attack.send import Door
from tests.attack.strict_serve import StrictServe
from tests.roles.gateway.running import RunningGateway, until

SEED = int(os.environ.get("RAYRACK_ATTACK_SEED", "20260601"))
ROUNDS, PER_ROUND = 4, 2_500
# What HAProxy may grow by from the first round to the last: 550 bytes for each request. In 10 rounds it was measured to
# grow by 2.7 MiB, ever more slowly: pools and buffers that it keeps.
GROWTH_MIB = 4.0
MODELS = (
    GatewayModel("/v1", "tiny-a", "tiny-a"),
    GatewayModel("/v1", "tiny-b", "tiny-b"),
    GatewayModel("/team-a", "tiny-a", "private"),
)
# What HAProxy says of itself in between: no request can write a line that begins like this.
OF_ITSELF = re.compile(rb"\[(NOTICE|WARNING)\] |Server m_|backend m_|Health check ")


@dataclass
class Attacked:
    """All that an attack has left behind."""

    aim: Aim
    reports: list[Report]
    memory_mib: list[float]
    innocents: list[Innocent]
    serve: StrictServe
    log: list[bytes]


@pytest.fixture(scope="module")
def strict_serve() -> Iterator[StrictServe]:
    side = StrictServe()
    yield side
    side.close()


@pytest.fixture(scope="module")
def attacked_gateway(strict_serve: StrictServe, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    running = RunningGateway(Path(tmp_path_factory.mktemp("attacked")), MODELS, strict_serve.port)
    yield running
    running.close()


@pytest.fixture(scope="module")
def attacked(attacked_gateway: RunningGateway, strict_serve: StrictServe) -> Attacked:
    gateway = attacked_gateway
    until(lambda: len(gateway.ask("GET", "/v1/models").json["data"]) == 2, "the models are up")
    limited = gateway.api_keys("make", "limited", "--models", "tiny-a").strip()
    aim = Aim(gateway.key, limited, ("tiny-a", "tiny-b"))
    door = Door("127.0.0.1", gateway.config.port, gateway.trust())
    print(f"RAYRACK_ATTACK_SEED={SEED}")
    innocents = [innocent(door, gateway.key, model) for model in aim.models]
    reports, memory = [], []
    with innocents[0], innocents[1]:
        for number in range(ROUNDS):
            reports.append(assault(door, aim, SEED, range(number * PER_ROUND, (number + 1) * PER_ROUND)))
            memory.append(memory_mib(gateway))
            print(f"{memory[-1]:.1f} MiB; {reports[-1].text()}")
    log = gateway.log.read_bytes().split(b"\n")
    return Attacked(aim, reports, memory, innocents, strict_serve, log)


def innocent(door: Door, key: str, model: str) -> Innocent:
    """A client whose answers say whom they are for."""

    def body(marker: str) -> dict[str, object]:
        return {"model": model, "messages": [], "user": marker}

    def right(exchange: Exchange) -> bool:
        return exchange.answer == {"agent": exchange.marker, "user": exchange.marker, "model": model}

    return Innocent(door, key, body, right, name=f"good-{model}")


def memory_mib(gateway: RunningGateway) -> float:
    """What HAProxy's worker holds, but for shared memory: that is its cache of TLS sessions, of a fixed size."""
    (worker,) = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children").read_text().split()
    status = Path(f"/proc/{worker}/status").read_text()
    sizes = dict(re.findall(r"(RssAnon|RssShmem):\s+(\d+) kB", status))
    return int(sizes["RssAnon"]) / 1024


def first(problems: list[str]) -> str:
    """The first problems, and how many there are."""
    return f"seed {SEED}: {len(problems)} problems\n" + "\n".join(problems[:10])


def test_no_malformed_request_gets_an_answer_it_should_not(attacked: Attacked) -> None:
    """No 5xx, nothing but 401 without a key (400 and 408 where no request could be read), no answer of another's."""
    problems = [problem for report in attacked.reports for problem in report.problems]
    assert not problems, first(problems)
    assert sum(report.sent for report in attacked.reports) == ROUNDS * PER_ROUND


def test_a_good_client_has_every_answer_and_its_own(attacked: Attacked) -> None:
    problems = [problem for innocent in attacked.innocents for problem in innocent.problems]
    assert not problems, first(problems)
    assert all(innocent.asked > 100 for innocent in attacked.innocents)
    assert max(innocent.slowest_s for innocent in attacked.innocents) < 10


def test_nothing_is_smuggled_to_serve(attacked: Attacked) -> None:
    assert not attacked.serve.findings, first(attacked.serve.findings)
    agents = [arrived.agent for arrived in attacked.serve.arrived]
    assert not [agent for agent in agents if SMUGGLED in agent]


def test_each_good_request_reaches_serve_exactly_once(attacked: Attacked) -> None:
    agents = [arrived.agent for arrived in attacked.serve.arrived if arrived.agent.startswith("good-")]
    asked = [f"{one.name}-{number}" for one in attacked.innocents for number in range(one.asked)]
    assert sorted(agents) == sorted(asked)


def test_nothing_reaches_serve_without_a_key(attacked: Attacked) -> None:
    """Nor with a key that is for another model."""
    wrong = []
    for arrived in attacked.serve.arrived:
        if not re.fullmatch(r"a\d{6}", arrived.agent):
            continue  # a client's own, or an agent that a malformed request has given itself
        tried = attempt(attacked.aim, SEED, int(arrived.agent[1:]))
        if not tried.keyed or (tried.limited and arrived.slug != "tiny-a"):
            wrong.append(f"{arrived.slug}{arrived.endpoint}: {tried}")
    assert not wrong, first(wrong)


def test_memory_does_not_grow_from_round_to_round(attacked: Attacked) -> None:
    assert attacked.memory_mib[-1] - attacked.memory_mib[0] < GROWTH_MIB, attacked.memory_mib


def test_every_line_of_the_log_is_one_json_object_and_none_tells_a_key(attacked: Attacked) -> None:
    wrong = []
    for line in attacked.log:
        if not line or OF_ITSELF.match(line):
            continue
        try:
            entry = json.loads(line.decode())
            assert set(entry) >= {"client", "end"}, entry
            assert entry.get("request_id") != "injected"
            assert entry.get("status", 0) < 500, entry
        except (ValueError, AssertionError) as error:
            wrong.append(f"{line[:500]!r}: {error}")
    assert not wrong, first(wrong)
    whole = b"\n".join(attacked.log)
    for key in (attacked.aim.key, attacked.aim.limited_key):
        assert key[3:23].encode() not in whole


def test_the_gateway_has_not_been_restarted_by_itself(attacked: Attacked) -> None:
    assert not [line for line in attacked.log if b"exited with code" in line or b"ALERT" in line]


def test_a_client_cannot_renegotiate(attacked_gateway: RunningGateway) -> None:
    command = ["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{attacked_gateway.config.port}"]
    done = subprocess.run(command, input=b"R\n", capture_output=True, timeout=20, check=False)
    assert b"RENEGOTIATING" in done.stdout + done.stderr
    assert b"no renegotiation" in done.stderr or b"alert" in done.stderr or done.returncode != 0
