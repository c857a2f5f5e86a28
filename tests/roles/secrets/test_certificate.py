"""An own certificate is judged before any host is changed: what a gateway could not serve is one line."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pydantic import SecretStr

from roles.errors import InputError
from roles.secrets import certificate

NOW = datetime(2026, 11, 28, 15, 0, tzinfo=UTC)
DAY = timedelta(days=1)
PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


@dataclass(frozen=True)
class Issued:
    certificate: x509.Certificate
    key: Any

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(PEM).decode()

    def key_pem(self, passphrase: bytes | None = None, form: Any = PKCS8) -> str:
        locked = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
        text: bytes = self.key.private_bytes(PEM, form, locked)
        return text.decode()


def issue(
    name: str,
    issuer: Issued | None = None,
    *,
    names: Sequence[str] = (),
    key: Any = None,
    begins: datetime = NOW - 30 * DAY,
    ends: datetime = NOW + 60 * DAY,
    authority: bool = False,
    usage: Sequence[x509.ObjectIdentifier] = (),
) -> Issued:
    """A certificate signed by ``issuer``, or by itself."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(each) for each in names]), critical=False)
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    signer = issuer.key if issuer else key
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Issued(builder.sign(signer, digest), key)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@cache
def root() -> Issued:
    return issue("Root", authority=True)


@cache
def middle() -> Issued:
    return issue("Middle", root(), authority=True)


@cache
def host() -> Issued:
    return issue("api.example.com", middle(), names=("api.example.com", "*.rack.example.com", "10.0.0.1"))


def check(chain: str, key: str, wanted: Sequence[str] = ("api.example.com",)) -> certificate.OwnCertificate:
    return certificate.check(
        chain, SecretStr(key), chain_at="gateway_certificate", key_at="gateway_certificate_key", wanted=wanted, now=NOW
    )


def problem(chain: str, key: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        check(chain, host().key_pem() if key is None else key)
    (line,) = caught.value.problems
    return line


def test_a_chain_from_the_host_s_own_upwards_is_taken_with_or_without_its_root() -> None:
    for chain in (host().pem, host().pem + middle().pem, host().pem + middle().pem + root().pem):
        own = check(chain, host().key_pem())
        assert (own.chain, own.warnings) == (chain, ())
        assert own.names == ("api.example.com", "*.rack.example.com", "10.0.0.1")


def test_words_around_the_certificates_are_left_as_they_are() -> None:
    text = f"subject=api\n{host().pem}\n# the middle one\n{middle().pem.rstrip()}"
    assert check(text, host().key_pem()).chain == text + "\n"


@pytest.mark.parametrize("form", [PKCS8, serialization.PrivateFormat.TraditionalOpenSSL])
def test_a_key_is_taken_in_both_forms_and_never_shown(form: Any) -> None:
    own = check(host().pem, host().key_pem(form=form))
    assert own.key.get_secret_value() == host().key_pem(form=form)
    assert host().key_pem(form=form).splitlines()[1] not in repr(own)


def test_an_rsa_key_of_2048_bits_is_taken_and_a_shorter_one_is_not() -> None:
    for bits, taken in ((2048, True), (1024, False)):
        own = issue("a", names=("a",), key=rsa.generate_private_key(65537, bits))
        if taken:
            assert check(own.pem, own.key_pem(), wanted=["a"]).warnings == ()
        else:
            assert problem(own.pem, own.key_pem()) == "gateway_certificate_key: has 1024 bits and needs 2048"


@pytest.mark.parametrize(
    "key",
    [ed25519.Ed25519PrivateKey.generate(), dsa.generate_private_key(2048), ec.generate_private_key(ec.SECP256K1())],
)
def test_a_kind_of_key_that_not_every_client_understands_is_refused(key: Any) -> None:
    own = issue("a", root(), names=("a",), key=key)
    assert problem(own.pem, own.key_pem()) == (
        "gateway_certificate_key: must be an RSA key, or one on the curve P-256 or P-384: clients take no other"
    )


def test_the_wrong_order_is_told_by_names() -> None:
    assert problem(middle().pem + host().pem, middle().key_pem()) == (
        "gateway_certificate: certificate 2 (api.example.com) has not signed certificate 1 (Middle): the host's own "
        "comes first, then the one that signed it, and so on"
    )
    assert "certificate 2 (Root) has not signed certificate 1 (api.example.com)" in problem(host().pem + root().pem)


def test_an_issuer_of_the_right_name_with_another_key_has_not_signed() -> None:
    impostor = issue("Middle", root(), authority=True)
    assert "certificate 2 (Middle) has not signed certificate 1" in problem(host().pem + impostor.pem)


def test_the_key_of_another_certificate_is_refused() -> None:
    assert problem(host().pem, middle().key_pem()) == (
        "gateway_certificate_key: is not the key of the certificate (api.example.com)"
    )


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("", "is no PEM private key"),
        ("c4na4y", "is no PEM private key"),
        (host().pem, "is no PEM private key"),
        (host().key_pem(b"secret"), "is encrypted: give it without a passphrase"),
        (
            host().key_pem(b"secret", serialization.PrivateFormat.TraditionalOpenSSL),
            "is encrypted: give it without a passphrase",
        ),
        (
            host().key_pem().replace("M", "!"),
            "cannot be read: it is damaged, cut off, or of a kind that TLS does not use",
        ),
        (
            host().key_pem()[:80],
            "cannot be read: it is damaged, cut off, or of a kind that TLS does not use",
        ),
    ],
    ids=["empty", "text", "certificate", "encrypted", "encrypted-before-pkcs8", "damaged", "cut-off"],
)
def test_a_key_that_cannot_be_used_is_one_line_without_it(key: str, expected: str) -> None:
    assert problem(host().pem, key) == f"gateway_certificate_key: {expected}"


def test_a_chain_with_a_private_key_in_it_would_show_it_to_everybody() -> None:
    assert problem(host().pem + host().key_pem()) == (
        "gateway_certificate: holds a private key: that belongs in gateway_certificate_key alone"
    )


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ("", "is no PEM certificate: it has no line -----BEGIN CERTIFICATE-----"),
        ("\x30\x82", "is no PEM certificate: it has no line -----BEGIN CERTIFICATE-----"),
        (host().pem[:200], "a certificate in it cannot be read: it is damaged or cut off"),
        (host().pem + middle().pem.replace("M", "A"), "a certificate in it cannot be read: it is damaged or cut off"),
    ],
    ids=["empty", "der", "cut-off", "damaged"],
)
def test_what_is_no_certificate_is_one_line(chain: str, expected: str) -> None:
    assert problem(chain) == f"gateway_certificate: {expected}"


def test_a_certificate_out_of_its_time_is_refused_wherever_it_stands_in_the_chain() -> None:
    old = issue("a", root(), names=("a",), ends=NOW - DAY)
    assert problem(old.pem, old.key_pem()) == "gateway_certificate: certificate 1 (a): ended on 2026-11-27: renew it"
    early = issue("a", root(), names=("a",), begins=NOW + DAY)
    assert problem(early.pem, early.key_pem()).startswith(
        "gateway_certificate: certificate 1 (a): begins on 2026-11-29 15:00 UTC"
    )
    old_middle = issue("Middle", root(), authority=True, ends=NOW)
    own = issue("a", old_middle, names=("a",))
    assert "certificate 2 (Middle): ended on 2026-11-28" in problem(own.pem + old_middle.pem, own.key_pem())


@pytest.mark.parametrize(("left", "warned"), [(timedelta(days=13, hours=23), True), (14 * DAY, False)])
def test_one_that_ends_within_14_days_is_a_warning(left: timedelta, warned: bool) -> None:
    own = issue("a", root(), names=("a",), ends=NOW + left)
    expected = ("gateway_certificate: ends on 2026-12-12, in 13 days: renew it",) if warned else ()
    assert check(own.pem, own.key_pem(), wanted=["a"]).warnings == expected


def test_one_without_names_is_refused_as_clients_do() -> None:
    own = issue("api.example.com", root())
    assert problem(own.pem, own.key_pem()) == (
        "gateway_certificate: names no host (no subject alternative names): clients refuse it"
    )


@pytest.mark.parametrize(
    ("usage", "taken"),
    [
        ((ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH), True),
        ((ExtendedKeyUsageOID.CLIENT_AUTH,), False),
    ],
)
def test_one_that_is_for_clients_alone_is_refused(usage: Sequence[x509.ObjectIdentifier], taken: bool) -> None:
    own = issue("a", root(), names=("a",), usage=usage)
    if taken:
        assert check(own.pem, own.key_pem(), wanted=["a"]).warnings == ()
    else:
        assert problem(own.pem, own.key_pem()).startswith("gateway_certificate: is not for servers")


def test_one_for_other_names_is_a_warning_that_says_which() -> None:
    assert check(host().pem, host().key_pem(), wanted=["gpu-01", "10.0.0.9"]).warnings == (
        "gateway_certificate: is for api.example.com, *.rack.example.com, 10.0.0.1, and not for gpu-01 or 10.0.0.9: "
        "clients refuse it there",
    )


@pytest.mark.parametrize(
    ("wanted", "covered"),
    [
        ("api.example.com", True),
        ("API.Example.com.", True),
        ("h1.rack.example.com", True),
        ("a.h1.rack.example.com", False),
        ("rack.example.com", False),
        ("10.0.0.1", True),
        ("10.0.0.2", False),
        ("example.com", False),
    ],
)
def test_a_star_stands_for_one_label(wanted: str, covered: bool) -> None:
    assert certificate.covers(certificate.names_of(host().certificate), wanted) is covered
