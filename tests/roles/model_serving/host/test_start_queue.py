"""Models start one at a time, and those that wait together in the order of the model list."""

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
import start_queue
from serve_api import Unreachable
from start_queue import StartQueue

LIMIT_S = 10.0


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_queue, "POLL_S", 0.005)
    monkeypatch.setattr(start_queue, "GATHER_S", 0.1)


def queue(directory: Path, slug: str, order: Sequence[str] = ("first", "second", "third")) -> StartQueue:
    order_file = directory / "start-order"
    order_file.write_text("\n".join(order) + "\n")
    return StartQueue(directory, slug, order_file)


def started(directory: Path, arrivals: Sequence[str], order: Sequence[str] = ("first", "second", "third")) -> list[str]:
    """The order in which models had their turn that arrived shortly after each other, as ``arrivals`` has them."""
    done: list[str] = []

    def start(slug: str) -> None:
        with queue(directory, slug, order) as own, own.turn(LIMIT_S, lambda _: None):
            done.append(slug)
            time.sleep(0.02)

    threads = [threading.Thread(target=start, args=(slug,)) for slug in arrivals]
    for thread in threads:
        thread.start()
        time.sleep(0.01)
    for thread in threads:
        thread.join()
    return done


def test_models_that_arrive_together_start_in_the_order_of_the_list(tmp_path: Path) -> None:
    assert started(tmp_path, ["third", "second", "first"]) == ["first", "second", "third"]


def test_models_that_the_list_does_not_name_come_last_in_the_order_of_their_names(tmp_path: Path) -> None:
    assert started(tmp_path, ["b", "a", "second"]) == ["second", "a", "b"]


def test_without_a_list_the_names_decide(tmp_path: Path) -> None:
    assert started(tmp_path, ["b", "a"], order=()) == ["a", "b"]


def test_a_start_under_way_is_finished_whoever_arrives(tmp_path: Path) -> None:
    waited_for: list[str] = []
    with queue(tmp_path, "third") as late, late.turn(LIMIT_S, lambda _: None):

        def start() -> None:
            with queue(tmp_path, "first") as own, own.turn(LIMIT_S, waited_for.append):
                waited_for.append("its turn")

        thread = threading.Thread(target=start)
        thread.start()
        deadline = time.monotonic() + LIMIT_S
        while not waited_for and time.monotonic() < deadline:
            time.sleep(0.005)
        assert set(waited_for) == {"third"}
    thread.join()
    assert waited_for[-1] == "its turn"


def test_a_model_that_left_the_queue_holds_nobody_up(tmp_path: Path) -> None:
    with queue(tmp_path, "first") as first, queue(tmp_path, "second") as second:
        first.leave()
        with second.turn(LIMIT_S, lambda _: None):
            pass


def test_a_ticket_without_a_living_process_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "model-starts").mkdir()
    (tmp_path / "model-starts" / "first").touch()
    with queue(tmp_path, "second") as second, second.turn(LIMIT_S, lambda _: None):
        pass


def test_a_wait_has_a_limit_and_says_for_whom(tmp_path: Path) -> None:
    with ExitStack() as held:
        held.enter_context(queue(tmp_path, "first"))
        second = held.enter_context(queue(tmp_path, "second"))
        with pytest.raises(Unreachable, match=r"waited 0\.2 s for the start of first"), second.turn(0.2, str):
            pass


def test_nothing_is_left_of_a_turn_that_is_over(tmp_path: Path) -> None:
    with queue(tmp_path, "first") as own, own.turn(LIMIT_S, lambda _: None):
        pass
    assert list((tmp_path / "model-starts").iterdir()) == []
