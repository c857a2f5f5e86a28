"""The logs of a session in use, and what else is dead in it, with real processes."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.roles.ray_cleanup.running import clean, needs_root
from tests.roles.ray_cleanup.trees import MIB, make_file, make_session, set_age

# What a process does with the log whose path it reads.
USES_OF_A_LOG = {
    "writes to it": "import sys; held = open(sys.stdin.readline().strip(), 'a')",
    "reads it": "import sys; held = open(sys.stdin.readline().strip())",
    "has it mapped": (
        "import mmap, os, sys; file = os.open(sys.stdin.readline().strip(), os.O_RDONLY)\n"
        "held = mmap.mmap(file, 10, prot=mmap.PROT_READ)"
    ),
}


@needs_root
@pytest.mark.parametrize("code", USES_OF_A_LOG.values(), ids=USES_OF_A_LOG)
def test_a_log_that_a_process_uses_stays_and_its_neighbour_goes(
    ray: Path, process: Callable[..., subprocess.Popen[bytes]], code: str
) -> None:
    session = make_session(ray)
    used, unused = (make_file(session / f"logs/{name}", hours_old=200) for name in ("used.log", "unused.log"))
    process(code, first_line=str(used))
    result = clean(ray)
    assert (used.exists(), unused.exists()) == (True, False)
    assert "removed 0 sessions, 0 spill directories and 1 logs" in result.stdout


@needs_root
def test_a_log_named_in_a_command_line_stays(ray: Path, process: Callable[..., object]) -> None:
    log = make_file(make_session(ray) / "logs/raylet.out", hours_old=200)
    process("", f"--stdout_filepath={log}")
    clean(ray)
    assert log.exists()


@needs_root
def test_only_logs_go_from_a_session_in_use(ray: Path, process: Callable[..., object]) -> None:
    session = make_session(ray)
    process("", str(session))
    kept = [
        "gcs_server_port_ab12",
        "node_ip_address.json",
        "ports_by_node.json.lock",
        "sockets/raylet",
        "runtime_resources/pip/raylet.log",
        "logs/nsight/profile.nsys-rep",
        "logs/job.lock",
    ]
    gone = [
        "logs/raylet.1.out",
        "logs/dashboard.log.3",
        "logs/old/worker-ab.err",
        "logs/serve/proxy.log",
        "logs/a.log.gz",
    ]
    for name in (*kept, *gone):
        make_file(session / name, hours_old=1000)
    os.mkfifo(session / "logs/fifo.log")
    (session / "logs/link.log").symlink_to(session / "node_ip_address.json")
    set_age(session / "logs", 1000)
    clean(ray)
    assert [name for name in (*kept, "logs/fifo.log", "logs/link.log") if not os.path.lexists(session / name)] == []
    assert [name for name in gone if (session / name).exists()] == []


@needs_root
def test_a_session_whose_name_a_persistent_gcs_has_used_again_keeps_what_it_needs(
    ray: Path, process: Callable[..., object]
) -> None:
    # The directory of an earlier life: its port files are read at the next start, its logs are of dead processes.
    session = make_session(ray, hours_old=1000)
    port = make_file(session / "gcs_server_port_ab12", hours_old=1000)
    ours = make_file(session / "ray_spilled_objects_bb/object", size=MIB, hours_old=2)
    theirs = make_file(session / "ray_spilled_objects_aa/object", size=MIB, hours_old=1000)
    set_age(theirs.parent, 1000)
    process("", f"--session-dir={session}", "--node_id=bb")
    clean(ray)
    assert (port.exists(), ours.exists(), theirs.parent.exists()) == (True, True, False)
    assert not (session / "logs/raylet.out").exists()


@needs_root
def test_the_oldest_logs_above_the_budget_go(ray: Path, process: Callable[..., object]) -> None:
    session = make_session(ray)
    logs = [make_file(session / f"logs/raylet.{hours}.out", size=MIB, hours_old=hours) for hours in (1, 2, 3, 4)]
    process("", str(session))
    clean(ray, "--log-budget-mib", "2.5")
    assert [log.exists() for log in logs] == [True, True, False, False]


@needs_root
@pytest.mark.parametrize("mode", ["ab", "r+b"], ids=["appended to", "written at a position"])
def test_a_runaway_log_in_use_is_cut_and_the_writer_goes_on(
    ray: Path, process: Callable[..., subprocess.Popen[bytes]], mode: str
) -> None:
    log = make_file(make_session(ray) / "logs/worker.out")
    writer = process(
        f"import sys; held = open(sys.stdin.readline().strip(), {mode!r}, buffering=0)\n"
        "for _ in range(64): held.write(b'x' * (2**20 - 1) + b'\\n')\n"
        "held.write(b'why\\n')",
        first_line=str(log),
        then="held.write(b'more\\n'); print('written', flush=True); input()",
    )
    for round_of_cron in range(2):
        result = clean(ray, "--runaway-log-mib", "32")
        # A hole takes no room, so that nothing is cut for it again.
        assert f"cut {1 - round_of_cron} logs" in result.stdout
        assert log.stat().st_blocks * 512 < 2 * MIB
        if not round_of_cron:
            assert log.read_bytes().endswith(b"why\n"), "the end of the log tells why it ran away"
            writer.stdin.write(b"\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == b"written\n"
    assert log.read_bytes().endswith(b"more\n")
