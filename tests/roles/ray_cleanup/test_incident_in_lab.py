"""The incident this role is for: dead sessions have all but filled the disk, and the living one serves requests."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import openai
import pytest

from tests.conftest import DeployedRack
from tests.lab.lab import LabError, wait_until

HEAD = "rayrack-head.service"
ENTRY = "/etc/cron.d/rayrack-clean"
EVERY_MINUTE = "/etc/cron.d/rayrack-clean-every-minute"
MODELS = ("tiny-a", "tiny-b")
DISK_MIB = 1024
DEAD = tuple(f"session_2020-01-0{day}_00-00-00_000000_{day}" for day in (1, 2, 3, 4))
SERVED_S = 600
# cron looks for changed entries once a minute, and starts its jobs at the next.
CRON_S = 150


class SmallDisk:
    """The head, with Ray's directory on a file system of its own that a test can fill."""

    def __init__(self, rack: DeployedRack) -> None:
        self.rack, self.lab, self.host = rack, rack.lab, rack.head
        self.directory = self.read(f"grep -o -- '--dir [^ ]*' {ENTRY} | cut -d' ' -f2")

    def read(self, command: str) -> str:
        return self.lab.read(self.host, command, timeout_s=120)

    def used_percent(self) -> float:
        """As Ray counts: what is not available is used."""
        blocks, available = self.read(f"stat -f -c '%b %a' {self.directory}").split()
        return 100 * (1 - int(available) / int(blocks))

    def fill(self, files: list[str], to_percent: float) -> None:
        """Make these files of one size, so that the disk is that full afterwards."""
        mib = DISK_MIB * (to_percent - self.used_percent()) / 100 / len(files)
        for file in files:
            self.read(f"head -c {int(mib * 2**20)} /dev/zero > {file} && chown rayrack: {file}")

    def sessions(self) -> set[str]:
        return set(self.read(f"ls {self.directory} | grep '^session_[0-9]' || true").split())

    def journal(self, since: str, *options: str) -> str:
        return self.read(f"journalctl -t rayrack-clean -o cat --since '{since}' {' '.join(options)}")

    def now(self) -> str:
        return self.read("date '+%F %T'")

    def restart_ray(self, between: str) -> None:
        """With a command run while Ray is down; back once all models answer."""
        self.lab.ssh(self.host, f"systemctl stop {HEAD}; {between}; systemctl start {HEAD}", timeout_s=700)
        wait_until(self.serves, "every model to answer again", SERVED_S, every_s=5)

    def serves(self) -> bool:
        client = self.rack.client()
        try:
            return all(client.completions.create(model=model, prompt="x", max_tokens=1).choices for model in MODELS)
        except openai.OpenAIError:
            return False


@dataclass
class Load:
    """Requests, one after the other, and what went wrong."""

    answered: int = 0
    problems: list[str] = field(default_factory=list)


@contextmanager
def requests_all_the_time(rack: DeployedRack) -> Iterator[Load]:
    load, over = Load(), threading.Event()

    def ask(model: str) -> None:
        client = rack.client()
        while not over.is_set():
            try:
                client.completions.create(model=model, prompt="once", max_tokens=8)
                load.answered += 1
            except openai.OpenAIError as error:
                load.problems.append(f"{model}: {error}")
            time.sleep(0.2)

    threads = [threading.Thread(target=ask, args=(model,)) for model in MODELS]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.fixture
def small(rack: DeployedRack) -> Iterator[SmallDisk]:
    small = SmallDisk(rack)
    ray = small.directory
    options = f"size={DISK_MIB}m,mode=0700,uid=$(id -u rayrack),gid=$(id -g rayrack)"
    try:
        small.restart_ray(f"mount -t tmpfs -o {options} small {ray}")
        yield small
    finally:
        rack.lab.ssh(small.host, f"rm -f {EVERY_MINUTE}")
        small.restart_ray(f"umount -l {ray}")


def cron_every_minute(small: SmallDisk) -> None:
    small.read(f"sed 's#^\\*/5#*#' {ENTRY} > {EVERY_MINUTE}")


@pytest.mark.long
@pytest.mark.destructive
def test_four_dead_sessions_on_a_full_disk_go_and_no_request_fails(rack: DeployedRack, small: SmallDisk) -> None:
    (living,) = small.sessions()
    invocation = small.read(f"systemctl show -P InvocationID {HEAD}")
    sockets = small.read(f"ls {small.directory}/{living}/sockets")
    with requests_all_the_time(rack) as load:
        for name in DEAD:
            small.read(f"install -d -o rayrack -g rayrack {small.directory}/{name} {small.directory}/{name}/logs")
        # Just below the 95 % from which on Ray refuses objects; they died a moment ago, but not this very moment.
        small.fill([f"{small.directory}/{name}/logs/raylet.out" for name in DEAD], to_percent=94)
        small.read(f"find {small.directory}/session_2020-* -exec touch -d '5 minutes ago' {{}} +")
        assert small.used_percent() > 93
        before, since = load.answered, small.now()
        cron_every_minute(small)
        wait_until(lambda: small.used_percent() < 80, "cron to have made room", CRON_S, every_s=2)
        wait_until(lambda: load.answered > before + 20, "some more answers", 60)
    assert load.problems == []
    assert living in small.sessions()
    assert small.read(f"systemctl show -P InvocationID {HEAD}") == invocation
    assert small.read(f"ls {small.directory}/{living}/sockets") == sockets
    assert "sessions in use" in small.journal(since)
    assert small.journal(since, "-p warning") == ""


@pytest.mark.long
@pytest.mark.destructive
def test_a_disk_that_others_fill_is_warned_of_and_no_request_fails(rack: DeployedRack, small: SmallDisk) -> None:
    strangers = f"{small.directory}/not-of-ray"
    with requests_all_the_time(rack) as load:
        small.fill([strangers], to_percent=93)
        since = small.now()
        cron_every_minute(small)

        def warned() -> bool:
            return "its file system is above 90 % after the clean-up" in small.journal(since, "-p warning")

        try:
            wait_until(warned, "a warning in the journal", CRON_S, every_s=2)
        except LabError as error:
            raise AssertionError(f"{error}; the journal: {small.journal(since)}") from None
        small.read(f"rm {strangers}")
    assert load.problems == []
    assert load.answered > 20
