"""Puts on every host what all other roles stand on. Safe to repeat: each operation compares first."""

from pyinfra.api.deploy import deploy
from pyinfra.operations import files, server

from roles.base_system import apt_proxy, packages, shared_memory, tmpfiles, users
from roles.base_system.apt_proxy import AptProxy

USER = users.RAY
TMPFILES = "/etc/tmpfiles.d/rayrack.conf"
# The kernel's own ceiling for a process (fs.nr_open): a service limit above it needs the ceiling raised.
KERNEL_NOFILE_MAX = 1_048_576

PACKAGES = (
    "ca-certificates",
    "cron",
    "dbus",  # systemctl list-jobs by an ordinary user: how a unit knows a stop from a restart
    "procps",  # sysctl, and ps and top for whoever looks at a host
    "systemd-timesyncd | time-daemon",  # chrony, ntpsec and the like are left alone
)


@deploy("Base system")
def install(*, limit_nofile: int, dev_shm_mib: int | None, http_proxy: str | None, no_proxy: str) -> None:
    """Packages, the service users, directories, the kernel's ceiling of open files, and the size of /dev/shm.

    The limits themselves stand in the units; ``limit_nofile`` is here for the ceiling above them.
    """
    _apt_proxy(http_proxy, no_proxy)
    packages.present(name="Packages every host needs", packages=PACKAGES)
    _service_user(USER, home="/var/lib/rayrack", comment="rayrack services")  # tmpfiles.d makes its home
    _service_user(users.GATEWAY, home="/nonexistent", comment="rayrack gateway")
    files.template(
        name="Declare rayrack's directories",
        src="templates/base_system/etc/tmpfiles.d/rayrack.conf.j2",
        dest=TMPFILES,
        user="root",
        group="root",
        mode="644",
        create_remote_dir=False,
        account=USER,
    )
    tmpfiles.applied(name="Directories as declared", path=TMPFILES)
    if limit_nofile > KERNEL_NOFILE_MAX:
        server.sysctl(
            name="Kernel's ceiling of open files",
            key="fs.nr_open",
            value=limit_nofile,
            persist=True,
            persist_file="/etc/sysctl.d/60-rayrack.conf",
        )
    _dev_shm(dev_shm_mib)


def _service_user(name: str, *, home: str, comment: str) -> None:
    server.user(  # noqa: S604 - the user's shell, not a shell command
        name=f"Service user {name}",
        user=name,
        system=True,
        home=home,
        create_home=False,
        ensure_home=False,
        shell="/usr/sbin/nologin",
        comment=comment,
    )


def _apt_proxy(http_proxy: str | None, no_proxy: str) -> None:
    if http_proxy is None:
        files.file(name="No proxy for apt", path=apt_proxy.PATH, present=False)
        return
    apt_proxy.written(name="Proxy for apt", proxy=AptProxy.of(http_proxy, no_proxy))


def _dev_shm(mib: int | None) -> None:
    if mib is None:
        files.line(
            name="Shared memory as the system has it at boot", path="/etc/fstab", line=r".*,x-rayrack .*", present=False
        )
        return
    files.line(
        name="Size of shared memory at boot",
        path="/etc/fstab",
        line=r"^[^#[:space:]]*[[:space:]]*/dev/shm[[:space:]].*$",
        replace=shared_memory.fstab_line(mib),
    )
    shared_memory.resized(name="Size of shared memory now", mib=mib)
