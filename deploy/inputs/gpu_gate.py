"""The health gate of a run: which hosts may go on, and whether the rack still holds its models without the others."""

from pyinfra import logger
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host
from pyinfra.context import host, state

from deploy.inputs.rack import RackHost
from roles.gpu_health import facts, rules, verdict
from roles.gpu_health.expected import Expected
from roles.gpu_health.verdict import Verdict
from roles.settings import Settings

# What was found before any change, for the verdict on the whole run.
_before: dict[str, Verdict] = {}


def applies(settings: Settings) -> bool:
    """A host without GPUs to serve with has no gate."""
    return settings.ray_gpus > 0


def look(this: RackHost) -> None:
    """Look at this host's GPUs before anything is changed, and show what was found.

    Raises:
        InputError: when the program cannot be sent.
    """
    if not applies(this.settings):
        return
    facts.pynvml()
    health = host.get_fact(facts.GpuHealth, limit_s=this.settings.gpu_health_timeout_s)
    found = _before[this.name] = verdict.of(
        this.name, health, Expected.from_settings(this.settings), rules.BEFORE, this.settings.gpu_health_override
    )
    if not found.blocked and (lines := found.lines()):
        logger.warning("\n    ".join(lines))


def blocked() -> dict[str, Verdict]:
    """The hosts that must not be changed, by name."""
    return {name: found for name, found in _before.items() if found.blocked}


def leave_out(found: Verdict, each: Host) -> None:
    """Keep a host out of the rest of the run; it counts as failed, so the run ends with exit code 1."""
    if each in state.failed_hosts:
        return
    left_out = f"    {found.host_name} is left out of this run; nothing on it is changed"
    logger.error("\n    ".join([*found.lines(), left_out]))
    if state.active_hosts <= {each}:
        state.failed_hosts.add(each)
        raise PyinfraError("no host is left to deploy to")
    if state.should_raise_failed_hosts is None:
        state.fail_hosts({each})  # with regard to --fail-percent
        return
    # Without -y that would ask whether to go on, and pyinfra asks once more before it changes anything.
    state.failed_hosts.add(each)
    state.active_hosts.discard(each)
