import node_config
import pytest

from roles.ray_cluster.activation import TARGET, UNITS
from roles.ray_cluster.facts import NodeStateFact, TokenDigest
from roles.ray_cluster.node import Role
from roles.unit_state import UnitState

SHOWN = """\
Id=rayrack-head.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled
NeedDaemonReload=yes

Id=rayrack-worker.service
LoadState=not-found
ActiveState=inactive
UnitFileState=
NeedDaemonReload=no

Id=rayrack.target
LoadState=loaded
ActiveState=active
UnitFileState=disabled
NeedDaemonReload=no
"""


def test_units_are_read_as_systemd_shows_them() -> None:
    state = NodeStateFact().process(SHOWN.splitlines())
    assert state.units == {
        UNITS["head"]: UnitState(active=True, enabled=True, file_changed=True, exists=True),
        UNITS["worker"]: UnitState(active=False, enabled=False, file_changed=False, exists=False),
        TARGET: UnitState(active=True, enabled=False, file_changed=False, exists=True),
    }
    assert state.outdated == ()


def test_inputs_that_have_changed_are_listed() -> None:
    state = NodeStateFact().process([*SHOWN.splitlines(), "", "outdated Ray's token", "outdated /etc/rayrack/ray.env"])
    assert state.outdated == ("Ray's token", "/etc/rayrack/ray.env")


def test_a_node_that_is_starting_is_not_active_yet() -> None:
    state = NodeStateFact().process(SHOWN.replace("ActiveState=active", "ActiveState=activating", 1).splitlines())
    assert not state.units[UNITS["head"]].active


def test_the_record_of_a_start_is_read_and_a_broken_one_is_none() -> None:
    shown = SHOWN.splitlines()
    assert NodeStateFact().process(shown).applied is None
    assert NodeStateFact().process([*shown, 'applied { "a": "1"}', "outdated a"]).applied == {"a": "1"}
    for broken in ("applied {", "applied []"):
        assert NodeStateFact().process([*shown, broken, ""]).applied is None


@pytest.mark.parametrize("role", ["head", "worker"])
def test_the_record_is_looked_for_where_the_node_writes_it(role: Role) -> None:
    assert str(node_config.applied_file(role)) in NodeStateFact().command(role)


def test_how_long_a_start_took_is_told_when_it_is_over() -> None:
    began = SHOWN.replace("ActiveState=active", "ActiveState=active\nInactiveExitTimestampMonotonic=5000000", 1)
    for since, start_s in (("0", None), ("4000000", None), ("17500000", 12.5)):
        shown = began.replace("ActiveState=active", f"ActiveState=active\nActiveEnterTimestampMonotonic={since}", 1)
        assert NodeStateFact().process(shown.splitlines()).units[UNITS["head"]].start_s == start_s


def test_no_token_has_no_digest() -> None:
    assert TokenDigest().process([]) is None
    assert TokenDigest().process(["ab12  -"]) == "ab12"


def test_a_token_s_fact_never_prints_the_token() -> None:
    assert TokenDigest().command().count("<") == 1
    assert "cat" not in TokenDigest().command()
    assert TokenDigest().command().endswith("| sha256sum; fi")
