"""The runtime in use: complete, and of the versions that we have chosen."""

from roles.serving_runtime.lock import pins
from tests.hosts.reach import CheckedHost, expect

CURRENT = "/opt/rayrack/current"


def test_current_points_at_a_runtime(host: CheckedHost) -> None:
    target = host.run("readlink -e %s", CURRENT).stdout.strip()
    expect(bool(target), f"{host}: {CURRENT} is missing or points at nothing", host.deploy_again)
    expect(
        target.startswith("/opt/rayrack/runtime/"),
        f"{host}: {CURRENT} points at {target}, must be below /opt/rayrack/runtime",
        host.deploy_again,
    )


def test_versions_are_the_pinned_ones(host: CheckedHost) -> None:
    pinned = pins(host.rack_host.settings.runtime)
    installed = host.run_program("versions", *pinned, python=f"{CURRENT}/bin/python")
    wrong = [f"{name} {installed[name]} instead of {pin}" for name, pin in pinned.items() if installed[name] != pin]
    expect(not wrong, f"{host}: the runtime has {'; '.join(wrong)}", host.deploy_again)
