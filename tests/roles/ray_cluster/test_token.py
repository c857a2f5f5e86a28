import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.config import Config
from pyinfra.api.connect import connect_all, disconnect_all
from pyinfra.api.inventory import Inventory
from pyinfra.api.operation import add_op
from pyinfra.api.operations import run_ops
from pyinfra.api.state import State

from roles.ray_cluster import token
from roles.ray_cluster.facts import TOKEN

SECRET = "5ec4e7" * 10
DIGEST, OTHER = {"sha256sum": "aaaa  -"}, {"sha256sum": "bbbb  -"}


class Copy:
    """``copied_from`` run on the worker of a head and a worker, with what ran on each."""

    def __init__(self, head: Mapping[str, Any], worker: Mapping[str, Any], instead_of: str | None = None) -> None:
        quick = {"fake_delay": 0, "fake_delay_jitter": 0}
        names = [
            ("@fake/head", {**quick, "fake_responses": head}),
            ("@fake/worker", {**quick, "fake_responses": worker}),
        ]
        self.state = State(Inventory((names, {})), Config())
        self.state.print_input = self.state.print_output = self.state.print_fact_output = True  # as with -vvv
        connect_all(self.state)
        self.head, self.worker = self.state.inventory
        results = add_op(
            self.state, token.copied_from, name="token", host=self.worker, head=self.head, instead_of=instead_of
        )
        self.stdin: list[Any] = []
        run_shell_command = self.worker.connector.run_shell_command

        def seen(*args: Any, **arguments: Any) -> Any:
            self.stdin.append(arguments.get("_stdin"))
            return run_shell_command(*args, **arguments)

        self.worker.connector.run_shell_command = seen  # type: ignore[method-assign]
        try:
            run_ops(self.state)
        finally:
            disconnect_all(self.state)
        self.meta = results[self.worker]

    @property
    def ran_on_worker(self) -> list[str]:
        return [command for command in self.worker.connector.executed_commands if "sha256sum" not in command]  # type: ignore[attr-defined]


def test_a_worker_gets_the_head_s_token_and_nobody_sees_it(capsys: pytest.CaptureFixture[str]) -> None:
    copy = Copy({"cat ": SECRET, **DIGEST}, OTHER)
    assert copy.meta.did_change()
    assert copy.ran_on_worker == [token.WRITE]
    assert SECRET in copy.stdin
    shown = capsys.readouterr()
    assert SECRET not in shown.out + shown.err


def test_a_worker_with_the_same_token_is_left_alone() -> None:
    copy = Copy({"cat ": SECRET, **DIGEST}, DIGEST)
    assert not copy.meta.did_change()
    assert copy.ran_on_worker == []


def test_a_worker_s_new_token_is_seen_beforehand_when_the_head_is_going_to_replace_its_own() -> None:
    """pyinfra asks each operation before the run, and while the head still has the old token."""
    copy = Copy({"cat ": SECRET, **DIGEST}, DIGEST, instead_of="aaaa")
    assert copy.ran_on_worker == [token.WRITE]


def test_a_head_without_a_token_fails_the_worker_and_leaves_it_as_it_is() -> None:
    copy = Copy({"cat ": {"success": False}}, {})
    assert not copy.meta.did_succeed()
    assert copy.ran_on_worker == []


def run_in(directory: Path, command: str, stdin: str = "") -> Path:
    """Run one of the role's commands on a token in ``directory``, which is this test's alone."""
    subprocess.run(["sh", "-c", command.replace(TOKEN, str(directory / "t"))], input=stdin, text=True, check=True)
    return directory / "t"


def test_a_token_that_is_made_is_64_hexadecimal_digits_for_its_owner_alone(tmp_path: Path) -> None:
    made = run_in(tmp_path, token.MAKE)
    assert len(made.read_text()) == 64
    assert int(made.read_text(), 16) > 0
    assert made.stat().st_mode & 0o777 == 0o400


def test_no_two_tokens_are_alike(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert run_in(tmp_path, token.MAKE).read_text() != run_in(tmp_path / "other", token.MAKE).read_text()


def test_a_token_is_written_without_the_line_end_it_travels_with(tmp_path: Path) -> None:
    written = run_in(tmp_path, token.WRITE, stdin=SECRET + "\n")
    assert written.read_text() == SECRET
    assert written.stat().st_mode & 0o777 == 0o400


def test_an_interrupted_copy_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("old")
    with pytest.raises(subprocess.CalledProcessError):
        run_in(tmp_path, token.WRITE, stdin="")
    assert (tmp_path / "t").read_text() == "old"
