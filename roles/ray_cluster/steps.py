"""One Ray node on a host: its programs, env file and unit, the cluster's token, and the node running with them."""

import shlex
from collections.abc import Generator
from pathlib import Path

from pyinfra.api.command import FunctionCommand, StringCommand
from pyinfra.api.deploy import deploy
from pyinfra.api.host import Host
from pyinfra.api.operation import operation
from pyinfra.context import host as this_host
from pyinfra.operations import files

from roles import host_programs
from roles.ray_cluster import activation
from roles.ray_cluster.facts import TOKEN, NodeStateFact, TokenDigest
from roles.ray_cluster.node import NodeConfig

HOST = Path(__file__).parent / "host"
TEMPLATES = "templates/ray_cluster"


@deploy("Ray head")
def install_head(*, node: NodeConfig) -> None:
    """A running, enabled head. The first one makes the token that all of its cluster share."""
    head_token(name="Ray's token")
    _node(node)


@deploy("Ray worker")
def install_worker(*, node: NodeConfig, head: Host) -> None:
    """A running, enabled worker of ``head``, which has been installed already, in this run or an earlier one."""
    token_of(name="Ray's token, from the head", head=head)
    _node(node)


def _node(node: NodeConfig) -> None:
    host_programs.install(
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
    pending = list(activation.commands(this_host.get_fact(NodeStateFact, role=node.role), node.role))
    if not pending:
        this_host.noop(f"{node.unit} already runs with these")
    yield from pending


@operation()
def head_token() -> Generator[str, None, None]:
    """Make the token where there is none: 32 random bytes in hexadecimal, made on the host and never shown."""
    if this_host.get_fact(TokenDigest):
        this_host.noop("the head has a token")
        return
    yield (
        f"umask 277; {{ od -An -v -tx1 -N32 /dev/urandom | tr -d ' \\n'; echo; }} >{TOKEN}.new && test -s {TOKEN}.new "
        f"&& mv -f {TOKEN}.new {TOKEN}"
    )


@operation()
def token_of(head: Host) -> Generator[FunctionCommand, None, None]:
    """Give this host the token of the head.

    + head: the cluster's head
    """
    wanted = head.get_fact(TokenDigest)
    if wanted and wanted == this_host.get_fact(TokenDigest):
        this_host.noop("the token is the head's")
        return
    yield FunctionCommand(_copy_token, (head,), {})


def _copy_token(head: Host) -> None:
    """Through this process's memory: pyinfra's file operations would show it with --diff, and a command with -vvv."""
    found, output = head.run_shell_command(
        StringCommand("cat", TOKEN), print_output=False, print_input=False, _sudo=_needs_sudo(head)
    )
    if not found:
        raise OSError(f"{head.name} has no token for Ray at {TOKEN}: deploy the head first")
    write = f"umask 277; cat >{TOKEN}.new && mv -f {TOKEN}.new {TOKEN}"
    written, _ = this_host.run_shell_command(
        StringCommand("sh", "-c", shlex.quote(write)),
        print_output=False,
        print_input=False,
        _stdin=output.stdout,
        _sudo=_needs_sudo(this_host),
    )
    if not written:
        raise OSError(f"{this_host.name}: cannot write {TOKEN}")


def _needs_sudo(host: Host) -> bool:
    return bool(host.data.get("_sudo", False))
