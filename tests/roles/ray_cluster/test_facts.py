from roles.ray_cluster.activation import TARGET, UNITS, UnitState
from roles.ray_cluster.facts import NodeStateFact, TokenDigest

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


def test_no_token_has_no_digest() -> None:
    assert TokenDigest().process([]) is None
    assert TokenDigest().process(["ab12  -"]) == "ab12"


def test_a_token_s_fact_never_prints_the_token() -> None:
    assert TokenDigest().command().count("<") == 1
    assert "cat" not in TokenDigest().command()
    assert TokenDigest().command().endswith("| sha256sum; fi")
