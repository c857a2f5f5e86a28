"""The steps against pyinfra's @fake connector: which commands a host is given. The lab runs them for real."""

from roles.firewall import steps
from roles.firewall.addresses import HostNetwork
from roles.firewall.rules import Rules
from roles.settings import Settings
from tests.roles.fake_host import Change, Responses, changes
from tests.roles.firewall.test_facts import SHOWN

RULES = Rules.of(Settings(), HostNetwork(), {"gpu-01": ("10.0.0.1",)}, [])
CLOSED = "The firewall lets in the hosts of the rack, and SSH"
BLANK = SHOWN.replace("=active", "=inactive").replace("=enabled", "=").replace("=yes", "=no")
NAME = "0123456789abcdef"


def install(answers: Responses) -> dict[str, Change]:
    return changes(steps.install, {"uname -s": "Linux", **answers}, rules=RULES)


def test_a_blank_host_gets_the_program_the_rules_and_the_units() -> None:
    changed = install({"systemctl show": BLANK.splitlines(), "firewall try": NAME})
    put = {path for change in changed.values() for path in change.files if not path.startswith("/tmp/")}
    assert put == {
        "/opt/rayrack/lib/firewall.py",
        "/etc/rayrack/firewall.candidate.nft",
        "/etc/systemd/system/rayrack-firewall.service",
        "/etc/systemd/system/rayrack-firewall-keep.service",
        "/etc/systemd/system/rayrack-firewall-keep.timer",
    }
    assert '10.0.0.1 comment "gpu-01"' in changed["Firewall rules"].files["/etc/rayrack/firewall.candidate.nft"]
    assert changed[CLOSED].commands == (
        "systemctl enable --quiet rayrack-firewall.service rayrack-firewall-keep.timer",
        "systemctl start rayrack-firewall.service",
        "systemctl restart rayrack-firewall-keep.timer",
    )


def test_the_distribution_s_service_is_never_enabled() -> None:
    changed = install({"systemctl show": BLANK.splitlines(), "firewall try": NAME})
    assert not any("nftables.service" in command for change in changed.values() for command in change.commands)


def test_the_firewall_s_operation_does_nothing_where_all_is_done() -> None:
    done = SHOWN.replace("NeedDaemonReload=yes", "NeedDaemonReload=no")
    timer = "Id=rayrack-firewall-keep.timer\nLoadState="
    done = done.replace(
        f"{timer}not-found\nActiveState=inactive\nUnitFileState=", f"{timer}loaded\nActiveState=active\n"
    )
    done = done.replace("ActiveState=active\n\nNeed", "ActiveState=active\nUnitFileState=enabled\nNeed")
    answers: Responses = {"systemctl show": [*done.splitlines(), "", "Confirmed=yes", "Loaded=yes"]}
    assert CLOSED not in install(answers)
