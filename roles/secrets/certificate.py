"""A certificate and its key as the operator brings them: checked before any host is changed. Pure: no pyinfra."""

import fnmatch
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NoReturn

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pydantic import SecretStr

from roles.errors import InputError

SOON = timedelta(days=14)
# OpenSSL's default security level on Debian 12 and 13 takes no shorter ones into a server.
RSA_MIN_BITS = 2048
CURVES = (ec.SECP256R1, ec.SECP384R1)


@dataclass(frozen=True)
class OwnCertificate:
    """A chain and the key of its first certificate, both PEM, and what it is good for."""

    chain: str
    key: SecretStr
    names: tuple[str, ...]
    ends: datetime
    warnings: tuple[str, ...] = ()


def check(
    chain: str, key: SecretStr, *, chain_at: str, key_at: str, wanted: Sequence[str], now: datetime
) -> OwnCertificate:
    """The pair, when a gateway can serve it.

    ``chain_at``, ``key_at``: where they come from, for errors. ``wanted``: the names and addresses that clients may
    use; a certificate for none of them is a warning, as there may be other names for the host.

    Raises:
        InputError: with one line that says what is wrong and where.
    """
    if "PRIVATE KEY" in chain:
        raise InputError(f"{chain_at}: holds a private key: that belongs in gateway_certificate_key alone")
    certificates = _certificates(chain, chain_at)
    first = certificates[0]
    _in_order(certificates, chain_at)
    _belongs(_private_key(key, key_at), first, key_at)
    names = names_of(first)
    if not names:
        raise InputError(f"{chain_at}: names no host (no subject alternative names): clients refuse it")
    if not _for_servers(first):
        raise InputError(f"{chain_at}: is not for servers (extended key usage): clients refuse it")
    for place, certificate in enumerate(certificates):
        _valid_now(certificate, f"{chain_at}: certificate {place + 1} ({_subject(certificate)})", now)
    ends = min(certificate.not_valid_after_utc for certificate in certificates)
    warnings = []
    if ends - now < SOON:
        warnings.append(f"{chain_at}: ends on {ends:%Y-%m-%d}, in {(ends - now).days} days: renew it")
    if wanted and not any(covers(names, name) for name in wanted):
        warnings.append(
            f"{chain_at}: is for {', '.join(names)}, and not for {' or '.join(wanted)}: clients refuse it there"
        )
    return OwnCertificate(_ended(chain), SecretStr(_ended(key.get_secret_value())), names, ends, tuple(warnings))


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The names and addresses that it is for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = (str(address) for address in found.get_values_for_type(x509.IPAddress))
    return (*found.get_values_for_type(x509.DNSName), *addresses)


def covers(names: Sequence[str], wanted: str) -> bool:
    """Whether a certificate for ``names`` is one for ``wanted``; a ``*`` stands for one label."""
    try:
        address = str(ipaddress.ip_address(wanted))
    except ValueError:
        lower = wanted.lower().rstrip(".")
        same_depth = (name.lower() for name in names if name.count(".") == lower.count("."))
        return any(fnmatch.fnmatchcase(lower, name) for name in same_depth)
    return address in names


def _certificates(chain: str, where: str) -> list[x509.Certificate]:
    if "-----BEGIN CERTIFICATE-----" not in chain:
        raise InputError(f"{where}: is no PEM certificate: it has no line -----BEGIN CERTIFICATE-----")
    try:
        return x509.load_pem_x509_certificates(chain.encode())
    except ValueError:
        raise InputError(f"{where}: a certificate in it cannot be read: it is damaged or cut off") from None


def _in_order(certificates: Sequence[x509.Certificate], where: str) -> None:
    """Each is signed by the one after it. The last may be signed by a root that clients have."""
    for place, (certificate, issuer) in enumerate(pairwise(certificates), start=1):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            raise InputError(
                f"{where}: certificate {place + 1} ({_subject(issuer)}) has not signed certificate {place} "
                f"({_subject(certificate)}): the host's own comes first, then the one that signed it, and so on"
            ) from None


def _private_key(key: SecretStr, where: str) -> object:
    text = key.get_secret_value()
    if not re.search(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----", text):
        encrypted = "ENCRYPTED PRIVATE KEY" in text
        _refuse_key(where, "is encrypted: give it without a passphrase" if encrypted else "is no PEM private key")
    try:
        return serialization.load_pem_private_key(text.encode(), password=None)
    except TypeError:
        _refuse_key(where, "is encrypted: give it without a passphrase")
    except (ValueError, UnsupportedAlgorithm):
        _refuse_key(where, "cannot be read: it is damaged, cut off, or of a kind that TLS does not use")


def _refuse_key(where: str, reason: str) -> NoReturn:
    raise InputError(f"{where}: {reason}") from None


def _belongs(key: object, certificate: x509.Certificate, where: str) -> None:
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < RSA_MIN_BITS:
            _refuse_key(where, f"has {key.key_size} bits and needs {RSA_MIN_BITS}")
    elif not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, CURVES):
        _refuse_key(where, "must be an RSA key, or one on the curve P-256 or P-384: clients take no other")
    encoding = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*encoding) != certificate.public_key().public_bytes(*encoding):
        _refuse_key(where, f"is not the key of the certificate ({_subject(certificate)})")


def _for_servers(certificate: x509.Certificate) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return ExtendedKeyUsageOID.SERVER_AUTH in usage or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage


def _valid_now(certificate: x509.Certificate, what: str, now: datetime) -> None:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now >= ends:
        raise InputError(f"{what}: ended on {ends:%Y-%m-%d}: renew it")
    if now < begins:
        raise InputError(
            f"{what}: begins on {begins:%Y-%m-%d %H:%M} UTC; this machine has {now.astimezone(UTC):%Y-%m-%d}"
        )


def _subject(certificate: x509.Certificate) -> str:
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(common[0].value) if common else ", ".join(names_of(certificate)) or "without a name"
    return "".join(character for character in name if character.isprintable())[:80]


def _ended(text: str) -> str:
    return text if text.endswith("\n") else f"{text}\n"
