"""What a rotation of Ray's token costs: every model of the list is asked all the time while a real deploy rotates."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass

from roles.model_serving.model import Model
from tests.bench.churn import PAUSE_S, SETTLE_S, deploy
from tests.bench.gateway import gateway_endpoint
from tests.bench.load import Answer, Endpoint, steady_load
from tests.bench.measures import longest_gap_s
from tests.hosts.reach import CheckedRack

CONCURRENCY = 2


@dataclass(frozen=True)
class ModelAway:
    """What clients of one model saw; times in seconds."""

    model_id: str
    requests: int
    failed: int
    away_s: float
    """The longest time without a good answer."""


@dataclass(frozen=True)
class Rotation:
    """One rotation: the models in the order of the list, and how long the deploy took."""

    models: tuple[ModelAway, ...]
    deploy_s: float


class EmbeddingEndpoint(Endpoint):
    """For a pooling model, whose answers hold no completion."""

    @property
    def body(self) -> bytes:
        return json.dumps({"model": self.model, "input": self.prompt}).encode()


def endpoint_of(model: Model, gateway: Endpoint) -> Endpoint:
    """The endpoint of a model, reached and entered as ``gateway`` is."""
    pooling = model.runner == "pooling"
    kind, path, tokens = (EmbeddingEndpoint, "embeddings", 0) if pooling else (Endpoint, "completions", 1)
    return kind(
        gateway.host,
        gateway.port,
        f"{model.route_prefix}/{path}",
        model.model_id,
        tokens=tokens,
        key=gateway.key,
        trusted=gateway.trusted,
    )


async def under_load(endpoints: list[Endpoint], inventory: str) -> tuple[list[list[Answer]], float]:
    """Rotate by a deploy while every endpoint is asked. The deploy waits until all models have answered again."""
    stop = asyncio.Event()
    loads = [
        asyncio.create_task(steady_load(each, concurrency=CONCURRENCY, until=stop, pause_s=PAUSE_S))
        for each in endpoints
    ]
    try:
        await asyncio.sleep(SETTLE_S)
        deploy_s = await deploy(inventory, "rotate_ray_token=true")
        await asyncio.sleep(SETTLE_S)
    finally:
        stop.set()
        answers = await asyncio.gather(*loads)
    return answers, deploy_s


def measure(checked: CheckedRack, inventory: str, tell: Callable[[str], None]) -> Rotation:
    """Rotate once."""
    models = checked.rack.models
    tell(f"rotating Ray's token by a deploy, with {len(models)} models asked all the time")
    with gateway_endpoint(checked, models[0]) as gateway:
        answers, deploy_s = asyncio.run(under_load([endpoint_of(model, gateway) for model in models], inventory))
    return Rotation(tuple(map(away, models, answers)), deploy_s)


def away(model: Model, answers: list[Answer]) -> ModelAway:
    began, ended = min(answer.began_s for answer in answers), max(answer.ended_s for answer in answers)
    failed = sum(not answer.good for answer in answers)
    return ModelAway(model.model_id, len(answers), failed, longest_gap_s(answers, began, ended))
