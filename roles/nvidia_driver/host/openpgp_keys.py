"""Prints the fingerprint of every primary key in a file of OpenPGP keys, one per line. Sent to a host and run there.

Hosts have no gpg before something brings it, and a key must be known before apt may trust it. Standard library only.
Packets are those of RFC 4880: section 4.2 (headers), 5.5.2 (keys), 6.2 (armor), 12.2 (fingerprints).
"""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PUBLIC_KEY = 6


def dearmored(data: bytes) -> bytes:
    """Binary packets, whether the file was armored or binary."""
    text = data.replace(b"\r\n", b"\n")
    # Headers end with an empty line; the last line, with a "=", is a checksum.
    armor = rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\n(?:[^\n]+\n)*\n(.*?)(?:\n=[A-Za-z0-9+/]{4})?\s*-----END"
    blocks = re.findall(armor, text, re.DOTALL)
    return b"".join(base64.b64decode(block) for block in blocks) if blocks else data


def packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and body of each packet.

    Raises:
        ValueError: this is not a sequence of OpenPGP packets.
    """
    at = 0
    while at < len(data):
        tag, start, length = header(data, at)
        if start + length > len(data):
            raise ValueError("the file ends inside a packet")
        yield tag, data[start : start + length]
        at = start + length


def header(data: bytes, at: int) -> tuple[int, int, int]:
    """Tag, start of the body and its length."""
    first = data[at]
    if not first & 0x80:
        raise ValueError("not an OpenPGP key")
    if not first & 0x40:  # old format: the lowest two bits say how many bytes the length has
        size = {0: 1, 1: 2, 2: 4}.get(first & 3)
        if size is None:
            raise ValueError("a packet of unknown length")
        return (first >> 2) & 15, at + 1 + size, int.from_bytes(data[at + 1 : at + 1 + size], "big")
    octet = int.from_bytes(data[at + 1 : at + 2], "big")
    if octet < 192:
        return first & 63, at + 2, octet
    if octet < 224:
        return first & 63, at + 3, ((octet - 192) << 8) + int.from_bytes(data[at + 2 : at + 3], "big") + 192
    if octet == 255:
        return first & 63, at + 6, int.from_bytes(data[at + 2 : at + 6], "big")
    raise ValueError("a packet of unknown length")


def fingerprints(data: bytes) -> list[str]:
    """40 upper-case hexadecimal digits for each primary key of version 4.

    Raises:
        ValueError: the data is no key file, or a key has another version.
    """
    found = []
    for tag, body in packets(dearmored(data)):
        if tag == PUBLIC_KEY:
            if body[:1] != b"\4":
                raise ValueError("a key that is not of version 4")
            prefix = b"\x99" + len(body).to_bytes(2, "big")
            found.append(hashlib.sha1(prefix + body, usedforsecurity=False).hexdigest().upper())
    return found


if __name__ == "__main__":
    for path in sys.argv[1:]:
        try:
            print(*fingerprints(Path(path).read_bytes()), sep="\n")
        except FileNotFoundError:
            print("missing")
        except ValueError as problem:
            print(f"broken: {problem}")
