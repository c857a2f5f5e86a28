"""One Ray node on a host: its programs, env file and unit, the cluster's token, and the node running with them."""

from collections.abc import Generator
from pathlib import Path

from pyinfra.api.deploy import deploy
from pyinfra.api.host import Host
from pyinfra.api.operation import operation
from pyinfra.context import host
from pyinfra.operations import files

from roles import host_programs
from roles.ray_cluster import activation, token
from roles.ray_cluster.facts import NodeStateFact
from roles.ray_cluster.node import NodeConfig

HOST = Path(__file__).parent / "host"
TEMPLATES = "templates/ray_cluster"


@deploy("Ray's token")
def install_token(*, head: Host | None, instead_of: str | None = None) -> None:
    """The token that a whole cluster shares: made on the head, where ``head`` is None, and brought to its workers.

    On all hosts before a node restarts with it: a run that is cut short there leaves the cluster as it was.
    ``instead_of``: the digest of a token that is to be replaced by a new one.
    """
    if head is None:
        token.made(name="made", instead_of=instead_of)
    else:
        token.copied_from(name="from the head", head=head, instead_of=instead_of)


@deploy("Ray head")
def install_head(*, node: NodeConfig) -> None:
    """A running, enabled head."""
    _node(node)


@deploy("Ray worker")
def install_worker(*, node: NodeConfig) -> None:
    """A running, enabled worker of a head that has been installed already, in this run or an earlier one."""
    _node(node)


def _node(node: NodeConfig) -> None:
    host_programs.install(
        name="Programs of the node",
        programs=[HOST / "ray_node.py"],
        modules=[HOST / f"{name}.py" for name in ("systemd", "node_config", "node_checks")],
    )
    files.template(
        name="Env file of the node",
        src=f"{TEMPLATES}/etc/rayrack/ray.env.j2",
        dest="/etc/rayrack/ray.env",
        user="root",
        group="rayrack",
        mode="640",
        create_remote_dir=False,
        node=node,
    )
    for unit in (node.unit, activation.TARGET):
        files.template(
            name=f"Unit {unit}",
            src=f"{TEMPLATES}/etc/systemd/system/{unit}.j2",
            dest=f"{activation.UNIT_DIR}/{unit}",
            user="root",
            group="root",
            mode="644",
            create_remote_dir=False,
            node=node,
        )
    running(name=f"{node.unit} runs with these", node=node)


@operation()
def running(node: NodeConfig) -> Generator[str, None, None]:
    """Enable the node, and restart it when anything it was started with has changed.

    + node: the node that was rendered
    """
    pending = list(activation.commands(host.get_fact(NodeStateFact, role=node.role), node.role))
    if not pending:
        host.noop(f"{node.unit} already runs with these")
    yield from pending
