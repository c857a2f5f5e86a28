"""systemd's view: what should run runs and comes back after a reboot, and nothing else of rayrack's is there."""

from functools import cache

import pytest

from roles.model_serving.model import Model
from tests.hosts.expected import units_of
from tests.hosts.reach import CheckedHost, expect

# So many automatic restarts since the last start by hand are no accident any more.
TOO_MANY_RESTARTS = 5
# The most that systemd may find exposed in a unit, in tenths of its scale from 0 to 10.
EXPOSURE_MAX = {"rayrack-gateway.service": 30}
EXPOSURE_MAX_OTHERS = 40


def journal(host: CheckedHost, unit: str) -> str:
    return f"on {host}: journalctl -u '{unit}' -n 50"


@cache
def units(host: CheckedHost, names: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """The properties of each unit, all in one command. systemd describes units it does not know, as inactive."""
    properties = "Id,ActiveState,UnitFileState,StatusText,NRestarts"
    shown = host.run(f"systemctl show --property={properties} " + " ".join(["%s"] * len(names)), *names).stdout
    described = (dict(line.split("=", 1) for line in block.splitlines()) for block in shown.strip().split("\n\n"))
    return {properties["Id"]: properties for properties in described}


@pytest.fixture
def state(host: CheckedHost, unit: str, models: tuple[Model, ...]) -> dict[str, str]:
    """The properties of the unit that is checked."""
    return units(host, units_of(host.rack_host, models))[unit]


def test_unit_is_active(host: CheckedHost, unit: str, state: dict[str, str]) -> None:
    active, told = state["ActiveState"], state.get("StatusText") or "no status"
    expect(active == "active", f"{host}: {unit} is {active}, must be active ({told})", journal(host, unit))


def test_unit_is_enabled(host: CheckedHost, unit: str, state: dict[str, str]) -> None:
    enabled = state.get("UnitFileState") or "missing"
    expect(
        enabled == "enabled", f"{host}: {unit} is {enabled}: it would not come back after a reboot", host.deploy_again
    )


def test_unit_does_not_restart_again_and_again(host: CheckedHost, unit: str, state: dict[str, str]) -> None:
    restarts = int(state.get("NRestarts", 0))  # a target has none
    expect(
        restarts < TOO_MANY_RESTARTS,
        f"{host}: systemd has restarted {unit} {restarts} times since it was last started by hand",
        f"{journal(host, unit)}; when it is mended: systemctl restart '{unit}'",
    )


def test_unit_is_in_its_sandbox(host: CheckedHost, unit: str) -> None:
    allowed = EXPOSURE_MAX.get(unit, EXPOSURE_MAX_OTHERS)
    # A target runs nothing; its host is asked all the same, since none is well that does not answer.
    is_service = unit.endswith(".service")
    measure = f"systemd-analyze security --no-pager --threshold={allowed} %s" if is_service else "true || echo %s"
    measured = host.run(measure, unit)
    expect(
        measured.succeeded,
        f"{host}: {unit} is more exposed than {allowed / 10}, by `systemd-analyze security {unit}`",
        f"look for a drop-in that opens it (systemctl cat {unit}), or {host.deploy_again}",
    )


def test_no_unit_of_rayrack_has_failed(host: CheckedHost) -> None:
    listing = host.run("systemctl list-units --state=failed --plain --no-legend 'rayrack*'").stdout
    failed = [line.split()[0] for line in listing.splitlines()]
    expect(not failed, f"{host}: failed: {', '.join(failed)}", journal(host, failed[0] if failed else ""))


def test_no_model_is_served_that_is_not_in_the_list(head: CheckedHost, models: tuple[Model, ...]) -> None:
    listing = head.run("systemctl list-units --all --plain --no-legend 'rayrack-model@*'").stdout
    extra = {line.split()[0] for line in listing.splitlines()} - set(units_of(head.rack_host, models))
    expect(not extra, f"{head}: not in the model list: {', '.join(sorted(extra))}", head.deploy_again)


def test_haproxy_of_the_distribution_stays_off(head: CheckedHost) -> None:
    state = head.run("systemctl is-active haproxy.service").stdout.strip()
    enabled = head.run("systemctl is-enabled haproxy.service").stdout.strip()
    expect(
        state == "inactive" and enabled == "masked",
        f"{head}: the distribution's haproxy.service is {state} and {enabled}, must be inactive and masked: "
        "it would take the gateway's ports",
        head.deploy_again,
    )
