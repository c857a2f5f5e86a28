#!/usr/bin/python3 -EsB
"""The gateway's certificate: gateway_certificate ensure NAME... | check NAME... Run by root.

``ensure`` makes a self-signed certificate for these names, and this host's own, where there is none; it makes the one
it made before anew when that ends in less than 30 days or lacks a name. A certificate that somebody else put there is
never touched: it must be readable and belong to its key. ``check`` says what `ensure` would do and changes nothing.

Exit status: 0 the certificate is well; 1 it is not, with one line; 3 `check` found that `ensure` has to make one.
"""

import argparse
import ipaddress
import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DIRECTORY = "/etc/rayrack/gateway"
# Browsers and others take no certificate of more than 825 days.
VALID_DAYS = 825
RENEWED_BEFORE_S = 30 * 24 * 3600
# Tells our own certificates from those of others.
SUBJECT = "/O=rayrack/OU=self-signed by the deploy/CN=rayrack gateway"
_OWN = "CN=rayrack gateway,OU=self-signed by the deploy,O=rayrack"
_NAME = re.compile(
    r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*"
)
LOOPBACK = ("localhost", "127.0.0.1", "::1")
TO_BE_MADE = 3


class CertificateProblem(Exception):
    """One line that says what is wrong, where, and what to do."""


@dataclass(frozen=True)
class Found:
    """A certificate that is there."""

    is_ours: bool
    names: frozenset[str]
    ends_soon: bool
    fits_key: bool


class Certificate:
    """The pair of files."""

    def __init__(self, directory: Path) -> None:
        self.chain = directory / "tls.pem"
        self.key = directory / "tls.pem.key"

    def to_do(self, names: frozenset[str]) -> frozenset[str]:
        """The names to make a certificate for; none: what is there is well.

        Raises:
            CertificateProblem: somebody else's certificate is there, and it cannot be used.
        """
        if not self.chain.exists() and not self.key.exists():
            return names
        found = self._found()
        if found is None:
            return names
        if not found.is_ours:
            if not found.fits_key:
                raise CertificateProblem(
                    f"{self.key} is not the key of {self.chain}: put both files of one certificate there"
                )
            return frozenset()
        if found.fits_key and not found.ends_soon and names <= found.names:
            return frozenset()
        # Names that other deploys came by stay, or two desks would take turns at renewing it.
        return names | found.names

    def make(self, names: frozenset[str]) -> None:
        """Key and certificate, each at once under its name. A gateway that runs has the old pair until a reload."""
        alternatives = ",".join(f"{_kind(name)}:{name}" for name in sorted(names))
        # The certificate first: alone it still tells that it is ours, and that its key is to be made.
        parts = [path.with_name(f".{path.name}.part") for path in (self.chain, self.key)]
        for part in parts:
            part.unlink(missing_ok=True)
        previous = os.umask(0o077)
        try:
            _openssl(
                "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-sha256",
                "-keyout", str(parts[1]), "-out", str(parts[0]), "-days", str(VALID_DAYS), "-subj", SUBJECT,
                "-addext", f"subjectAltName={alternatives}", "-addext", "basicConstraints=critical,CA:FALSE",
                "-addext", "keyUsage=critical,digitalSignature", "-addext", "extendedKeyUsage=serverAuth",
            )  # fmt: skip
        finally:
            os.umask(previous)
        group = self.chain.parent.stat().st_gid
        for part, path, mode in zip(parts, (self.chain, self.key), (0o644, 0o640), strict=True):
            os.chown(part, -1, group)
            part.chmod(mode)
            part.replace(path)

    def _found(self) -> Found | None:
        """None: nothing that anybody would miss."""
        if not self.chain.exists():
            raise CertificateProblem(
                f"{self.chain} is missing: put the certificate of {self.key} there, or remove that"
            )
        subject = self._read("-subject", "-issuer", "-nameopt", "RFC2253").splitlines()
        is_ours = [line.partition("=")[2] for line in subject] == [_OWN, _OWN]
        if not self.key.exists():
            if is_ours:
                return None  # it was interrupted between the two files
            raise CertificateProblem(f"{self.key} is missing: put the key of {self.chain} there")
        of_certificate = self._read("-pubkey")
        try:
            of_key = _openssl("pkey", "-in", str(self.key), "-pubout", "-passin", "pass:")
        except CertificateProblem:
            raise CertificateProblem(
                f"{self.key} cannot be read as a private key without a passphrase: put the key of {self.chain} there"
            ) from None
        return Found(
            is_ours=is_ours,
            names=_names(self._read("-ext", "subjectAltName")),
            ends_soon=not _succeeds("x509", "-in", str(self.chain), "-checkend", str(RENEWED_BEFORE_S)),
            fits_key=of_certificate.strip() == of_key.strip(),
        )

    def _read(self, *what: str) -> str:
        try:
            return _openssl("x509", "-in", str(self.chain), "-noout", *what)
        except CertificateProblem:
            raise CertificateProblem(
                f"{self.chain} cannot be read as a certificate: it must be PEM, the host's own certificate first"
            ) from None


def host_names(names: Sequence[str]) -> frozenset[str]:
    """The names a client may come by: those given, the host's own, and the loopback."""
    own = socket.gethostname()  # which need not be a name that DNS would take
    return frozenset(normal(name) for name in (*names, *([own] if _NAME.fullmatch(own) else []), *LOOPBACK))


def normal(name: str) -> str:
    """One spelling for each name.

    Raises:
        CertificateProblem: neither an address nor a name of DNS.
    """
    try:
        return str(ipaddress.ip_address(name.partition("%")[0]))  # what follows is a link of this host alone
    except ValueError:
        if len(name) > 253 or not _NAME.fullmatch(name):
            raise CertificateProblem(
                f"{name!r} is neither a name nor an address: set another in gateway_names"
            ) from None
        return name.lower()


def _names(text: str) -> frozenset[str]:
    """What stands behind DNS: and IP Address: in ``openssl x509 -ext subjectAltName``."""
    entries = re.findall(r"(?:DNS|IP Address):([^,\s]+)", text)
    return frozenset(normal(entry) for entry in entries if _NAME.fullmatch(entry) or ":" in entry)


def _kind(name: str) -> str:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "DNS"
    return "IP"


def _openssl(*words: str) -> str:
    done = _run(*words)
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or ["it failed"]
        raise CertificateProblem(f"openssl {words[0]}: {reason[0]}")
    return done.stdout


def _succeeds(*words: str) -> bool:
    return _run(*words).returncode == 0


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["openssl", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )


def run(options: argparse.Namespace) -> int:
    certificate = Certificate(options.directory)
    names = certificate.to_do(host_names(options.names))
    if not names:
        return 0
    if options.command == "check":
        print(f"{certificate.chain}: to be made for {', '.join(sorted(names))}")
        return TO_BE_MADE
    certificate.make(names)
    print(f"{certificate.chain}: made for {', '.join(sorted(names))}")
    return 0


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="gateway_certificate", description="The gateway's certificate.")
    parser.add_argument("--directory", type=Path, default=Path(DIRECTORY), help=argparse.SUPPRESS)
    parser.add_argument("command", choices=("ensure", "check"))
    parser.add_argument("names", nargs="*", metavar="NAME", help="what clients call this host")
    try:
        return run(parser.parse_args(words))
    except (CertificateProblem, OSError, subprocess.TimeoutExpired) as problem:
        print(f"gateway_certificate: {problem}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
