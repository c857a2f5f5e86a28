"""From what a host has to a gateway that runs what was rendered, in as few commands as it takes. Pure: no pyinfra.

It looks at the state and not at what this run changed, so that a run also finishes one that was interrupted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from roles import host_programs
from roles.gateway.config import DIRECTORY, Gateway

UNIT = "rayrack-gateway.service"
DISTRIBUTION_UNIT = "haproxy.service"
CONFIG = f"{DIRECTORY}/haproxy.cfg"
# What a deploy rendered last; it becomes CONFIG when HAProxy finds it valid, so that CONFIG always is.
CANDIDATE = f"{DIRECTORY}/candidate.cfg"
LOADED_WITHIN_S = 20
# The host asks itself: its own certificate need not name the address, nothing secret is said, and a proxy that the host
# has for everything else is not asked.
ASK = 'curl -gsk --noproxy "*"'


@dataclass(frozen=True)
class State:
    """What a host has. The two digests are what the gateway says of itself on /healthz; None: it does not answer.

    ``certificate_differs``: it shows clients another certificate than its file holds. ``keys_differ``: a process of it
    holds other API keys than their files.
    """

    active: bool
    enabled: bool
    unit_file_changed: bool
    distribution_service_active: bool
    candidate_differs: bool
    loaded_config: str | None
    loaded_unit: str | None
    certificate_differs: bool = False
    keys_differ: bool = False


def commands(state: State, gateway: Gateway) -> Iterator[str]:
    """The shell commands that are left to do; none when the gateway already runs as rendered."""
    if state.distribution_service_active:
        yield f"systemctl stop {DISTRIBUTION_UNIT}"
    if state.candidate_differs:
        yield _accept_candidate()
    if state.unit_file_changed:
        yield "systemctl daemon-reload"
    if not state.enabled:
        yield f"systemctl enable {UNIT}"
    needed = verb(state, gateway)
    if needed:
        yield f"systemctl {needed} {UNIT}"
        yield _wait_until_loaded(gateway)
    # Without a reload the processes that run are told; with one, the old processes are.
    if state.keys_differ and needed != "restart":
        yield f"{host_programs.BIN}/api_keys apply"


def verb(state: State, gateway: Gateway) -> Literal["restart", "reload"] | None:
    """What makes the gateway load what the host has on disk; None: nothing need be done."""
    if not state.active:
        return "restart"  # not `start`: that does nothing to a unit that waits to be started again
    # A gateway that does not answer may only be busy: a reload cuts nobody off, a restart would.
    if state.unit_file_changed or state.loaded_unit not in (None, gateway.unit_digest):
        return "restart"
    if state.candidate_differs or state.loaded_config != gateway.config_digest or state.certificate_differs:
        return "reload"
    return None


def _accept_candidate() -> str:
    part = f"{DIRECTORY}/.haproxy.cfg.part"
    refused = f"{CANDIDATE}: HAProxy refuses it (see above); the gateway goes on with {CONFIG} as it was"
    return (
        f"/usr/sbin/haproxy -c -f {CANDIDATE} || {{ echo '{refused}' >&2; exit 1; }}; "
        f"cp -p {CANDIDATE} {part} && mv -f {part} {CONFIG}"
    )


def _wait_until_loaded(gateway: Gateway) -> str:
    loaded = f'"config":"{gateway.config_digest}","unit":"{gateway.unit_digest}"'
    ask = f"{ASK} --max-time 2 {gateway.health_url}"
    return (
        f"timeout {LOADED_WITHIN_S} sh -c "
        f"""'until {ask} | grep -qF '\\''{loaded}'\\''; do sleep 0.1; done' || """
        f"{{ echo '{UNIT} has not loaded {CONFIG} within {LOADED_WITHIN_S} s: see journalctl -u {UNIT}' >&2; exit 1; }}"
    )
