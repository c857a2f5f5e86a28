"""The gateway on a host: HAProxy of the distribution, one configuration file, one unit and a user of its own."""

import shlex
from collections.abc import Generator, Sequence
from pathlib import Path

from pyinfra.api.deploy import deploy
from pyinfra.api.operation import operation
from pyinfra.context import host
from pyinfra.operations import files

from roles import host_programs
from roles.base_system import packages, users
from roles.gateway import activation
from roles.gateway.config import CONFIG_TEMPLATE, DIRECTORY, UNIT_TEMPLATE, Gateway, GatewayConfig, GatewayModel
from roles.gateway.facts import CertificateWell, GatewayPlaces, GatewayState, GatewayUnit

HOST = Path(__file__).parent / "host"
USER = users.GATEWAY
KEYS = f"{DIRECTORY}/keys"
# What must be there before HAProxy starts; a map may be empty.
PLACES = {
    DIRECTORY: f"root:{USER} 750",
    KEYS: f"root:{USER} 750",
    f"{KEYS}/declared.map": f"root:{USER} 640",
    f"{KEYS}/made.map": f"root:{USER} 640",
}


@deploy("Gateway")
def install(*, models: Sequence[GatewayModel], gateway: GatewayConfig) -> None:
    """All that the gateway needs but certificate and keys. Needs apt's lists, rayrack's directories and the user.

    What a deploy declares of those goes on the host after this, and before ``start``.
    """
    wanted = Gateway.of(models, gateway)
    # Masked before it is installed: the package would start its own service.
    files.link(
        name="The distribution's HAProxy service never takes a port",
        path=f"/etc/systemd/system/{activation.DISTRIBUTION_UNIT}",
        target="/dev/null",
    )
    packages.present(name="HAProxy", packages=["haproxy", "curl", "openssl"])
    host_programs.install(
        name="Programs of the gateway",
        programs=[HOST / "api_keys.py", HOST / "gateway_certificate.py"],
        modules=[HOST / "gateway_keys.py", HOST / "gateway_processes.py"],
    )
    in_place(name="Directories and key files of the gateway")
    files.template(
        name="Gateway configuration",
        src=CONFIG_TEMPLATE,
        dest=activation.CANDIDATE,
        user="root",
        group=USER,
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


@deploy("Gateway")
def start(*, models: Sequence[GatewayModel], gateway: GatewayConfig, names: Sequence[str]) -> None:
    """The gateway running and enabled, with a certificate, and every process of it holding the keys of the files.

    It starts whether or not Serve is up: a model is listed once its health check succeeds. ``names`` are what clients
    may call this host; a certificate that is not ours is left as it is.
    """
    certificate(name="The gateway has a certificate", names=names)
    activate(name="The gateway runs this configuration", wanted=Gateway.of(models, gateway))


@deploy("Gateway")
def remove() -> None:
    """No gateway: one that an earlier deploy made is stopped. Its files stay, keys and certificate among them."""
    stopped(name="No gateway on this host")


@operation()
def stopped() -> Generator[str, None, None]:
    """Stop and disable the unit, where there is one."""
    if host.get_fact(GatewayUnit):
        yield f"systemctl disable --now {activation.UNIT}"
    else:
        host.noop("there is none")


@operation()
def in_place() -> Generator[str, None, None]:
    """Make what is missing, and give it its owner and mode. What a file holds stays."""
    found = host.get_fact(GatewayPlaces, paths=list(PLACES))
    wrong = [path for path, state in PLACES.items() if found.get(path) != state]
    if not wrong:
        host.noop("they are there")
    for path in wrong:
        owner, mode = PLACES[path].split(" ")
        make = f"[ -f {path} ] || : >{path}" if path.endswith(".map") else f"mkdir -p {path}"
        yield f"umask 077; {{ {make}; }} && chown {owner} {path} && chmod {mode} {path}"


@operation()
def certificate(names: Sequence[str]) -> Generator[str, None, None]:
    """Have a certificate: somebody else's as it is, or one made on the host.

    + names: what clients may call this host
    """
    if host.get_fact(CertificateWell, names=list(names)):
        host.noop("there is a certificate")
    else:
        yield shlex.join([f"{host_programs.BIN}/gateway_certificate", "ensure", *names])


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
