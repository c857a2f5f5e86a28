"""The gateway as a client on the operator's desk meets it: real TLS, a key in memory alone."""

import http.client
import logging
import secrets
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from roles.preflight.rules import ANY_ADDRESS
from tests.hosts.questions import API_KEYS, CERTIFICATE, Answer, certificate_is_ours
from tests.hosts.reach import CheckedHost, expect, last_line

REACH_LIMIT_S = 5
ANSWER_LIMIT_S = 30


def address_of(host: CheckedHost) -> str:
    """Where a client on the desk connects to: the address that ssh takes, or the one the gateway is bound to."""
    bind = host.rack_host.settings.gateway_bind
    if bind not in ANY_ADDRESS:
        return bind
    return _of_ssh(host).get("hostname", host.address)


def detour(host: CheckedHost) -> str:
    """Why clients of that host may be where the desk is not; empty when SSH goes straight to where they come in."""
    bind, of_ssh = host.rack_host.settings.gateway_bind, _of_ssh(host)
    if bind not in ANY_ADDRESS:
        return f"the gateway is bound to {bind}"
    through = of_ssh.get("proxyjump") or of_ssh.get("proxycommand")
    return f"ssh goes there through {through}" if through else ""


def _of_ssh(host: CheckedHost) -> dict[str, str]:
    """What the desk's own settings of ssh say of that host."""
    shown = subprocess.run(["ssh", "-G", host.address], capture_output=True, text=True, check=False).stdout
    return dict(line.partition(" ")[::2] for line in shown.splitlines())


def not_reached(address: str, port: int) -> str:
    """Why the desk cannot come as far as that host; empty when it can, even where nobody listens."""
    try:
        socket.create_connection((address, port), timeout=REACH_LIMIT_S).close()
    except ConnectionRefusedError:
        return ""
    except OSError as error:
        return str(error)
    return ""


@contextmanager
def key_on(host: CheckedHost, prefix: str = "verify-", lifetime: str = "15m") -> Iterator[str]:
    """A key of the host's gateway, revoked at the end; it ends by itself, should this process not come to that."""
    name = f"{prefix}{secrets.token_hex(6)}"
    log = logging.getLogger("testinfra")
    before = log.level
    log.setLevel(logging.INFO)  # on `debug` it would tell the key
    try:
        made = host.run(f"{API_KEYS} make %s --expires-in %s", name, lifetime)
    finally:
        log.setLevel(before)
    expect(made.rc == 0, f"{host}: {API_KEYS} makes no key: {last_line(made.stderr)}", host.deploy_again)
    try:
        yield made.stdout.strip()
    finally:
        host.run(f"{API_KEYS} revoke %s", name)


def ask(host: CheckedHost, address: str, path: str, key: str | None) -> Answer:
    """A GET from the desk, which trusts what the host's file holds. Status 0: no answer, and ``body`` says why."""
    pem = host.run("cat %s", CERTIFICATE).stdout
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        connection = http.client.HTTPSConnection(
            address, host.rack_host.settings.gateway_port, timeout=ANSWER_LIMIT_S, context=_trusting(host, pem)
        )
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return Answer(response.status, response.read().decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, str(error))


def _trusting(host: CheckedHost, pem: str) -> ssl.SSLContext:
    """An operator's own certificate names what clients call the rack, which may be no name of this host: then its name
    is not looked at, its chain is."""
    context = ssl.create_default_context(cadata=pem)
    context.check_hostname = certificate_is_ours(host)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
