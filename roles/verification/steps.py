"""The last step of a run: every model has answered and clients can reach it, or the run ends with the reasons."""

import shlex
from collections.abc import Generator, Sequence

from pyinfra.api.command import PyinfraCommand
from pyinfra.api.deploy import deploy
from pyinfra.api.operation import operation
from pyinfra.context import host

from roles import host_programs
from roles.model_serving.facts import ModelUnit, ModelUnits
from roles.model_serving.model import Model
from roles.shown_command import ShownCommand
from roles.verification.facts import ListedModels

# The gateway asks each model for its health every two seconds.
LISTED_WITHIN_S = 30


@deploy("Verification")
def wait_until_served(*, models: Sequence[Model], gateway_url: str) -> None:
    """On the head: wait for every model, with a line per model every ten seconds, then for the gateway to list them.

    Fails when a model has failed, after all have come to an end, with a line for each that says why. ``gateway_url`` is
    where the head reaches its own gateway, without a path.
    """
    units_ready(name="Every model has answered its warm-up request", models=models)
    listed(name="The gateway lists every model", models=models, gateway_url=gateway_url)


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
def listed(models: Sequence[Model], gateway_url: str) -> Generator[str, None, None]:
    """Wait until clients can see the models.

    + models: the model list
    + gateway_url: where the gateway answers
    """
    prefixes = sorted({model.route_prefix for model in models})
    found = host.get_fact(ListedModels, base_url=gateway_url, prefixes=prefixes)
    missing = [model for model in models if (model.route_prefix, model.model_id) not in found]
    if not missing:
        host.noop("the gateway lists every model")
    for model in missing:
        ask = f"curl -gs --noproxy '*' --max-time 5 {shlex.quote(f'{gateway_url}{model.route_prefix}/models')}"
        entry = shlex.quote(f'"id":"{model.model_id}"')
        wait = f"until {ask} | grep -qF {entry}; do sleep 1; done"
        problem = (
            f"{model.slug}: ready, but not listed by the gateway on {model.route_prefix} within {LISTED_WITHIN_S} s: "
            "see journalctl -u rayrack-gateway"
        )
        yield f"timeout {LISTED_WITHIN_S} sh -c {shlex.quote(wait)} || {{ echo {shlex.quote(problem)} >&2; exit 1; }}"
