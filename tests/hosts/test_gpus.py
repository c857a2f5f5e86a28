"""The GPUs of each host that serves with some: looked at every minute, and free of what would block a deploy."""

from roles.gpu_health import rules, steps, verdict
from roles.gpu_health.document import Health, parse
from roles.gpu_health.expected import Expected
from tests.hosts.reach import CheckedHost, expect

# Cron looks every minute; a look may take most of one.
NEWER_THAN_MINUTES = 5


def last_health(host: CheckedHost) -> Health:
    """The last document that cron left on the host."""
    found = parse(host.run(f"cat {steps.LAST}").stdout)
    if isinstance(found, str):
        expect(False, f"{host}: {steps.LAST}: {found}", f"on {host}: journalctl -t rayrack-gpu-health -n 20")
        raise AssertionError
    return found


def test_gpus_are_looked_at_every_minute(gpu_host: CheckedHost) -> None:
    recent = gpu_host.run(f"find {steps.LAST} -mmin -{NEWER_THAN_MINUTES}").stdout.strip()
    expect(
        bool(recent),
        f"{gpu_host}: {steps.LAST} is not written every minute",
        f"on {gpu_host}: journalctl -t rayrack-gpu-health -n 20; systemctl status cron",
    )


def test_gpus_may_serve(gpu_host: CheckedHost) -> None:
    settings = gpu_host.rack_host.settings
    found = verdict.of(
        str(gpu_host),
        last_health(gpu_host),
        Expected.from_settings(settings),
        rules.AFTER,
        settings.gpu_health_override,
    )
    expect(not found.blocked, "\n".join(found.lines()), f"on {gpu_host}: /opt/rayrack/bin/gpu_health")
