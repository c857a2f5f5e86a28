"""What systemctl says, read back."""

from roles.unit_state import SHOWN, UnitState, blocks

RUNNING = dict(zip(SHOWN, ("a.service", "loaded", "active", "enabled", "yes"), strict=True))


def test_each_unit_has_a_block_whatever_empty_lines_stand_around() -> None:
    assert list(blocks(["Id=a", "X=1=2", "", "", "Id=b"])) == [{"Id": "a", "X": "1=2"}, {"Id": "b"}]
    assert list(blocks([])) == []


def test_a_unit_is_what_its_properties_say() -> None:
    assert UnitState.of(RUNNING, 2.5) == UnitState(
        active=True, enabled=True, file_changed=True, exists=True, start_s=2.5
    )
    missing = {
        **RUNNING,
        "LoadState": "not-found",
        "ActiveState": "inactive",
        "UnitFileState": "",
        "NeedDaemonReload": "",
    }
    assert UnitState.of(missing) == UnitState(active=False, enabled=False, file_changed=False, exists=False)
