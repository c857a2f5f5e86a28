"""Runs on a host: what a port says to those who do not speak TLS 1.2 or newer; prints it as JSON.

The argument is a JSON object with ``address`` and ``port``. Prints ``plain``, the first line of the answer to a request
in clear text, empty when there is none; and ``old_tls``, by version: ``accepted``, or why not.
"""

import json
import socket
import ssl
import sys
import warnings

LIMIT_S = 10
OLD = ("TLSv1", "TLSv1_1")


def plain(address: str, port: int) -> str:
    try:
        with socket.create_connection((address, port), timeout=LIMIT_S) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: rack\r\nConnection: close\r\n\r\n")
            said = connection.recv(4096)
    except OSError:
        return ""
    # What TLS answers to that is an alert, no text.
    line = said.partition(b"\r\n")[0]
    return line.decode(errors="replace") if line.isascii() and line.decode().isprintable() else ""


def old_tls(address: str, port: int, version: str) -> str:
    # The distribution's OpenSSL would not even try: it is told to, or it would be this host that refuses.
    warnings.simplefilter("ignore", DeprecationWarning)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    try:
        with (
            socket.create_connection((address, port), timeout=LIMIT_S) as connection,
            context.wrap_socket(connection, server_hostname="rack"),
        ):
            return "accepted"
    except OSError as error:
        return f"{type(error).__name__}: {error}"


def main() -> None:
    where = json.loads(sys.argv[1])
    address, port = where["address"], where["port"]
    tried = {version: old_tls(address, port, version) for version in OLD}
    print(json.dumps({"plain": plain(address, port), "old_tls": tried}))


main()
