"""How long a deploy takes that changes nothing, against the least that looking at the same things costs over SSH."""

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.bench.measures import median_of_ratios
from tests.hosts.expected import paths_of, units_of
from tests.hosts.reach import CheckedHost, CheckedRack, open_rack

DEPLOY_LIMIT_S = 1800
AIM_S = 6.0
GRAND_TOTAL = re.compile(r"^ *Grand total +(?P<hosts>\S+) +(?P<changed>\S+) +(?P<errors>\S+)", re.MULTILINE)


class DeployError(Exception):
    """A deploy ended badly, or did not do what the measurement is about."""


@dataclass(frozen=True)
class DeployTimes:
    """Seconds of each round; the two of a round ran next to each other."""

    hosts: int
    deploys_s: tuple[float, ...]
    floors_s: tuple[float, ...]

    @property
    def deploy_s(self) -> float:
        return statistics.median(self.deploys_s)

    @property
    def floor_s(self) -> float:
        return statistics.median(self.floors_s)

    @property
    def ratio(self) -> float:
        return median_of_ratios(self.deploys_s, self.floors_s)


def deploy_command(inventory: str, *data: str) -> list[str]:
    """The literal command, with the pyinfra of the environment that runs this."""
    overrides = [argument for item in data for argument in ("--data", item)]
    return [str(Path(sys.executable).parent / "pyinfra"), inventory, "deploy/", "-y", *overrides]


def changes_in(output: str) -> int:
    """How many operations changed something, summed over hosts, by the table that pyinfra prints last.

    Raises:
        DeployError: the output has no such table.
    """
    total = GRAND_TOTAL.search(output)
    if total is None:
        raise DeployError("pyinfra printed no results:\n" + output[-2000:])
    return int(total["changed"].replace("-", "0"))


def timed_deploy(inventory: str) -> float:
    """Seconds of a deploy that changes nothing.

    Raises:
        DeployError: it failed, or it changed something.
    """
    began = time.monotonic()
    run = subprocess.run(
        deploy_command(inventory), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=DEPLOY_LIMIT_S
    )
    seconds = time.monotonic() - began
    if run.returncode != 0:
        raise DeployError(f"the deploy ended with {run.returncode}:\n{run.stdout[-2000:]}")
    if changes_in(run.stdout):
        raise DeployError(f"a deploy that should change nothing did:\n{run.stdout[-4000:]}")
    return seconds


def floor_command(host: CheckedHost, units: tuple[str, ...]) -> str:
    """One shell command that looks at the content, owner and mode of the files and at the units a deploy looks at."""
    paths = " ".join(path.path for path in paths_of(host.rack_host, ()))
    return (
        f"stat -c '%n %F %a %U:%G' {paths} && "
        "find /etc/rayrack /opt/rayrack/lib /etc/systemd/system /etc/cron.d -type f -exec sha256sum {} + && "
        f"systemctl is-active {' '.join(units)} && systemctl is-enabled {' '.join(units)}"
    )


def timed_floor(inventory: str) -> float:
    """Seconds of one new SSH connection and one command per host, all hosts at once."""
    with open_rack(inventory, (), os.environ) as checked, ThreadPoolExecutor(len(checked.hosts)) as pool:
        commands = [floor_command(host, units_of(host.rack_host, checked.rack.models)) for host in checked.hosts]
        began = time.monotonic()
        results = list(pool.map(lambda host, command: host.remote.run(command), checked.hosts, commands))
        seconds = time.monotonic() - began
    for host, result in zip(checked.hosts, results, strict=True):
        if result.rc != 0:
            raise DeployError(f"{host}: the floor's command ended with {result.rc}: {result.stderr.strip()[-300:]}")
    return seconds


def measure(checked: CheckedRack, inventory: str, rounds: int, tell: Callable[[str], None]) -> DeployTimes:
    """Interleave ``rounds`` deploys and floors, after one of each that is not counted."""
    deploys, floors = [], []
    for number in range(rounds + 1):
        deploy_s, floor_s = timed_deploy(inventory), timed_floor(inventory)
        counted = "" if number else " (not counted)"
        tell(f"deploy, round {number} of {rounds}: {deploy_s:.2f} s, floor {floor_s:.2f} s{counted}")
        if number:
            deploys.append(deploy_s)
            floors.append(floor_s)
    return DeployTimes(len(checked.hosts), tuple(deploys), tuple(floors))
