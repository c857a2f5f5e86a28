"""What counts as in use, told from a process table made of files."""

from pathlib import Path

import clean_ray_uses
import pytest

from tests.roles.ray_cleanup.trees import FakeProcess, ProcessTable, session_name

NAME = session_name()
LOG = f"{NAME}/logs/raylet.out"


@pytest.fixture
def table(tmp_path: Path) -> ProcessTable:
    table = ProcessTable(tmp_path / "proc")
    table.proc.mkdir()
    return table


def look(table: ProcessTable, *processes: FakeProcess) -> clean_ray_uses.Uses:
    for process in processes:
        table.add(process)
    return clean_ray_uses.look(table.proc)


USES_OF_A_FILE = {
    "open": FakeProcess(open_paths=(f"/tmp/ray/{LOG}",)),
    "open and deleted since": FakeProcess(open_paths=(f"/tmp/ray/{LOG} (deleted)",)),
    "open below another mount point": FakeProcess(open_paths=(f"/host/logs/{LOG}",)),
    "mapped": FakeProcess(mapped=(f"/tmp/ray/{LOG}",)),
    "a bound socket": FakeProcess(bound_sockets=(f"/tmp/ray/{LOG}",)),
    "named": FakeProcess(command_line=("raylet", f"--stdout_filepath=/tmp/ray/{LOG}")),
    "named after another": FakeProcess(command_line=("tail", f"/tmp/ray/{NAME}/logs/a.log,/tmp/ray/{LOG}")),
    "named in a shell's command": FakeProcess(command_line=("sh", "-c", f"tail -f /tmp/ray/{LOG} | grep x")),
    "named from where the process is": FakeProcess(command_line=("tail", LOG)),
    "mounted elsewhere": FakeProcess(mount_sources=(f"/tmp/ray/{LOG}",)),
}


@pytest.mark.parametrize("process", USES_OF_A_FILE.values(), ids=USES_OF_A_FILE)
def test_a_file_in_use_and_its_session_have_a_user_with_a_name(table: ProcessTable, process: FakeProcess) -> None:
    uses = look(table, FakeProcess(), process)
    assert uses.of_file(LOG) == uses.of_session(NAME) == "raylet (pid 1001)"
    assert uses.of_file(f"{NAME}/logs/other.out") is None


USES_OF_THE_SESSION_ALONE = {
    "named": FakeProcess(command_line=("raylet", f"--session-dir=/tmp/ray/{NAME}", "--x")),
    "the working directory": FakeProcess(working_directory=f"/tmp/ray/{NAME}/logs"),
    "an open directory": FakeProcess(open_paths=(f"/tmp/ray/{NAME}/logs",)),
    "mounted elsewhere": FakeProcess(mount_sources=(f"/tmp/ray/{NAME}",)),
    "within another path": FakeProcess(open_paths=(f"/tmp/ray/{session_name()}/copy/{NAME}/f",)),
}


@pytest.mark.parametrize("process", USES_OF_THE_SESSION_ALONE.values(), ids=USES_OF_THE_SESSION_ALONE)
def test_what_names_a_directory_uses_the_session_and_not_each_of_its_logs(
    table: ProcessTable, process: FakeProcess
) -> None:
    uses = look(table, process)
    assert uses.of_session(NAME) == "raylet (pid 1000)"
    assert uses.of_file(LOG) is None


def test_a_session_whose_name_only_begins_like_a_named_one_is_not_in_use(table: ProcessTable) -> None:
    uses = look(table, FakeProcess(command_line=(f"/tmp/ray/{NAME}1/logs",)))
    assert uses.of_session(NAME) is None


def test_a_directory_is_used_by_what_is_open_in_it(table: ProcessTable) -> None:
    uses = look(table, FakeProcess(open_paths=(f"/tmp/ray/{NAME}/ray_spilled_objects_ab/x",)))
    assert uses.below(f"{NAME}/ray_spilled_objects_ab") is not None
    assert uses.below(f"{NAME}/ray_spilled_objects_a") is None


@pytest.mark.parametrize("option", ["--node_id=ab12", "--node-id=ab12"])
def test_nodes_are_known_by_the_ids_in_command_lines(table: ProcessTable, option: str) -> None:
    assert look(table, FakeProcess(command_line=("raylet", option))).nodes == {"ab12": "raylet (pid 1000)"}


def test_a_process_that_ends_meanwhile_uses_nothing(table: ProcessTable) -> None:
    gone = table.add(FakeProcess())
    for name in ("cmdline", "maps", "cwd", "mountinfo"):
        (gone / name).unlink()
    (gone / "fd").rename(gone / "was_fd")
    assert look(table).sessions == {}
