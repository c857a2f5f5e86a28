"""The firewall on a host: nftables' program, a table of rayrack's own, and two units that keep it there."""

from collections.abc import Generator

from pyinfra.api.command import PyinfraCommand
from pyinfra.api.deploy import deploy
from pyinfra.api.operation import operation
from pyinfra.context import host
from pyinfra.operations import files

from roles import host_programs
from roles.base_system import packages
from roles.firewall import activation
from roles.firewall.facts import HOST, FirewallState
from roles.firewall.rules import TEMPLATE, Rules
from roles.firewall.trial import TryRules

UNIT_DIR = "/etc/systemd/system"


@deploy("Firewall")
def install(*, rules: Rules) -> None:
    """Ray's ports closed to all but the hosts of the rack, from now on and at every boot. Needs /opt/rayrack.

    The distribution's own nftables.service stays as it is: it is for an operator's ruleset, and flushes all others.
    """
    packages.present(name="nftables", packages=["nftables"])
    host_programs.install(name="Program of the firewall", programs=[HOST / "firewall.py"])
    files.template(
        name="Firewall rules",
        src=TEMPLATE,
        dest=activation.CANDIDATE,
        user="root",
        group="root",
        mode="644",
        create_remote_dir=False,
        rules=rules,
    )
    for unit in activation.UNITS:
        files.template(
            name=f"Unit {unit}",
            src=f"templates/firewall/etc/systemd/system/{unit}.j2",
            dest=f"{UNIT_DIR}/{unit}",
            user="root",
            group="root",
            mode="644",
            create_remote_dir=False,
        )
    closed(name="The firewall lets in the hosts of the rack, and SSH")


@operation()
def closed() -> Generator[str | PyinfraCommand, None, None]:
    """Try the rules, confirm them, and have them loaded at every boot: whatever of that is left to do."""
    state = host.get_fact(FirewallState)
    before, after = list(activation.before_the_trial(state)), list(activation.after_the_trial(state))
    if not (before or after or activation.to_be_tried(state)):
        host.noop("these rules are loaded")
        return
    yield from before
    if activation.to_be_tried(state):
        yield TryRules()
    yield from after
