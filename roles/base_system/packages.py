"""Debian packages, installed where they are missing; apt's lists are refreshed only then."""

from collections.abc import Generator, Sequence

from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation
from pyinfra.context import host
from pyinfra.operations import apt

from roles.base_system.facts import InstalledPackages

# Lists younger than this are taken as they are, so that several roles of one run refresh them once.
LISTS_FRESH_S = 3600
# A new host often runs its first unattended upgrade while it is deployed: wait for its lock.
WAIT_FOR_LOCK = "-o DPkg::Lock::Timeout=300"


def missing(wanted: Sequence[str], installed: frozenset[str]) -> list[str]:
    """What is to be installed. ``a | b`` means ``a``, unless ``b`` is there: Debian's own way to write a dependency."""
    alternatives = [[name.strip() for name in entry.split("|")] for entry in wanted]
    return [names[0] for names in alternatives if not installed.intersection(names)]


@operation()
def present(packages: Sequence[str]) -> Generator[str | StringCommand, None, None]:
    """
    Install packages that are missing, without recommended ones.

    + packages: names, or ``name | alternative`` to accept another package or virtual package that is there already
    """
    absent = missing(packages, host.get_fact(InstalledPackages))
    if not absent:
        host.noop(f"installed: {', '.join(packages)}")
        return
    yield from apt.packages._inner(
        packages=absent,
        update=True,
        cache_time=LISTS_FRESH_S,
        no_recommends=True,
        extra_install_args=WAIT_FOR_LOCK,
    )
