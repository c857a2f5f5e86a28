"""One model under steady load while another is added and removed by real deploys."""

import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from roles.model_serving.model import Model
from tests.bench.deploys import DEPLOY_LIMIT_S, DeployError, deploy_command
from tests.bench.gateway import gateway_endpoint
from tests.bench.load import Answer, Endpoint, steady_load
from tests.bench.measures import longest_gap_s
from tests.hosts.reach import CheckedRack

ADDED_MODEL_ID = "added-by-the-bench"
QUIET_S = 20.0
SETTLE_S = 5.0
CONCURRENCY = 2
PAUSE_S = 0.1


@dataclass(frozen=True)
class Churn:
    """What the model under load showed; times in seconds."""

    model_id: str
    requests: int
    problems: tuple[str, ...]
    longest_gap_s: float
    quiet_gap_s: float
    add_s: float
    remove_s: float


def list_with_one_more(text: str, model_id: str) -> str:
    """The model list ``text`` with a copy of ``model_id``'s entry under another name.

    Raises:
        ValueError: the list has no such model.
    """
    document = yaml.safe_load(text)
    for entry in document["models"]:
        if entry["model_id"] == model_id:
            copy = {key: value for key, value in entry.items() if key != "slug"}
            copy["model_source"] = entry.get("model_source", model_id)
            copy["model_id"] = ADDED_MODEL_ID
            return yaml.safe_dump({**document, "models": [*document["models"], copy]}, sort_keys=False)
    raise ValueError(f"the list has no model {model_id}")


async def deploy(inventory: str, *data: str) -> float:
    """Run a real deploy beside the load; returns its seconds.

    Raises:
        DeployError: it failed.
    """
    began = time.monotonic()
    run = await asyncio.create_subprocess_exec(
        *deploy_command(inventory, *data), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await asyncio.wait_for(run.communicate(), DEPLOY_LIMIT_S)
    except TimeoutError:
        run.kill()
        raise DeployError(f"a deploy took longer than {DEPLOY_LIMIT_S} s") from None
    if run.returncode != 0:
        raise DeployError(f"the deploy ended with {run.returncode}:\n{output.decode()[-3000:]}")
    return time.monotonic() - began


async def under_load(
    endpoint: Endpoint, inventory: str, longer_list: Path, tell: Callable[[str], None]
) -> tuple[list[Answer], float, float]:
    """Add and remove the model under load. The inventory's own list is deployed at the end in any case."""
    stop = asyncio.Event()
    load = asyncio.create_task(steady_load(endpoint, concurrency=CONCURRENCY, until=stop, pause_s=PAUSE_S))
    try:
        await asyncio.sleep(SETTLE_S)
        try:
            tell("adding a model by a deploy, under load")
            add_s = await deploy(inventory, f"models_file={longer_list}")
            await asyncio.sleep(SETTLE_S)
        finally:
            tell("removing it by a deploy, under load")
            remove_s = await deploy(inventory)
        await asyncio.sleep(SETTLE_S)
    finally:
        stop.set()
        answers = await load
    return answers, add_s, remove_s


def measure(checked: CheckedRack, inventory: str, model: Model, tell: Callable[[str], None]) -> Churn:
    """A quiet stretch first, to have something to compare the longest gap with."""
    settings = checked.head.rack_host.settings
    if settings.models_file is None:
        raise DeployError(f"{inventory} sets no models_file to add a model to")
    with gateway_endpoint(checked, model) as endpoint, tempfile.TemporaryDirectory() as directory:
        tell(f"steady load on {model.model_id} for {QUIET_S:.0f} s, nothing else going on")
        quiet = asyncio.run(steady_load(endpoint, concurrency=CONCURRENCY, seconds=QUIET_S, pause_s=PAUSE_S))
        longer_list = Path(directory) / "models.yaml"
        longer_list.write_text(list_with_one_more(Path(settings.models_file).read_text(), model.model_id))
        answers, add_s, remove_s = asyncio.run(under_load(endpoint, inventory, longer_list, tell))
    return Churn(
        model.model_id,
        len(answers),
        tuple(answer.problem for answer in answers if not answer.good),
        _gap(answers),
        _gap(quiet),
        add_s,
        remove_s,
    )


def _gap(answers: list[Answer]) -> float:
    return longest_gap_s(answers, min(answer.began_s for answer in answers), max(answer.ended_s for answer in answers))
