import pytest

from roles.base_system.packages import missing, present
from tests.roles.fake_host import changes


@pytest.mark.parametrize(
    ("wanted", "installed", "expected"),
    [
        (["cron"], {"cron"}, []),
        (["cron", "procps"], {"cron"}, ["procps"]),
        (["systemd-timesyncd | time-daemon"], {"time-daemon", "chrony"}, []),
        (["systemd-timesyncd | time-daemon"], {"cron"}, ["systemd-timesyncd"]),
    ],
)
def test_only_what_nothing_provides_is_missing(wanted: list[str], installed: set[str], expected: list[str]) -> None:
    assert missing(wanted, frozenset(installed)) == expected


def test_nothing_is_refreshed_or_installed_when_all_is_there() -> None:
    assert changes(present, {"dpkg-query": ["ii |cron|cron-daemon"]}, packages=["cron"]) == {}


def test_missing_packages_are_installed_after_a_refresh_of_the_lists() -> None:
    changed = changes(present, {"dpkg-query": ["ii |cron|"]}, packages=["cron", "haproxy"])
    (change,) = changed.values()
    refresh, _, install = change.commands
    assert refresh == "apt-get update"
    assert install.endswith("install --no-install-recommends -o DPkg::Lock::Timeout=300 haproxy")
