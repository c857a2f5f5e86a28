"""Ray's directory through descriptors: whatever rayrack puts in the way of root, nothing outside is touched."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import clean_ray_files
import pytest
from clean_ray_files import ChangedError
from clean_ray_plan import KEPT_OF_LOG_BYTES
from clean_ray_uses import Uses

from tests.roles.ray_cleanup.trees import MIB, make_file, make_session, set_age

RENAME_EXCHANGE = 2  # linux/fs.h
NOBODY = Uses({}, {}, {}, {})
# Exchanges directories for links, by descriptors of its own, until it is killed: RAY PRECIOUS SESSION...
SWAPPER = f"""
import ctypes, os, sys
libc = ctypes.CDLL(None)
ray, precious, *names = sys.argv[1:]
top = os.open(ray, os.O_RDONLY)
swaps = []
for name in names:
    session = os.open(name, os.O_RDONLY, dir_fd=top)
    for where, place, target in ((top, name, ""), (session, "logs", "/logs"), (session, "sub", "/sub")):
        link = f"link-{{name}}-{{place}}"
        os.symlink(precious + target, link, dir_fd=top)
        swaps.append((top, link.encode(), where, place.encode(), {RENAME_EXCHANGE}))
print("ready", flush=True)
while True:
    for swap in swaps:
        libc.renameat2(*swap)
"""


@pytest.fixture
def directory(ray: Path) -> Iterator[int]:
    descriptor = os.open(ray, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A directory elsewhere that looks like a session from within."""
    for name in ("logs/raylet.out", "logs/old.log", "sub/file", "file"):
        make_file(tmp_path / "precious" / name, size=2 * MIB, hours_old=1000)
    return tmp_path / "precious"


def content(path: Path) -> dict[str, int]:
    return {str(file.relative_to(path)): file.stat().st_size for file in sorted(path.rglob("*")) if file.is_file()}


def replace_by_link(path: Path, target: Path) -> None:
    path.rename(path.with_name(path.name + ".moved"))
    path.symlink_to(target)


@pytest.mark.parametrize("what", [clean_ray_files.remove_log, clean_ray_files.cut_log, clean_ray_files.remove_tree])
@pytest.mark.parametrize("replaced", ["", "logs"], ids=["the session", "its logs"])
def test_a_directory_on_the_way_that_became_a_link_is_not_entered(
    ray: Path, directory: int, precious: Path, what: object, replaced: str
) -> None:
    session = make_session(ray)
    before = content(precious)
    replace_by_link(session / replaced, precious / replaced)
    with pytest.raises(ChangedError):
        what(directory, f"{session.name}/logs/raylet.out")  # type: ignore[operator]
    assert content(precious) == before


@pytest.mark.parametrize("what", [clean_ray_files.remove_log, clean_ray_files.cut_log, clean_ray_files.remove_tree])
def test_a_link_in_place_of_what_was_planned_is_not_followed(
    ray: Path, directory: int, precious: Path, what: object
) -> None:
    session = make_session(ray)
    before = content(precious)
    for name, target in (("file.log", precious / "file"), ("tree", precious)):
        (session / name).symlink_to(target)
        with pytest.raises(ChangedError):
            what(directory, f"{session.name}/{name}")  # type: ignore[operator]
    assert content(precious) == before


def test_a_fifo_in_place_of_a_log_does_not_stop_the_clean_up(ray: Path, directory: int) -> None:
    session = make_session(ray)
    os.mkfifo(session / "logs/fifo.log")
    with pytest.raises(ChangedError):
        clean_ray_files.cut_log(directory, f"{session.name}/logs/fifo.log")
    clean_ray_files.remove_tree(directory, session.name)
    assert not session.exists()


def test_a_file_with_a_second_name_is_not_cut(ray: Path, directory: int, precious: Path) -> None:
    # Where the kernel lets rayrack link to a file that is not its own (fs.protected_hardlinks=0).
    session = make_session(ray)
    (session / "logs/link.log").hardlink_to(precious / "file")
    with pytest.raises(ChangedError):
        clean_ray_files.cut_log(directory, f"{session.name}/logs/link.log")
    assert (precious / "file").stat().st_size == 2 * MIB


def test_a_directory_that_becomes_a_link_while_the_session_is_removed_is_not_entered(
    ray: Path, directory: int, precious: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = make_session(ray)
    (session / "sub").mkdir()
    before = content(precious)
    really = clean_ray_files._is_directory

    def swap_once_seen(entry: os.DirEntry[str]) -> bool:
        seen = really(entry)
        if seen and entry.name == "sub" and not (session / "sub").is_symlink():
            replace_by_link(session / "sub", precious)
        return seen

    monkeypatch.setattr(clean_ray_files, "_is_directory", swap_once_seen)
    with pytest.raises(OSError, match=r"Not a directory|Directory not empty"):
        clean_ray_files.remove_tree(directory, session.name)
    assert content(precious) == before


def test_while_directories_are_swapped_for_links_all_the_time_nothing_outside_is_touched(
    ray: Path, directory: int, precious: Path
) -> None:
    before = content(precious)
    made = [make_session(ray, hours_old=1000) for _ in range(30)]
    for session in made:
        make_file(session / "sub/file", hours_old=1000)
    command = [sys.executable, "-c", SWAPPER, ray, precious, *(session.name for session in made)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        for _ in range(40):
            for session in clean_ray_files.sessions(directory, NOBODY, 0):
                for what, path in (
                    (clean_ray_files.remove_log, f"{session.name}/logs/old.log"),
                    (clean_ray_files.cut_log, f"{session.name}/logs/raylet.out"),
                    (clean_ray_files.remove_tree, f"{session.name}/sub"),
                    (clean_ray_files.remove_tree, session.name),
                ):
                    try:
                        what(directory, path)
                    except (ChangedError, OSError):
                        continue
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    assert content(precious) == before
    assert len(list(ray.rglob("raylet.out"))) < len(made), "something was removed meanwhile"


def test_what_can_be_removed_goes_though_something_cannot(
    ray: Path, directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = make_session(ray)
    stuck = make_file(session / "logs/immutable.log")
    unlink = os.unlink

    def refuse(name: str, *, dir_fd: int) -> None:
        if name == stuck.name:
            raise PermissionError(1, "Operation not permitted", name)
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(PermissionError, match=r"immutable\.log"):
        clean_ray_files.remove_tree(directory, session.name)
    assert [path.name for path in session.rglob("*") if path.is_file()] == ["immutable.log"]


def test_a_log_is_cut_to_its_end(ray: Path, directory: int) -> None:
    log = make_session(ray) / "logs/worker.out"
    log.write_bytes(b"x" * (8 * MIB) + b"why\n")
    clean_ray_files.cut_log(directory, f"{log.parent.parent.name}/logs/{log.name}")
    assert log.stat().st_blocks * 512 <= KEPT_OF_LOG_BYTES + 2 * log.stat().st_blksize
    assert log.read_bytes().endswith(b"xwhy\n")


def test_where_the_file_system_cannot_cut_off_a_beginning_all_of_the_log_goes(tmp_path: Path) -> None:
    # tmpfs has no FALLOC_FL_COLLAPSE_RANGE (fallocate(2)).
    log = Path("/dev/shm") / f"{tmp_path.parent.name}-{tmp_path.name}-{os.getpid()}.log"
    descriptor = os.open("/dev/shm", os.O_RDONLY)
    try:
        log.write_bytes(b"x" * (8 * MIB))
        clean_ray_files.cut_log(descriptor, log.name)
        assert log.stat().st_size == 0
    finally:
        log.unlink()
        os.close(descriptor)


def test_bytes_are_those_on_the_disk_and_the_age_is_that_of_the_youngest(ray: Path, directory: int) -> None:
    session = make_session(ray)
    with (session / "sparse").open("wb") as file:
        file.truncate(2**40)
    make_file(session / "logs/old/big", size=3 * MIB)
    set_age(session, 100)
    set_age(session / "logs/old/big", 2)
    (found,) = clean_ray_files.sessions(directory, NOBODY, (session / "logs/old/big").stat().st_mtime + 7200)
    assert 3 * MIB <= found.bytes < 4 * MIB
    assert found.age_s == pytest.approx(7200)


def test_a_time_in_the_future_does_not_keep_a_session_for_ever(ray: Path, directory: int) -> None:
    # Written before a wrong clock was set right.
    session = make_session(ray, hours_old=-1000)
    (found,) = clean_ray_files.sessions(directory, NOBODY, (session / "logs").stat().st_mtime - 3_600_000)
    assert found.age_s == pytest.approx(3_600_000, rel=0.1)


def test_another_file_system_is_not_entered(tmp_path: Path) -> None:
    root = os.open("/", os.O_RDONLY)
    try:
        assert list(clean_ray_files.walk(root, "proc", "proc")) == []
        with pytest.raises(ChangedError):
            clean_ray_files.remove_tree(root, "proc")
    finally:
        os.close(root)
