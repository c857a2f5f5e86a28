"""The last step of a run: every model has answered and clients can reach it, or the run ends with the reasons."""

import shlex
from collections.abc import Generator, Sequence
from pathlib import Path

from pyinfra import logger
from pyinfra.api.command import PyinfraCommand
from pyinfra.api.deploy import deploy
from pyinfra.api.operation import operation
from pyinfra.context import host, state

from roles import host_programs
from roles.model_serving.facts import ModelUnit, ModelUnits
from roles.model_serving.model import Model
from roles.shown_command import ShownCommand
from roles.verification.facts import CHECK_GATEWAY, SeenByClients

HOST = Path(__file__).parent / "host"
# The gateway asks each model for its health every two seconds.
LISTED_WITHIN_S = 30


@deploy("Verification")
def wait_until_ready(*, models: Sequence[Model]) -> None:
    """On the head: wait for every model, with a line per model every ten seconds.

    Fails when a model has failed, after all have come to an end, with a line for each that says why.
    """
    units_ready(name="Every model has answered its warm-up request", models=models)


@deploy("Verification")
def wait_until_listed(*, models: Sequence[Model], gateway_url: str, first_key: Sequence[str]) -> None:
    """On a host with a gateway, when the models are ready: wait until it lists them all, asked as clients ask it.

    ``gateway_url`` is where the host reaches its own gateway, without a path. When there is no API key yet, ends with
    the lines ``first_key``, which say how to get in.
    """
    host_programs.install(
        name="Program that asks the gateway",
        programs=[HOST / "check_gateway.py"],
        modules=[HOST / "gateway_client.py"],
    )
    listed(name="The gateway lists every model", models=models, gateway_url=gateway_url, first_key=first_key)


@operation()
def units_ready(models: Sequence[Model]) -> Generator[PyinfraCommand, None, None]:
    """Wait for the units of the models; each has a limit of its own, ``start_timeout_s``.

    + models: the model list
    """
    known: dict[str, ModelUnit] = host.get_fact(ModelUnits)
    if all(model.slug in known and known[model.slug]["ready"] for model in models):
        host.noop("every model is ready")
        return
    yield ShownCommand(shlex.join([f"{host_programs.BIN}/model_units", "wait", *(model.slug for model in models)]))


@operation()
def listed(models: Sequence[Model], gateway_url: str, first_key: Sequence[str]) -> Generator[str, None, None]:
    """Wait until clients can see the models; then tell how to make the first key, if there is none.

    + models: the model list
    + gateway_url: where the gateway answers on its host
    + first_key: what to tell when there is none
    """
    if not state.is_executing:
        # A plan makes no key, and has nothing to tell: to ask and to wait changes nothing.
        host.noop("the gateway is asked at the end of a run")
        return
    seen = host.get_fact(SeenByClients, url=gateway_url, prefixes=sorted({model.route_prefix for model in models}))
    missing = [model for model in models if (model.route_prefix, model.model_id) not in seen.listed]
    if missing:
        wanted = [f"{model.slug} {model.route_prefix} {model.model_id}" for model in missing]
        yield shlex.join([CHECK_GATEWAY, "wait", gateway_url, str(LISTED_WITHIN_S), *wanted])
    else:
        host.noop("the gateway lists every model")
    if not seen.keys:
        for line in first_key:
            logger.info(line)
