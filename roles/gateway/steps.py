"""The gateway on a host: HAProxy of the distribution, one configuration file, one unit of our own."""

from collections.abc import Generator, Sequence

from pyinfra.api.deploy import deploy
from pyinfra.api.operation import operation
from pyinfra.context import host
from pyinfra.operations import files

from roles.base_system import packages
from roles.gateway import activation
from roles.gateway.config import CONFIG_TEMPLATE, UNIT_TEMPLATE, Gateway, GatewayConfig, GatewayModel
from roles.gateway.facts import GatewayState


@deploy("Gateway")
def install(models: Sequence[GatewayModel], gateway: GatewayConfig) -> None:
    """One endpoint for all ``models``, running and enabled at the end. Needs the user ``rayrack`` and apt's lists.

    It starts whether or not Serve is up: a model is listed once its health check succeeds.
    """
    wanted = Gateway.of(models, gateway)
    # Masked before it is installed: the package would start its own service.
    files.link(
        name="The distribution's HAProxy service never takes a port",
        path=f"/etc/systemd/system/{activation.DISTRIBUTION_UNIT}",
        target="/dev/null",
    )
    packages.present(name="HAProxy", packages=["haproxy", "curl"])
    files.directory(
        name="Directory of the gateway", path=activation.DIRECTORY, user="root", group="rayrack", mode="750"
    )
    files.template(
        name="Gateway configuration",
        src=CONFIG_TEMPLATE,
        dest=activation.CANDIDATE,
        user="root",
        group="rayrack",
        mode="640",
        create_remote_dir=False,
        gateway=wanted,
    )
    files.template(
        name="Gateway unit",
        src=UNIT_TEMPLATE,
        dest=f"/etc/systemd/system/{activation.UNIT}",
        user="root",
        group="root",
        mode="644",
        create_remote_dir=False,
        gateway=wanted,
    )
    activate(name="The gateway runs this configuration", wanted=wanted)


@operation()
def activate(wanted: Gateway) -> Generator[str, None, None]:
    """Load what the host has on disk, without dropping a connection where the unit file is the same.

    + wanted: the gateway that was rendered
    """
    state = host.get_fact(GatewayState, health_url=wanted.health_url)
    pending = list(activation.commands(state, wanted))
    if not pending:
        host.noop("the gateway already runs this configuration")
    yield from pending
