"""The incident this role is for: dead sessions have all but filled the disk, and the living one serves requests."""

import shlex
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
PUT_OBJECTS = """
import sys, numpy, ray
ray.init(address="auto", logging_level="error")
kept = []
try:
    for _ in range(int(sys.argv[1])):
        kept.append(ray.put(numpy.ones(50 * 2**20, dtype=numpy.uint8)))
    print("done")
except Exception as error:
    print(type(error).__name__)
"""
EVERY_MINUTE = "/etc/cron.d/rayrack-clean-every-minute"
MODELS = ("tiny-a", "tiny-b")
SHARED = "/srv/shared"
HOST_FILES = ("deploy/00_preflight.py", "deploy/05_verdict.py", "deploy/10_host.py")
DEAD = tuple(f"session_2020-01-0{day}_00-00-00_000000_{day}" for day in (1, 2, 3, 4))
SERVED_S = 600
# cron looks for changed entries once a minute, and starts its jobs at the next.
CRON_S = 150


class SmallDisk:
    """The head, with Ray's directory on the file system of its own that `ray_temp_size_gib` makes."""

    def __init__(self, rack: DeployedRack) -> None:
        self.rack, self.lab, self.host = rack, rack.lab, rack.head
        self.directory = self.read(f"grep -o -- '--dir [^ ]*' {ENTRY} | cut -d' ' -f2")

    def read(self, command: str) -> str:
        return self.lab.read(self.host, command, timeout_s=120)

    def set_up(self) -> None:
        """The image lies on a disk that is small itself, so that a test can fill what is around it."""
        make = f"truncate -s 2G {SHARED}.img && mkfs.ext4 -q {SHARED}.img && mkdir {SHARED}"
        self.read(f"{make} && mount -o loop {SHARED}.img {SHARED}")
        self.lab.ssh(self.host, f"systemctl stop {HEAD} && rm -rf {self.directory}/*", timeout_s=120)
        settings = ("ray_temp_size_gib=1", f"ray_temp_image={SHARED}/ray.img")
        self.lab.pyinfra(*HOST_FILES, "-y", "--limit", self.host, *(f"--data={setting}" for setting in settings))
        assert self.read(f"findmnt -no FSTYPE {self.directory}") == "ext4"
        self.start_ray()

    def take_away(self) -> None:
        """With the commands that docs/roles/storage.md gives, and the disk around it."""
        unit = self.read(f"systemd-escape -p --suffix=mount {self.directory}")
        self.lab.ssh(self.host, f"rm -f {EVERY_MINUTE}; systemctl stop {HEAD} {unit}", timeout_s=120)
        self.read(
            f"systemctl disable -q {unit}; rm /etc/systemd/system/{unit} {SHARED}/ray.img; systemctl daemon-reload"
        )
        self.read(f"umount {SHARED}; rm -r {SHARED} {SHARED}.img")
        self.lab.pyinfra(*HOST_FILES, "-y", "--limit", self.host)
        self.start_ray()

    def start_ray(self) -> None:
        self.lab.ssh(self.host, f"systemctl start {HEAD}", timeout_s=700)
        wait_until(self.serves, "every model to answer again", SERVED_S, every_s=5)

    def used_percent(self) -> float:
        """As Ray counts: what is not available is used."""
        blocks, available = self.read(f"stat -f -c '%b %a' {self.directory}").split()
        return 100 * (1 - int(available) / int(blocks))

    def fill(self, files: list[str], to_percent: float) -> None:
        """Make these files of one size, so that the disk is that full afterwards."""
        blocks, block_bytes = self.read(f"stat -f -c '%b %S' {self.directory}").split()
        share = (to_percent - self.used_percent()) / 100 / len(files)
        for file in files:
            size = int(int(blocks) * int(block_bytes) * share)
            self.read(f"head -c {size} /dev/zero > {file} && chown rayrack: {file} && sync -f {file}")

    def put_objects(self, mib: int) -> str:
        """Put objects of 50 MiB into Ray's store; `done`, or the name of the error."""
        environment = (
            f"RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=/etc/rayrack/secrets/ray.token RAY_TMPDIR={self.directory}"
        )
        python = f"cd /tmp; {environment} timeout 100 /opt/rayrack/current/bin/python -c"
        return self.read(f"{python} {shlex.quote(PUT_OBJECTS)} {mib // 50} 2>/dev/null").splitlines()[-1]

    def sessions(self) -> set[str]:
        return set(self.read(f"ls {self.directory} | grep '^session_[0-9]' || true").split())

    def journal(self, since: str, *options: str) -> str:
        return self.read(f"journalctl -t rayrack-clean -o cat --since '{since}' {' '.join(options)}")

    def now(self) -> str:
        return self.read("date '+%F %T'")

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


@pytest.fixture(scope="module")
def small(rack: DeployedRack) -> Iterator[SmallDisk]:
    small = SmallDisk(rack)
    try:
        small.set_up()
        yield small
    finally:
        small.take_away()


@pytest.fixture
def cron_waits(small: SmallDisk) -> Iterator[None]:
    """It comes when a test calls it, and not into the middle of what the test prepares."""
    small.read("systemctl stop cron")
    yield
    small.read(f"rm -f {EVERY_MINUTE}; rm -rf {small.directory}/session_2020-*; systemctl start cron")


def cron_every_minute(small: SmallDisk) -> None:
    small.read(f"sed 's#^\\*/5#*#' {ENTRY} > {EVERY_MINUTE}; systemctl start cron")


pytestmark = [pytest.mark.long, pytest.mark.destructive, pytest.mark.usefixtures("cron_waits")]


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


def test_what_others_write_never_reaches_ray_on_a_file_system_of_its_own(rack: DeployedRack, small: SmallDisk) -> None:
    before = small.used_percent()
    with requests_all_the_time(rack) as load:
        filled = small.lab.ssh(small.host, f"dd if=/dev/zero of={SHARED}/fill bs=1M", check=False, timeout_s=120)
        assert "No space left on device" in filled.stdout
        assert small.read(f"df --output=avail {SHARED} | tail -n 1") == "0"
        answered = load.answered
        small.read(
            f"runuser -u rayrack -- head -c 50M /dev/zero > {small.directory}/probe && sync -f {small.directory}"
        )
        wait_until(lambda: load.answered > answered + 40, "some more answers", 120)
        small.read(f"rm {SHARED}/fill {small.directory}/probe")
    assert load.problems == []
    assert small.used_percent() < before + 5


# What a full disk does to Ray; docs/roles/ray_cleanup.md tells it to operators.


def test_above_95_percent_ray_refuses_objects_that_it_would_have_to_spill_and_requests_are_answered(
    rack: DeployedRack, small: SmallDisk
) -> None:
    with requests_all_the_time(rack) as load:
        small.fill([f"{small.directory}/rest"], to_percent=97)
        logs = f"{small.directory}/session_latest/logs/raylet*"
        wait_until(lambda: "is over 95% full" in small.read(f"tail -q -n 3 {logs}"), "the raylet to see it", 60, 2)
        answered = load.answered
        assert small.put_objects(mib=50) == "done"
        assert small.put_objects(mib=1000) == "OutOfDiskError"
        wait_until(lambda: load.answered > answered + 20, "some more answers", 60)
    small.read(f"rm {small.directory}/rest")
    assert load.problems == []


def test_a_disk_that_is_full_to_the_last_byte_stops_logs_and_starts_of_the_node_but_no_request(
    rack: DeployedRack, small: SmallDisk
) -> None:
    rest = f"{small.directory}/rest"
    with requests_all_the_time(rack) as load:
        small.lab.ssh(small.host, f"dd if=/dev/zero of={rest} bs=64K; sync -f {rest}", check=False)
        answered = load.answered
        wait_until(lambda: load.answered > answered + 40, "some more answers", 120)
    assert load.problems == []
    assert small.read(f"grep -rl 'No space left on device' {small.directory}/session_latest/logs | head -n 1")
    small.read(f"systemctl stop {HEAD}")
    small.read(f"head -c 2G /dev/zero >>{rest} 2>/dev/null || true")
    assert small.lab.ssh(small.host, f"systemctl start {HEAD}", check=False, timeout_s=120).returncode != 0
    assert "failed: ray_temp_dir" in small.read(f"journalctl -u {HEAD} -o cat -n 20")
    small.read(f"rm {rest}")
    wait_until(small.serves, "the head to have started by itself, and every model to answer", SERVED_S, every_s=5)
