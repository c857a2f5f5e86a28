"""What goes and what stays, decided from numbers alone."""

import math

import pytest
from clean_ray_plan import (
    EAGER_LOG_BYTES,
    KEPT_OF_LOG_BYTES,
    MIB,
    SETTLED_S,
    Action,
    FileSystem,
    Part,
    Session,
    plan,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.roles.ray_cleanup.trees import DAY_S, HOUR_S, limits

GIB = 2**30
ROOMY = FileSystem(100 * GIB, 90 * GIB, 1000, 900)


def disk(used_percent: float, inodes_used_percent: float = 0) -> FileSystem:
    return FileSystem(100 * GIB, int((100 - used_percent) * GIB), 10_000, round(100 * (100 - inodes_used_percent)))


def dead(name: str, *, gib: float = 1, hours: float = 5) -> Session:
    return Session(name, None, int(gib * GIB), hours * HOUR_S)


def living(*logs: Part, spills: tuple[Part, ...] = ()) -> Session:
    return Session("living", "raylet (pid 1)", logs=logs, spills=spills)


def log(path: str, *, mib: float = 1, hours: float = 1, used_by: str | None = None) -> Part:
    return Part(path, int(mib * MIB), hours * HOUR_S, used_by)


def what(actions: list[Action]) -> list[tuple[str, str]]:
    return [(action.kind, action.path or action.session) for action in actions]


def test_a_dead_session_goes_once_it_is_old_enough() -> None:
    actions = plan([dead("old", hours=1), dead("young", hours=0.9)], ROOMY, limits(min_age_s=HOUR_S))
    assert [str(action) for action in actions] == [
        "remove old (1024.0 MiB): no process uses it, last written to 60 min ago"
    ]


def test_a_session_in_use_stays_however_old_and_full_the_disk() -> None:
    assert plan([Session("used", "raylet (pid 1)", age_s=1000 * DAY_S)], disk(100), limits(eager_percent=80)) == []


def test_spilled_objects_go_with_their_node() -> None:
    spills = (
        Part("ray_spilled_objects_aa", GIB, 2 * HOUR_S, None),
        Part("ray_spilled_objects_bb", GIB, 2 * HOUR_S, "raylet (pid 1)"),
        Part("ray_spilled_objects_cc", GIB, 0, None),
    )
    assert what(plan([living(spills=spills)], ROOMY, limits())) == [("spill", "ray_spilled_objects_aa")]


def test_a_log_goes_when_it_is_too_old_and_nobody_has_it_open() -> None:
    logs = (
        log("logs/old.log", hours=200),
        log("logs/empty.err", mib=0, hours=200),
        log("logs/open.log", hours=200, used_by="worker (pid 2)"),
        log("logs/new.log", hours=1),
    )
    actions = plan([living(*logs)], ROOMY, limits())
    assert what(actions) == [("log", "logs/old.log"), ("log", "logs/empty.err")]
    assert actions[0].why == "nobody has it open, last written to 200 h ago"


def test_the_oldest_logs_go_until_all_logs_are_within_the_budget() -> None:
    logs = (
        log("logs/a.log", mib=30, hours=1),
        log("logs/b.log.1", mib=30, hours=3),
        log("logs/b.log.2", mib=30, hours=4),
        log("logs/open.log", mib=30, hours=9, used_by="worker (pid 2)"),
    )
    (action,) = plan([living(*logs)], ROOMY, limits(log_budget_bytes=100 * MIB))
    assert action.path == "logs/b.log.2"
    assert action.why == "all logs are above 100 MiB, this is the oldest, 4 h ago"


def test_a_log_written_to_just_now_is_not_taken_for_the_budget() -> None:
    logs = (log("logs/just.log", mib=200, hours=(SETTLED_S - 1) / HOUR_S),)
    assert plan([living(*logs)], ROOMY, limits(log_budget_bytes=100 * MIB)) == []


def test_a_log_in_use_is_cut_when_it_runs_away_and_its_end_stays() -> None:
    logs = (
        log("logs/runaway.out", mib=3000, hours=0, used_by="worker (pid 2)"),
        log("logs/large.out", mib=900, hours=0, used_by="worker (pid 2)"),
    )
    (action,) = plan([living(*logs)], ROOMY, limits(runaway_log_bytes=1024 * MIB))
    assert str(action) == "cut living/logs/runaway.out (2999.0 MiB): in use and above 1024 MiB; worker (pid 2)"


def test_nothing_young_goes_while_there_is_room() -> None:
    everything = [dead("young", hours=0.5), living(log("logs/a.log", mib=500))]
    assert plan(everything, disk(80), limits(eager_percent=80)) == []


def test_on_a_full_disk_what_is_missed_least_goes_first_and_only_until_there_is_room() -> None:
    everything = [
        dead("younger", gib=2, hours=0.3),
        dead("young", gib=2, hours=0.5),
        living(
            log("logs/newer.log", mib=1024, hours=1),
            log("logs/older.log", mib=1024, hours=2),
            log("logs/used.log", mib=2049, hours=0, used_by="worker (pid 2)"),
        ),
    ]
    order = [
        ("session", "young"),
        ("session", "younger"),
        ("log", "logs/older.log"),
        ("log", "logs/newer.log"),
        ("cut", "logs/used.log"),
    ]
    for used_percent, how_many in ((81, 1), (82, 1), (83, 2), (84.5, 3), (86, 4), (87, 5), (99, 5)):
        assert what(plan(everything, disk(used_percent), limits(eager_percent=80))) == order[:how_many]


def test_what_goes_anyway_counts_before_a_young_session_has_to_go() -> None:
    everything = [dead("old", gib=5, hours=5), dead("young", gib=5, hours=0.5)]
    assert what(plan(everything, disk(84), limits(eager_percent=80))) == [("session", "old")]


def test_a_session_that_starts_stays_on_a_full_disk_too() -> None:
    starting = dead("starting", hours=(SETTLED_S - 1) / HOUR_S)
    assert plan([starting, dead("young", hours=0.5)], disk(99), limits(eager_percent=80))[0].session == "young"
    assert plan([starting], disk(99), limits(eager_percent=80)) == []


def test_without_inodes_everything_dead_goes_empty_files_too() -> None:
    everything = [dead("young", gib=0, hours=0.5), living(log("logs/empty.err", mib=0))]
    full_of_inodes = disk(10, inodes_used_percent=90)
    assert what(plan(everything, full_of_inodes, limits(eager_percent=80))) == [
        ("session", "young"),
        ("log", "logs/empty.err"),
    ]


def test_used_is_counted_as_ray_counts_it() -> None:
    # 1 - available / capacity: 5 GiB kept back for root are used.
    assert FileSystem(100 * GIB, 5 * GIB, 0, 0).used_percent == pytest.approx(95)


def test_a_file_system_without_a_fixed_number_of_inodes_never_lacks_them() -> None:
    assert FileSystem(100, 100, 0, 0).inodes_used_percent == 0
    assert FileSystem(100, 100, 0, 0).bytes_above(80) == 0
    assert disk(0, inodes_used_percent=81).bytes_above(80) == math.inf


ages = st.floats(0, 30 * DAY_S)
users = st.none() | st.just("worker (pid 2)")
parts = st.lists(st.tuples(st.integers(0, 4 * GIB), ages, users), max_size=6)
states = st.builds(
    lambda used_by, size, age, logs, spills: (used_by, size, age, logs, spills),
    users,
    st.integers(0, 20 * GIB),
    ages,
    parts,
    parts,
)


def built(
    drawn: list[
        tuple[str | None, int, float, list[tuple[int, float, str | None]], list[tuple[int, float, str | None]]]
    ],
) -> list[Session]:
    return [
        Session(
            f"session-{number}",
            used_by,
            0 if used_by else size,
            0 if used_by else age,
            tuple(Part(f"logs/{index}.log", *part) for index, part in enumerate(logs)) if used_by else (),
            tuple(Part(f"ray_spilled_objects_{index}", *part) for index, part in enumerate(spills)) if used_by else (),
        )
        for number, (used_by, size, age, logs, spills) in enumerate(drawn)
    ]


@given(
    st.lists(states, max_size=5),
    st.floats(0, 100),
    st.floats(0, 100),
    st.integers(0, 8 * GIB),
    st.integers(128 * MIB, 4 * GIB),
)
def test_nothing_in_use_is_removed_and_nothing_goes_twice_whatever_there_is(
    drawn: list[object], used: float, inodes_used: float, budget: int, runaway: int
) -> None:
    sessions = built(drawn)  # type: ignore[arg-type]
    full = disk(used, inodes_used)
    actions = plan(sessions, full, limits(log_budget_bytes=budget, runaway_log_bytes=runaway, eager_percent=80))
    by_name = {session.name: session for session in sessions}
    parts_by_path = {
        f"{session.name}/{part.path}": part for session in sessions for part in (*session.logs, *session.spills)
    }
    for action in actions:
        if action.kind == "session":
            assert by_name[action.session].used_by is None
            assert by_name[action.session].age_s >= SETTLED_S
        elif action.kind == "cut":
            cut = parts_by_path[action.full_path]
            assert cut.used_by is not None
            assert cut.bytes > min(runaway, EAGER_LOG_BYTES) >= KEPT_OF_LOG_BYTES
        else:
            assert parts_by_path[action.full_path].used_by is None
    paths = [action.full_path for action in actions]
    assert len(paths) == len(set(paths))


@given(st.lists(states, max_size=5), st.floats(0, 100), st.integers(0, 8 * GIB))
def test_afterwards_there_is_room_or_nothing_dead_is_left(drawn: list[object], used: float, budget: int) -> None:
    sessions = built(drawn)  # type: ignore[arg-type]
    full = disk(used)
    actions = plan(sessions, full, limits(log_budget_bytes=budget, eager_percent=80))
    gone = {action.full_path for action in actions}
    settled_dead = {
        *(each.name for each in sessions if each.used_by is None and each.age_s >= SETTLED_S and each.bytes),
        *(
            f"{each.name}/{part.path}"
            for each in sessions
            for part in (*each.logs, *each.spills)
            if part.used_by is None and part.age_s >= SETTLED_S and part.bytes
        ),
    }
    freed = sum(action.bytes for action in actions)
    assert settled_dead <= gone or freed >= full.bytes_above(80)
    logs = [(f"{each.name}/{part.path}", part) for each in sessions for part in each.logs]
    left = sum(part.bytes for path, part in logs if path not in gone)
    unused_left = {path for path, part in logs if path not in gone and part.used_by is None and part.age_s >= SETTLED_S}
    assert left <= budget or all(dict(logs)[path].bytes == 0 for path in unused_left)
