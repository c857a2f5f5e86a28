"""Fingerprints of OpenPGP keys without gpg. tests/lab/test_apt_repository.py compares one with gpg's own."""

import base64
from contextlib import suppress

import openpgp_keys
import pytest
from hypothesis import given
from hypothesis import strategies as st

BODY = b"\4\x62\x58\x9a\x51\x01" + bytes(range(200)) * 2
FINGERPRINT = openpgp_keys.fingerprints(b"\x99" + len(BODY).to_bytes(2, "big") + BODY)[0]


def new_format(tag: int, body: bytes) -> bytes:
    length = len(body)
    if length < 192:
        octets = bytes([length])
    elif length < 8384:
        octets = bytes([((length - 192) >> 8) + 192, (length - 192) & 255])
    else:
        octets = b"\xff" + length.to_bytes(4, "big")
    return bytes([0xC0 | tag]) + octets + body


def armored(data: bytes, headers: str = "") -> bytes:
    text = base64.encodebytes(data).decode()
    return (
        f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n{headers}\n{text}=abcd\n-----END PGP PUBLIC KEY BLOCK-----\n".encode()
    )


@pytest.mark.parametrize("headers", ["", "Version: GnuPG v2.0.22\n", "Comment: a\nVersion: b\n"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_armored_or_not_the_fingerprint_is_the_same(headers: str, newline: bytes) -> None:
    packet = new_format(6, BODY)
    assert openpgp_keys.fingerprints(packet) == [FINGERPRINT]
    assert openpgp_keys.fingerprints(armored(packet, headers).replace(b"\n", newline)) == [FINGERPRINT]


@given(st.lists(st.tuples(st.sampled_from([2, 13, 14]), st.binary(max_size=9000)), max_size=4))
def test_other_packets_are_passed_over(others: list[tuple[int, bytes]]) -> None:
    around = b"".join(new_format(tag, body) for tag, body in others)
    assert openpgp_keys.fingerprints(around + new_format(6, BODY) + around) == [FINGERPRINT]


def test_a_second_key_in_the_file_is_not_overlooked() -> None:
    assert len(openpgp_keys.fingerprints(new_format(6, BODY) + new_format(6, BODY + b"\0"))) == 2
    both = armored(new_format(6, BODY)) + armored(new_format(6, BODY + b"\0"))
    assert len(openpgp_keys.fingerprints(both)) == 2


@given(st.binary(max_size=300))
def test_whatever_the_file_holds_it_is_keys_or_a_value_error(data: bytes) -> None:
    with suppress(ValueError):
        assert all(len(each) == 40 for each in openpgp_keys.fingerprints(data))
