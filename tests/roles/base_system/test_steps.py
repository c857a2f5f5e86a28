from typing import Any

from roles.base_system import apt_proxy, steps
from tests.roles.fake_host import Change, changes

DEFAULTS: dict[str, Any] = {
    "limit_nofile": 1_048_576,
    "dev_shm_mib": None,
    "http_proxy": None,
    "no_proxy": "localhost,.example.org",
}
BLANK = {"dpkg-query": "ii |dpkg|", "uname -s": "Linux", "command -v useradd": "/usr/sbin/useradd"}
SHM_FACT = "stat -f"


def install(responses: dict[str, Any] | None = None, **settings: object) -> dict[str, Change]:
    return changes(steps.install, {**BLANK, **(responses or {})}, **{**DEFAULTS, **settings})


def test_the_service_user_is_a_system_user_that_cannot_log_in() -> None:
    (command,) = install()["Service user rayrack"].commands
    assert command == "useradd -d /var/lib/rayrack -s /usr/sbin/nologin -r -c 'rayrack services' -M rayrack"


def test_so_is_the_user_of_the_gateway_which_every_host_has_as_its_firewall_names_it() -> None:
    (command,) = install()["Service user rayrack-gateway"].commands
    assert command == "useradd -d /nonexistent -s /usr/sbin/nologin -r -c 'rayrack gateway' -M rayrack-gateway"


def test_the_users_come_before_what_belongs_to_them() -> None:
    names = list(install())
    directories = names.index("Declare rayrack's directories")
    assert all(names.index(f"Service user {user}") < directories for user in ("rayrack", "rayrack-gateway"))


def test_secrets_are_declared_for_root_alone() -> None:
    (declared,) = install()["Declare rayrack's directories"].files.values()
    assert "d /etc/rayrack/secrets   0700 root root -" in declared.splitlines()


def test_time_is_left_to_a_daemon_that_is_there() -> None:
    (*_, install_command) = install({"dpkg-query": "ii |chrony|time-daemon"})["Packages every host needs"].commands
    assert "cron" in install_command
    assert "timesyncd" not in install_command


def test_without_a_proxy_apt_gets_no_proxy_file_and_loses_the_old_one() -> None:
    assert "Proxy for apt" not in install()
    there = {
        f"! (test -e {apt_proxy.PATH}": [
            "user=root group=root mode=-rw-r--r-- atime=1 mtime=1 ctime=1 size=9 regular file"
        ]
    }
    assert install(there)["No proxy for apt"].commands == (f"rm -f {apt_proxy.PATH}",)


def test_with_a_proxy_apt_gets_its_file() -> None:
    assert "Proxy for apt" in install(http_proxy="http://proxy:3128")


def test_the_kernels_ceiling_is_raised_only_for_a_limit_above_it() -> None:
    assert "Kernel's ceiling of open files" not in install()
    raised = install(limit_nofile=2_000_000)["Kernel's ceiling of open files"]
    assert raised.commands[0] == "sysctl fs.nr_open=2000000"
    assert "/etc/sysctl.d/60-rayrack.conf" in raised.commands[1]


def test_shared_memory_is_sized_now_and_at_boot() -> None:
    changed = install({SHM_FACT: "4096 1000"}, dev_shm_mib=512)
    assert changed["Size of shared memory now"].commands == ("mount -o remount,size=512m /dev/shm",)
    (boot,) = changed["Size of shared memory at boot"].commands
    assert "tmpfs /dev/shm tmpfs nosuid,nodev,size=512m,x-rayrack 0 0" in boot


def test_shared_memory_of_the_right_size_is_left_alone() -> None:
    assert "Size of shared memory now" not in install({SHM_FACT: "4096 131072"}, dev_shm_mib=512)


def test_without_a_setting_shared_memory_is_left_alone() -> None:
    assert not [name for name in install() if "hared memory" in name]
