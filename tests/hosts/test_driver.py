"""The NVIDIA driver: installed, held and at work in exactly the version that is set, where there is a GPU."""

from functools import cache

from roles.nvidia_driver.facts import HostDriver, UnitStates
from roles.nvidia_driver.info import DriverInfo
from roles.nvidia_driver.plan import Driver, Plan, plan, select, strays
from roles.nvidia_driver.steps import MODPROBE, PREFERENCES, UNATTENDED
from tests.hosts.reach import CheckedHost, expect, last_line


@cache
def look(host: CheckedHost) -> DriverInfo:
    result = host.as_root.run(HostDriver().command())
    expect(result.rc == 0, f"{host}: cannot be looked at: {last_line(result.stderr)}", host.deploy_again)
    return HostDriver().process(result.stdout.splitlines())


def wanted(host: CheckedHost) -> Plan | None:
    """None: no GPU on this host, or its driver is left alone."""
    driver = Driver.from_settings(host.rack_host.settings, None)
    return plan(look(host), driver) if driver else None


def test_driver_packages_have_one_version_and_are_held(host: CheckedHost) -> None:
    if not (found := wanted(host)):
        return
    packages = look(host).packages
    left = select(found, packages, {})
    expect(left.nothing, f"{host}: driver {found.version} is not installed as a whole", host.deploy_again)
    libraries = [name for name in strays(packages, found.version) if name.startswith("lib")]
    expect(not libraries, f"{host}: of another driver: {', '.join(libraries)}", host.deploy_again)
    loose = [name for name, package in packages.items() if not package.held]
    expect(not loose, f"{host}: not held: {', '.join(loose)}", host.deploy_again)


def test_driver_is_pinned_and_kept_from_upgrades_and_nouveau_is_blacklisted(host: CheckedHost) -> None:
    if not (found := wanted(host)):
        return
    for path, text in (
        (PREFERENCES, f"Pin: version {found.version}-*"),
        (UNATTENDED, "nvidia"),
        (MODPROBE, "blacklist nouveau"),
    ):
        result = host.run("grep -qF -- %s %s", text, path)
        expect(result.rc == 0, f"{host}: {path} does not say `{text}`", host.deploy_again)


def test_driver_is_loaded_and_its_services_run(host: CheckedHost) -> None:
    if not (found := wanted(host)):
        return
    info = look(host)
    expect(not info.nouveau, f"{host}: nouveau is loaded", f"reboot {host}")
    expect(
        info.loaded == found.version.text,
        f"{host}: driver {info.loaded} is loaded, not {found.version}",
        f"reboot {host}",
    )
    services = found.packages.services
    states = UnitStates().process(host.as_root.run(UnitStates().command(units=services)).stdout.splitlines())
    for unit in services:
        expect(states[unit][0] == "active", f"{host}: {unit} is {states[unit][0]}", f"on {host}: journalctl -u {unit}")
