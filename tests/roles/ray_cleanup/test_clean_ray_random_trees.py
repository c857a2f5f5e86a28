"""Random session trees on a real disk, with living and dead processes: what somebody uses stays, what is dead goes."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import clean_ray
import clean_ray_files
import clean_ray_uses
from clean_ray_plan import FileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.roles.ray_cleanup.trees import FakeProcess, ProcessTable, limits, make_file, session_name, set_age

KIB = 2**10
LOG_MAX_AGE_HOURS = 100
MIN_AGE_HOURS = 1
ROOMY, FULL = FileSystem(100, 100, 0, 0), FileSystem(10**9, 0, 0, 0)

# Young, old enough for a dead session, and too old for a log; never near a limit.
hours = st.sampled_from([0.5, 5.0, 500.0])
log_names = st.sampled_from(
    ["logs/raylet.out", "logs/raylet.1.out", "logs/dashboard.log.2", "logs/old/worker-1.err", "logs/serve/proxy.log"]
)
other_names = st.sampled_from(
    [
        "gcs_server_port_ab",
        "node_ip_address.json",
        "runtime_resources/pip/a.log",
        "logs/profile.json",
        "metrics/x/y.yml",
    ]
)
node_ids = st.sampled_from(["aa", "bb"])


@dataclass(frozen=True)
class Tree:
    """A session as it is drawn: ages in hours by path."""

    logs: dict[str, float]
    others: dict[str, float]
    spills: dict[str, float]
    """By node id."""


@dataclass(frozen=True)
class Process:
    """What a process does with the session of that number; a dead one has left nothing in the process table."""

    session: int
    use: str
    log: str
    node: str
    alive: bool


trees = st.builds(
    Tree,
    st.dictionaries(log_names, hours, min_size=1),
    st.dictionaries(other_names, hours),
    st.dictionaries(node_ids, hours),
)
USES_OF_A_LOG = ("holds log", "holds deleted log", "maps log", "names log")
USES_OF_THE_SESSION = ("names session", "is in session", "has a socket", "has it mounted", "is its node")
processes = st.builds(
    Process, st.integers(0, 3), st.sampled_from(USES_OF_A_LOG + USES_OF_THE_SESSION), log_names, node_ids, st.booleans()
)


def in_table(process: Process, session: str) -> FakeProcess:
    log = f"{session}/{process.log}"
    return {
        "holds log": FakeProcess(open_paths=(log,)),
        "holds deleted log": FakeProcess(open_paths=(f"{log} (deleted)",)),
        "maps log": FakeProcess(mapped=(log,)),
        "names log": FakeProcess(command_line=("raylet", f"--stdout_filepath={log}")),
        "names session": FakeProcess(command_line=("agent", f"--session-dir={session}")),
        "is in session": FakeProcess(working_directory=f"{session}/logs"),
        "has a socket": FakeProcess(bound_sockets=(f"{session}/sockets/raylet",)),
        "has it mounted": FakeProcess(mount_sources=(session,)),
        "is its node": FakeProcess(command_line=("raylet", f"--session={session}", f"--node_id={process.node}")),
    }[process.use]


@contextmanager
def rack(drawn: list[Tree], alive: list[Process]) -> Iterator[tuple[Path, list[Path], ProcessTable, Path]]:
    """Ray's directory, its sessions, the process table, and a directory that links lead to."""
    top = Path(tempfile.mkdtemp(prefix="clean"))
    try:
        precious = make_file(top / "precious/file.log", hours_old=500).parent
        table = ProcessTable(top / "proc")
        table.proc.mkdir()
        ray = top / "ray"
        ray.mkdir()
        sessions = [make_tree(ray / session_name(), tree, precious) for tree in drawn]
        for process in alive:
            if process.session < len(sessions):
                table.add(in_table(process, str(sessions[process.session])))
        yield ray, sessions, table, precious
    finally:
        shutil.rmtree(top)


def make_tree(session: Path, tree: Tree, precious: Path) -> Path:
    spills = {f"ray_spilled_objects_{node}/object": age for node, age in tree.spills.items()}
    ages = {**tree.logs, **tree.others, **spills}
    for path in ages:
        make_file(session / path, size=8 * KIB)
    (session / "sockets").mkdir()
    here = os.open(session / "sockets", os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as bound:  # by descriptor: the path may be too long for a socket
        bound.bind(f"/proc/self/fd/{here}/raylet")
    os.close(here)
    (session / "logs/link.log").symlink_to(precious / "file.log")
    (session / "logs/tpu_logs").symlink_to(precious)
    set_age(session, 1000)
    for path, age in ages.items():
        set_age(session / path, age)
        for node in tree.spills:
            set_age(session / f"ray_spilled_objects_{node}", tree.spills[node])
    return session


def used_logs(alive: list[Process], number: int) -> set[str]:
    return {process.log for process in alive if process.session == number and process.use in USES_OF_A_LOG}


def living_nodes(alive: list[Process], sessions: int) -> set[str]:
    """Whatever session their processes are of: no two nodes have one id."""
    return {process.node for process in alive if process.use == "is its node" and process.session < sessions}


def age_of(tree: Tree) -> float:
    return min([*tree.logs.values(), *tree.others.values(), *tree.spills.values()])


def clean(ray: Path, table: ProcessTable, disk: FileSystem, **limit: float) -> clean_ray.Outcome:
    directory = os.open(ray, os.O_RDONLY)
    measured = clean_ray_files.file_system
    clean_ray_files.file_system = lambda _: disk
    try:
        return clean_ray.clean(
            directory,
            limits(min_age_s=MIN_AGE_HOURS * 3600, log_max_age_s=LOG_MAX_AGE_HOURS * 3600, **limit),  # type: ignore[arg-type]
            lambda: clean_ray_uses.look(table.proc),
        )
    finally:
        clean_ray_files.file_system = measured
        os.close(directory)


def files_of(session: Path) -> set[str]:
    return {str(path.relative_to(session)) for path in session.rglob("*") if path.is_symlink() or not path.is_dir()}


racks = given(st.lists(trees, max_size=4), st.lists(processes, max_size=5))


@settings(deadline=None, max_examples=40)
@racks
def test_with_room_on_the_disk_exactly_the_old_and_dead_goes(drawn: list[Tree], running: list[Process]) -> None:
    alive = [process for process in running if process.alive]
    with rack(drawn, alive) as (ray, sessions, table, precious):
        before = [files_of(session) for session in sessions]
        nodes = living_nodes(alive, len(sessions))
        clean(ray, table, ROOMY)
        for number, (session, tree) in enumerate(zip(sessions, drawn, strict=True)):
            mine = [process for process in alive if process.session == number]
            if not mine:
                assert session.exists() == (age_of(tree) < MIN_AGE_HOURS)
                continue
            gone = {
                *(
                    path
                    for path, age in tree.logs.items()
                    if age > LOG_MAX_AGE_HOURS and path not in used_logs(alive, number)
                ),
                *(
                    f"ray_spilled_objects_{node}/object"
                    for node, age in tree.spills.items()
                    if age > MIN_AGE_HOURS and node not in nodes
                ),
            }
            assert files_of(session) == before[number] - gone
        assert [path.name for path in precious.iterdir()] == ["file.log"]


@settings(deadline=None, max_examples=40)
@racks
def test_on_a_full_disk_everything_dead_goes_and_nothing_else(drawn: list[Tree], running: list[Process]) -> None:
    alive = [process for process in running if process.alive]
    with rack(drawn, alive) as (ray, sessions, table, precious):
        before = [files_of(session) for session in sessions]
        nodes = living_nodes(alive, len(sessions))
        clean(ray, table, FULL, eager_percent=80)
        for number, (session, tree) in enumerate(zip(sessions, drawn, strict=True)):
            mine = [process for process in alive if process.session == number]
            assert session.exists() == bool(mine)
            if mine:
                spilled = {f"ray_spilled_objects_{node}/object" for node in tree.spills if node not in nodes}
                unused = set(tree.logs) - used_logs(alive, number)
                assert files_of(session) == before[number] - spilled - unused
        assert [path.name for path in precious.iterdir()] == ["file.log"]


@settings(deadline=None, max_examples=25)
@given(st.lists(trees, max_size=4), st.lists(processes, max_size=5), st.integers(0, 100))
def test_logs_stay_within_their_budget_unless_they_are_all_in_use(
    drawn: list[Tree], running: list[Process], budget_kib: int
) -> None:
    alive = [process for process in running if process.alive]
    with rack(drawn, alive) as (ray, sessions, table, _):
        clean(ray, table, ROOMY, log_budget_bytes=budget_kib * KIB)
        living = {process.session for process in alive}
        left = [
            (number, path)
            for number, (session, tree) in enumerate(zip(sessions, drawn, strict=True))
            if number in living
            for path in tree.logs
            if (session / path).exists()
        ]
        assert all(
            (sessions[number] / path).exists()
            for number in living & set(range(len(drawn)))
            for path in used_logs(alive, number) & set(drawn[number].logs)
        )
        assert len(left) * 8 <= budget_kib or all(path in used_logs(alive, number) for number, path in left)
