"""The clean-up on a host with a running Ray: the live session stays, a dead one goes."""

from collections.abc import Iterator

import pytest

from tests.conftest import DeployedRack
from tests.lab.lab import wait_until

ENTRY = "/etc/cron.d/rayrack-clean"
EVERY_MINUTE = "/etc/cron.d/rayrack-clean-every-minute"
DEAD = "session_2020-01-01_00-00-00_000000_1"


@pytest.fixture
def sessions(rack: DeployedRack) -> Iterator[str]:
    """Ray's temporary directory on the worker, with a dead session made in it."""
    directory = rack.lab.read(rack.worker, f"grep -o -- '--dir [^ ]*' {ENTRY} | cut -d' ' -f2")
    logs = f"{directory}/{DEAD}/logs"
    rack.lab.ssh(rack.worker, f"install -d -o rayrack -g rayrack {directory}/{DEAD} {logs}; echo x > {logs}/raylet.out")
    rack.lab.ssh(rack.worker, f"find {directory}/{DEAD} -exec touch -d '2 days ago' {{}} +")
    yield directory
    rack.lab.ssh(rack.worker, f"rm -rf {directory}/{DEAD} {EVERY_MINUTE}")


def names(rack: DeployedRack, directory: str) -> set[str]:
    return set(rack.lab.read(rack.worker, f"ls {directory}").split())


def live_session(rack: DeployedRack, directory: str) -> str:
    """The session that the running raylet names."""
    return rack.lab.read(
        rack.worker, "tr '\\0' ' ' < /proc/$(pgrep -o raylet)/cmdline | grep -om1 'session_2[-_0-9]*' | head -1"
    )


def test_the_live_session_stays_however_old_it_looks_and_the_dead_one_goes(rack: DeployedRack, sessions: str) -> None:
    live = live_session(rack, sessions)
    said = rack.lab.read(rack.worker, f"/opt/rayrack/bin/clean_ray --dir {sessions} --min-age-minutes 0")
    left = names(rack, sessions)
    assert live in left, said
    assert DEAD not in left, said
    assert "1 sessions in use" in said


@pytest.mark.long
def test_cron_runs_the_clean_up_and_it_says_so_in_the_journal(rack: DeployedRack, sessions: str) -> None:
    live = live_session(rack, sessions)
    rack.lab.ssh(rack.worker, f"sed 's#^\\*/5#*#' {ENTRY} > {EVERY_MINUTE}")
    wait_until(lambda: DEAD not in names(rack, sessions), "cron has removed the dead session", 130, every_s=2)
    assert live in names(rack, sessions)
    journal = rack.lab.read(rack.worker, "journalctl -t rayrack-clean -o cat -n 20")
    assert f"{sessions}: removed 1 sessions" in journal
