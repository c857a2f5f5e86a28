"""Directories and files: there, with the owner and mode that keep secrets secret."""

from functools import cache

from roles.model_serving.model import Model
from tests.hosts.expected import GATEWAY, ExpectedPath, paths_of
from tests.hosts.reach import CheckedHost, expect


@cache
def stats(host: CheckedHost, paths: tuple[ExpectedPath, ...]) -> dict[str, str]:
    """What stat says of each path that exists, all in one command."""
    # -L: a site may have moved a directory to another disk, behind a link.
    # stat calls an empty file a `regular empty file`.
    command = "stat -Lc '%%n|%%F %%a %%U:%%G' " + " ".join(["%s"] * len(paths))
    lines = host.run(command, *(path.path for path in paths)).stdout.replace("regular empty file", "regular file")
    return dict(line.split("|", 1) for line in lines.splitlines())


def test_path_has_its_owner_and_mode(host: CheckedHost, path: ExpectedPath, models: tuple[Model, ...]) -> None:
    actual = stats(host, paths_of(host.rack_host, models)).get(path.path)
    expect(actual is not None, f"{host}: {path} is missing", host.deploy_again)
    expect(actual == path.stat, f"{host}: {path} is `{actual}`, must be `{path.stat}`", host.deploy_again)


def test_secrets_are_readable_by_root_alone(host: CheckedHost) -> None:
    found = host.run(r"find /etc/rayrack/secrets -mindepth 1 \( ! -user root -o -perm /077 \)")
    expect(found.rc == 0, f"{host}: {found.stderr.strip()}", host.deploy_again)
    loose = found.stdout.split()
    expect(
        not loose,
        f"{host}: not only root can read {', '.join(loose)}",
        f"on {host}: chown root:root {' '.join(loose)}; chmod 400 {' '.join(loose)}",
    )


def test_tls_key_is_readable_by_root_and_the_gateway_alone(gateway_host: CheckedHost) -> None:
    # An operator's own may have come by other ways than a deploy, so it need not be exactly as a deploy puts it.
    key, certificate = f"{GATEWAY}/tls.pem.key", f"{GATEWAY}/tls.pem"
    found = gateway_host.run("stat -Lc '%%U:%%G %%a' %s", key)
    expect(found.rc == 0, f"{gateway_host}: {key} of {certificate} is missing", gateway_host.deploy_again)
    owner, mode = found.stdout.split()
    expect(
        owner in ("root:root", "root:rayrack-gateway") and int(mode, 8) & 0o027 == 0,
        f"{gateway_host}: {key} is {owner} {mode}: others than root and the gateway can read or change it",
        f"on {gateway_host}: chown root:rayrack-gateway {key}; chmod 640 {key}; and take a new key, this one was open",
    )


def test_host_programs_are_linked(host: CheckedHost) -> None:
    # With -L, what still is a link points at nothing.
    found = host.run("find -L /opt/rayrack/bin -type l")
    expect(found.rc == 0, f"{host}: {found.stderr.strip()}", host.deploy_again)
    dangling = found.stdout.split()
    expect(not dangling, f"{host}: links to nothing: {', '.join(dangling)}", host.deploy_again)
