"""The clean-up of Ray's files runs by cron, so cron must run."""

from tests.hosts.reach import CheckedHost, expect


def test_cron_runs(host: CheckedHost) -> None:
    state = host.run("systemctl is-active cron.service").stdout.strip()
    expect(
        state == "active",
        f"{host}: cron.service is {state}, so Ray's old sessions are never removed",
        f"on {host}: systemctl enable --now cron.service",
    )


def test_cron_comes_back_after_a_reboot(host: CheckedHost) -> None:
    state = host.run("systemctl is-enabled cron.service").stdout.strip() or "missing"
    expect(state == "enabled", f"{host}: cron.service is {state}", f"on {host}: systemctl enable cron.service")
