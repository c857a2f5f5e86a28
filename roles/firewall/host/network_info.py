"""Prints what the firewall's rules need to know of a host, as one line of JSON. Sent to the host and run there as root.

Arguments: addresses of other hosts of the rack. Standard library only, and nothing newer than Python 3.9: it also runs
on hosts that are then refused.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

RULES = "/etc/rayrack/firewall.nft"
PORT_RANGE = "/proc/sys/net/ipv4/ip_local_port_range"
# Addresses of nobody (RFC 5737, RFC 3849): the default route answers for them.
NOBODY = ("192.0.2.1", "2001:db8::1")
# include/uapi/linux/netlink.h and netfilter/nf_tables.h
NETLINK_NETFILTER, NLM_F_REQUEST, NLMSG_ERROR = 12, 1, 2
NFT_MSG_GETGEN = (10 << 8) | 16


def addresses() -> list[str]:
    """Each address that is not for this host or this link alone, with the length of its network: ``10.0.0.1/24``."""
    try:
        shown = subprocess.run(
            ["ip", "-json", "address", "show", "up", "scope", "global"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=20,
        ).stdout
        links = json.loads(shown or "[]")
    except (OSError, ValueError, subprocess.SubprocessError):
        return []
    return [
        f"{each['local']}/{each['prefixlen']}"
        for link in links
        for each in link.get("addr_info", ())
        if "local" in each
    ]


def sources(targets: list[str]) -> list[str]:
    """The address that a connection to each target would leave from; a UDP connect sends nothing."""
    found = []
    for target in targets:
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            found.append(probe.getsockname()[0])
    return sorted(set(found))


def ssh_port() -> int | None:
    """Where the SSH connection came in that this program runs over. sudo does not pass the variable on; the kernel
    still has the environment that its parents were started with."""
    pid = os.getpid()
    while pid > 1:
        with contextlib.suppress(OSError):
            for variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                if variable.startswith(b"SSH_CONNECTION="):
                    return int(variable.split()[-1])
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        pid = int(stat.rpartition(")")[2].split()[1])
    return None


def nf_tables_problem() -> str | None:
    """Ask the kernel for the generation of its rules: it loads the module where it has one."""
    request = struct.pack("=IHHIIBBH", 20, NFT_MSG_GETGEN, NLM_F_REQUEST, 1, 0, 0, 0, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
            netlink.settimeout(10)
            netlink.send(request)
            answer = netlink.recv(4096)
    except OSError as error:
        return str(error.strerror or error)
    if struct.unpack_from("=H", answer, 4)[0] != NLMSG_ERROR:
        return None
    number = -struct.unpack_from("=i", answer, 16)[0]
    return None if number == 0 else f"{errno.errorcode.get(number, number)}: {os.strerror(number)}"


def text_of(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text(errors="replace")
    return ""


def main(targets: list[str]) -> None:
    found = {
        "addresses": addresses(),
        "sources": sources([*NOBODY, *targets]),
        "ssh_port": ssh_port(),
        "ephemeral": [int(port) for port in text_of(PORT_RANGE).split()] or [32768, 60999],
        "nf_tables_problem": nf_tables_problem(),
        "rules": text_of(RULES),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
