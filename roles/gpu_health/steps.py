"""The health gate on a host: its program, run every minute by cron, and the gate itself once the driver is there."""

import io
import json
import shlex
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyinfra import logger
from pyinfra.api.arguments import ConnectorArguments
from pyinfra.api.command import PyinfraCommand
from pyinfra.api.deploy import deploy
from pyinfra.api.host import Host
from pyinfra.api.operation import operation
from pyinfra.api.state import State
from pyinfra.context import host
from pyinfra.operations import files, server

from roles import host_programs
from roles.gpu_health import facts, rules, verdict
from roles.gpu_health.expected import Expected

LAST = "/var/lib/rayrack/gpu_health.json"
OVERRIDE = "/etc/rayrack/gpu_health_override.json"
# Every minute, so that one run is over before the next begins.
CRON_LIMIT_S = 45
# A host whose disk or journal hangs must not get one more process each minute.
CRON_END_AFTER_S = 55


@dataclass(frozen=True)
class EveryMinute:
    """What the cron entry is rendered with."""

    limit_s: int
    end_after_s: int
    json: str
    textfile: str


@deploy("GPU health")
def install(*, pynvml: Path, metrics_dir: str, override: dict[str, str] | None) -> None:
    """The program, and cron that keeps its last document and its metrics. Needs cron and /opt/rayrack (base_system).

    ``pynvml`` is NVIDIA's module (``facts.pynvml()``); ``override`` is the setting ``gpu_health_override``.
    """
    host_programs.install(name="Program of the health gate", programs=[facts.PROGRAM], modules=[*facts.MODULES, pynvml])
    files.directory(name="Directory of metrics", path=metrics_dir)
    files.template(
        name="Cron entry of the GPUs' health",
        src="templates/gpu_health/etc/cron.d/rayrack-gpu-health.j2",
        dest="/etc/cron.d/rayrack-gpu-health",
        user="root",
        group="root",
        mode="644",
        create_remote_dir=False,
        cron=EveryMinute(CRON_LIMIT_S, CRON_END_AFTER_S, LAST, f"{metrics_dir}/rayrack_gpu_health.prom"),
    )
    _override(override)


def _override(override: dict[str, str] | None) -> None:
    if override is None:
        files.file(name="No override of the health gate", path=OVERRIDE, present=False)
        return
    written = files.put(
        name="Override of the health gate",
        src=io.StringIO(json.dumps(override) + "\n"),
        dest=OVERRIDE,
        user="root",
        group="root",
        mode="644",
        create_remote_dir=False,
    )
    text = f"gpu_health_override lets this host in whatever the health gate finds: {override['reason']}"
    server.shell(
        name="Override of the health gate, in the journal",
        commands=[f"logger -t rayrack-gpu-health -p user.warning -- {shlex.quote(text)}"],
        _if=written.did_change,
    )


@operation()
def gate(
    expected: Expected, timeout_s: int, override: dict[str, str] | None, is_head: bool
) -> Generator[PyinfraCommand, None, None]:
    """Fail the host when its GPUs may not serve. Looked at when it is this operation's turn, after the driver's steps.

    + expected: what the inventory says of the GPUs
    + timeout_s: how long NVML may take
    + override: the setting ``gpu_health_override``
    + is_head: without the head there is no rack, so the whole run stops
    """
    health = host.get_fact(facts.GpuHealth, limit_s=timeout_s)
    found = verdict.of(host.name, health, expected, rules.AFTER, override)
    if found.blocked:
        yield Refuse(found.lines(), stops_run=is_head)
    else:
        host.noop("the GPUs may serve")


@operation()
def rack_still_holds(problems: Callable[[], Sequence[str]]) -> Generator[PyinfraCommand, None, None]:
    """On the head, after every host's gate: stop the run when the models no longer fit on the hosts that are left.

    + problems: tells what does not fit, one line each
    """
    found = list(problems())
    if found:
        yield Refuse(found, stops_run=True)
    else:
        host.noop("the models fit on the hosts that are left")


class Refuse(PyinfraCommand):
    """Fails the host, or the whole run, with these lines."""

    def __init__(self, lines: Sequence[str], *, stops_run: bool) -> None:
        super().__init__()
        self.lines = lines
        self.stops_run = stops_run

    def __repr__(self) -> str:
        return f"Refuse({self.lines[0]})"

    def execute(self, state: State, host: Host, _arguments: ConnectorArguments) -> bool:
        text = "\n    ".join([*(["the run stops here:"] if self.stops_run else []), *self.lines])
        host.log_styled(text, fg="red", log_func=logger.error)
        if self.stops_run:
            # pyinfra ends a run without hosts; an exception from here would be printed as a traceback.
            state.failed_hosts |= state.active_hosts
            state.active_hosts &= {host}
        return False
