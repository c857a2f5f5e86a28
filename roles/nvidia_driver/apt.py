"""Operations on apt: the repository's key, packages of exactly one version, holds. Each looks at the state first."""

import shlex
from collections.abc import Callable, Generator, Sequence
from io import StringIO

from pyinfra.api.command import PyinfraCommand
from pyinfra.api.operation import operation
from pyinfra.context import host
from pyinfra.operations import files

from roles.nvidia_driver.facts import HostDriver, KeyFingerprints, KnownVersions
from roles.nvidia_driver.info import DriverInfo
from roles.nvidia_driver.plan import Plan, Repository, Selection, missing_headers, select, strays

WAIT_FOR_LOCK = "-o DPkg::Lock::Timeout=300"
# Settings files that somebody has changed are kept, as in every unattended run.
APT_GET = (
    "DEBIAN_FRONTEND=noninteractive apt-get -y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "
    f"{WAIT_FOR_LOCK}"
)
INSTALL = f"{APT_GET} install --no-install-recommends --allow-downgrades --allow-change-held-packages"

Commands = Generator[str | PyinfraCommand, None, None]


def failing(problem: str) -> str:
    """The command that ends a host's run with this line."""
    return f"echo {shlex.quote(problem)} >&2; false"


@operation()
def key_present(repository: Repository, path: str) -> Commands:
    """
    The key that signs a repository, known by its fingerprint or given by the operator.

    + repository: the repository and how its key is known
    + path: where apt reads it (``Signed-By``)
    """
    if repository.key is not None:
        yield from files.put._inner(
            src=StringIO(repository.key), dest=path, user="root", group="root", mode="644", create_remote_dir=True
        )
        return
    if host.get_fact(KeyFingerprints, path=path) == (repository.fingerprint,):
        host.noop(f"{path} holds the key {repository.fingerprint}")
        return
    new = f"{path}.new"
    url = shlex.quote(repository.key_url)
    # apt's own way to fetch, with apt's proxy.
    yield f"install -d -m 755 {shlex.quote(path.rpartition('/')[0])}; /usr/lib/apt/apt-helper download-file {url} {new}"
    found = host.get_fact(KeyFingerprints, path=new)
    if found != (repository.fingerprint,):
        problem = (
            f"{repository.key_url} holds {', '.join(found)}, not NVIDIA's key {repository.fingerprint}: a mirror with "
            "a key of its own needs nvidia_driver_repository_key"
        )
        yield f"rm -f {new}; {failing(problem)}"
    yield f"chmod 644 {new} && mv {new} {shlex.quote(path)}"


@operation()
def headers_present(plan: Plan) -> Commands:
    """
    The kernel headers that dkms builds modules with: for the running kernel, and for kernels to come.

    + plan: names them
    """
    info = host.get_fact(HostDriver) or DriverInfo()
    wanted = missing_headers(info, plan)
    known = host.get_fact(KnownVersions, names=wanted) if wanted else {}
    if info.headers and not known:
        host.noop(f"the headers of kernel {info.kernel} are there")
        return
    yield f"apt-get {WAIT_FOR_LOCK} update"
    known = host.get_fact(KnownVersions, names=wanted)
    if not info.headers and plan.headers[0] not in known:
        yield failing(
            f"no package {plan.headers[0]} for the running kernel: bring the kernel up to date (apt-get dist-upgrade, "
            "reboot), deploy again"
        )
        return
    yield f"{INSTALL} {shlex.join([name for name in wanted if name in known])}"


def _selection(plan: Plan) -> Selection:
    installed = (host.get_fact(HostDriver) or DriverInfo()).packages
    names = [name for entry in plan.packages.exact + plan.packages.others for name in entry.split(" | ")]
    names = sorted({*names, *strays(installed, plan.version)})
    return select(plan, installed, host.get_fact(KnownVersions, names=names))


@operation()
def version_offered(plan: Plan, written: Callable[[], Sequence[str]]) -> Commands:
    """
    End the run of a host whose repository lacks the driver's version, before anything says that version.

    + plan: the packages, and the repository for the line that says what it lacks
    + written: tells which files of the repository this run has written; they go again when the run ends here
    """
    if _selection(plan).nothing:
        host.noop(f"driver {plan.version} is installed")
        return
    yield f"apt-get {WAIT_FOR_LOCK} update"
    if problem := _selection(plan).problem:
        remove = f"rm -f {shlex.join(paths)}; " if (paths := written()) else ""
        yield f"{remove}{failing(problem)}"


@operation()
def driver_present(plan: Plan) -> Commands:
    """
    Every package of the driver at exactly its version; what has moved away is brought back.

    + plan: the packages
    """
    selection = _selection(plan)
    if selection.nothing:
        host.noop(f"driver {plan.version} is installed")
    elif selection.problem:
        yield failing(selection.problem)
    else:
        yield f"{INSTALL} {shlex.join(selection.arguments)}"


@operation()
def all_held() -> Commands:
    """Hold every package of the driver that is installed, so that only a deploy moves it."""
    info = host.get_fact(HostDriver) or DriverInfo()
    loose = sorted(name for name, package in info.packages.items() if not package.held)
    if not loose:
        host.noop("every package of the driver is held")
        return
    yield f"apt-mark hold {shlex.join(loose)} >/dev/null"
