import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from runtimes import RuntimeProblem, Runtimes


@pytest.fixture
def runtimes(tmp_path: Path) -> Runtimes:
    """Three complete runtimes: a, then b, then c was switched to."""
    found = Runtimes(tmp_path)
    for digest in "abc":
        found.path(digest).mkdir(parents=True)
        (found.directory / f"{digest}.txt").touch()
        found.mark_complete(digest, {"ray": "2.60.0"})
        found.switch(digest)
    return found


def test_current_and_previous_are_relative_links_so_that_the_tree_can_be_mounted_elsewhere(runtimes: Runtimes) -> None:
    assert str((runtimes.root / "current").readlink()) == "runtime/c"
    assert str((runtimes.root / "previous").readlink()) == "runtime/b"


def test_a_rollback_exchanges_current_and_previous(runtimes: Runtimes) -> None:
    assert runtimes.roll_back() == "b"
    assert (runtimes.linked("current"), runtimes.linked("previous")) == ("b", "c")
    assert runtimes.roll_back() == "c"


def test_switching_to_the_current_runtime_keeps_the_previous_one(runtimes: Runtimes) -> None:
    runtimes.switch("c")
    assert runtimes.linked("previous") == "b"


def test_an_incomplete_runtime_never_becomes_the_previous_one(runtimes: Runtimes) -> None:
    (runtimes.path("c") / ".complete").unlink()
    runtimes.switch("a")
    assert runtimes.linked("previous") == "b"


def test_there_is_no_rollback_to_nothing_or_to_an_incomplete_runtime(runtimes: Runtimes, tmp_path: Path) -> None:
    (runtimes.path("b") / ".complete").unlink()
    for each in (runtimes, Runtimes(tmp_path / "blank")):
        with pytest.raises(RuntimeProblem, match="no complete previous runtime"):
            each.roll_back()
    assert runtimes.linked("current") == "c"


def test_the_marker_says_what_the_runtime_is(runtimes: Runtimes) -> None:
    assert '"digest": "c"' in (runtimes.root / "current" / ".complete").read_text()


def test_older_runtimes_their_locks_and_what_interrupted_runs_left_are_removed(runtimes: Runtimes) -> None:
    runtimes.work("d").mkdir()
    runtimes.path("d").mkdir()
    removed, busy = runtimes.remove_unused()
    assert (sorted(removed), busy) == ([".work-d", "a", "d"], [])
    assert sorted(path.name for path in runtimes.directory.iterdir()) == ["b", "b.txt", "c", "c.txt"]


@pytest.fixture
def process_in_runtime_a(runtimes: Runtimes) -> Iterator[None]:
    """A process that has a library of runtime a mapped, and the runtime's path neither in its arguments nor as cwd."""
    library = runtimes.path("a") / "library.so"
    library.write_bytes(bytes(4096))
    code = (
        "import mmap, sys; file = open(sys.stdin.readline().strip()); "
        "kept = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ); print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin
        assert child.stdout
        child.stdin.write(f"{library}\n")
        child.stdin.flush()
        child.stdout.readline()
        yield
        child.stdin.close()


@pytest.mark.usefixtures("process_in_runtime_a")
def test_a_runtime_that_a_process_still_runs_from_is_kept(runtimes: Runtimes) -> None:
    assert runtimes.remove_unused() == ([], ["a"])
    assert runtimes.is_complete("a")


def test_a_second_installation_waits_for_the_first_and_gives_up_with_one_line(tmp_path: Path) -> None:
    with Runtimes(tmp_path).locked(), pytest.raises(RuntimeProblem) as problem, Runtimes(tmp_path).locked(wait_s=0.1):
        pass
    assert re.fullmatch(
        rf"another installation has held {tmp_path}/runtime/.lock for 0 s; see `fuser -v .*`, then deploy again",
        str(problem.value),
    )


def test_the_lock_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with Runtimes(tmp_path).locked(wait_s=0):
            pass
