"""Requests per second and latency through rayrack, against the same model in a plain vLLM API server."""

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from roles.model_serving.model import Model
from tests.bench.gateway import gateway_endpoint
from tests.bench.load import Answer, Connection, Endpoint, steady_load
from tests.bench.measures import Block, block, median_of_ratios, percentile
from tests.bench.plain_vllm import PORT, expect_alive, plain_server, replica_of
from tests.hosts.reach import CheckedRack

START_LIMIT_S = 300
CONCURRENCIES = (1, 8)
AIM = 0.8
WARM_UP_S = 4.0


@dataclass(frozen=True)
class Side:
    """All blocks of one endpoint at one concurrency."""

    blocks: tuple[Block, ...]

    @property
    def requests_per_s(self) -> float:
        return statistics.median(block.requests_per_s for block in self.blocks)

    def latency_ms(self, share: float) -> float:
        """A percentile over the requests of all blocks, in milliseconds."""
        return 1000 * percentile([latency for block in self.blocks for latency in block.latencies_s], share)


@dataclass(frozen=True)
class Comparison:
    """Both endpoints at one concurrency; the blocks with the same index ran next to each other."""

    concurrency: int
    ours: Side
    plain: Side

    @property
    def ratio(self) -> float:
        return median_of_ratios(
            [block.requests_per_s for block in self.ours.blocks], [block.requests_per_s for block in self.plain.blocks]
        )


@dataclass(frozen=True)
class Throughput:
    model_id: str
    tokens: int
    idle_busy_share: float
    comparisons: tuple[Comparison, ...]


def busy_share(seconds: float) -> float:
    """The share of this machine's CPU time that was used during the next ``seconds`` (proc_stat(5))."""

    def used_and_all() -> tuple[int, int]:
        ticks = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(ticks) - ticks[3] - ticks[4], sum(ticks)

    used_before, all_before = used_and_all()
    time.sleep(seconds)
    used, total = used_and_all()
    return (used - used_before) / max(1, total - all_before)


async def wait_until_it_answers(
    endpoint: Endpoint, limit_s: float, tell: Callable[[str], None], check: Callable[[], None]
) -> None:
    """Ask until there is a good answer.

    Raises:
        TimeoutError: with the last problem, after ``limit_s`` seconds.
        Exception: what ``check`` raises, which is asked after each answer that is not good.
    """
    connection = Connection(endpoint, endpoint.tls)
    began = time.monotonic()
    while not (answer := await connection.ask()).good:
        check()
        waited = time.monotonic() - began
        if waited > limit_s:
            raise TimeoutError(
                f"{endpoint.host}:{endpoint.port} gave no good answer for {limit_s:.0f} s: {answer.problem}"
            )
        tell(f"waiting for the plain vLLM server: {waited:.0f} s of at most {limit_s:.0f} s")
        await asyncio.sleep(5)
    connection.close()


def measure(checked: CheckedRack, model: Model, rounds: int, seconds: float, tell: Callable[[str], None]) -> Throughput:
    """Blocks of ``seconds`` on either side, interleaved, the first side of a round changing from round to round."""
    replica = replica_of(checked, model)
    plain = Endpoint(replica.address, PORT, "/v1/completions", model.model_id)
    with gateway_endpoint(checked, model) as ours, plain_server(replica, model):
        blocks: dict[tuple[int, Endpoint], list[Block]] = {
            (number, side): [] for number in CONCURRENCIES for side in (ours, plain)
        }
        asyncio.run(wait_until_it_answers(plain, START_LIMIT_S, tell, lambda: expect_alive(replica)))
        for side in (ours, plain):
            _load(side, max(CONCURRENCIES), WARM_UP_S)
        idle = busy_share(5)
        tell(f"both servers are warm; with both idle the machine is {idle:.0%} busy")
        for number in range(rounds):
            for concurrency in CONCURRENCIES:
                for side in (ours, plain) if number % 2 == 0 else (plain, ours):
                    blocks[concurrency, side].append(block(_load(side, concurrency, seconds)))
                rates = [f"{blocks[concurrency, side][-1].requests_per_s:.1f}" for side in (ours, plain)]
                tell(f"round {number + 1} of {rounds}, {concurrency} at a time: {' and '.join(rates)} requests/s")
    return Throughput(
        model.model_id,
        ours.tokens,
        idle,
        tuple(
            Comparison(number, Side(tuple(blocks[number, ours])), Side(tuple(blocks[number, plain])))
            for number in CONCURRENCIES
        ),
    )


def _load(endpoint: Endpoint, concurrency: int, seconds: float) -> list[Answer]:
    return asyncio.run(steady_load(endpoint, concurrency=concurrency, seconds=seconds))
