"""One systemd unit and one env file for each model of the list, on the head."""

import hashlib
import io
import shlex
from collections.abc import Generator, Sequence
from pathlib import Path

from pyinfra.api.command import FileUploadCommand, PyinfraCommand
from pyinfra.api.deploy import deploy
from pyinfra.api.operation import operation
from pyinfra.context import host
from pyinfra.operations import files, systemd

from roles import host_programs
from roles.model_serving import env_file
from roles.model_serving.facts import ModelUnit, ModelUnits
from roles.model_serving.model import Model

HOST = Path(__file__).parent / "host"
ENV_DIR = "/etc/rayrack/models"
UNIT = "rayrack-model@.service"
MODEL_UNITS = f"{host_programs.BIN}/model_units"
ENGINE_ENVIRONMENT = f"{host_programs.LIB}/engine_environment"


@deploy("Engines")
def install_engine_environment() -> None:
    """On every node: what Ray imports there to build a model's application and to give its engines their secrets."""
    for name in ("rayrack_application.py", "sitecustomize.py"):
        files.put(
            name=f"Module {name} for engines",
            src=str(HOST / "engine_environment" / name),
            dest=f"{ENGINE_ENVIRONMENT}/{name}",
            user="root",
            group="root",
            mode="644",
        )


@deploy("Model serving")
def install(*, models: Sequence[Model]) -> None:
    """On the head: programs, unit, and a running unit for each model of ``models``; any other model is removed.

    Touches only the units of models whose settings have changed, and waits for removals only: ``roles.verification`` is
    the last step of a run, so that a model that fails does not keep the rest of the rack from being deployed.
    """
    host_programs.install(
        name="Programs of the models' units",
        programs=[HOST / f"{name}.py" for name in ("model_unit", "model_units")],
        modules=[
            HOST / f"{name}.py"
            for name in (
                "app_state",
                "cluster_room",
                "model_host",
                "model_start",
                "serve_api",
                "serve_app",
                "start_queue",
            )
        ],
    )
    unit = files.template(
        name=f"Unit {UNIT}",
        src=f"templates/model_serving/etc/systemd/system/{UNIT}.j2",
        dest=f"/etc/systemd/system/{UNIT}",
        user="root",
        group="root",
        mode="644",
        create_remote_dir=False,
    )
    systemd.daemon_reload(name="systemd reads the models' unit", _if=unit.did_change)
    # Read when a model starts, so a change of it touches nothing that runs.
    files.put(
        name="Order in which models start",
        src=io.StringIO(env_file.start_order(models)),
        dest=env_file.START_ORDER,
        user="root",
        group="rayrack",
        mode="640",
        create_remote_dir=False,
    )
    units_match(name="Model units match the model list", models=models)


@operation()
def units_match(models: Sequence[Model]) -> Generator[PyinfraCommand | str, None, None]:
    """Env files as rendered, units enabled and running with them, and none that is not in the list.

    + models: the model list
    """
    known: dict[str, ModelUnit] = host.get_fact(ModelUnits)
    texts = {model.slug: env_file.render(model) for model in models}
    changed = [slug for slug, text in texts.items() if slug not in known or known[slug]["env_sha256"] != _sha256(text)]
    due = [slug for slug in texts if slug in known and (known[slug]["step"] != "none" or not known[slug]["enabled"])]
    if not changed and not due and not known.keys() - texts.keys():
        host.noop("model units match the model list")
        return
    for slug in changed:
        path = f"{ENV_DIR}/{slug}.env"
        upload = host.get_temp_filename(path)
        yield FileUploadCommand(
            io.StringIO(texts[slug]), f"{path}.new", remote_temp_filename=upload if isinstance(upload, str) else None
        )
        yield f"chown root:rayrack {path}.new && chmod 640 {path}.new && mv {path}.new {path}"
    yield shlex.join([MODEL_UNITS, "apply", *texts])


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
