"""How a program on a gateway's host asks it: over TLS, with a key that lives only as long as the program asks."""

import hashlib
import http.client
import json
import secrets
import signal
import ssl
import subprocess
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

API_KEYS = "/opt/rayrack/bin/api_keys"
CERTIFICATE = Path("/etc/rayrack/gateway/tls.pem")
# Should this program be killed before it takes its key back.
KEY_LIFETIME = "15m"
KEY_PREFIX = "verify-"
KEY_LIMIT_S = 30


class GatewayError(Exception):
    """The gateway cannot be asked; the text is one line for the operator."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@contextmanager
def temporary_key(program: str = API_KEYS) -> Iterator[str]:
    """A key that is made here and revoked at the end, whatever ends it but SIGKILL.

    Raises:
        GatewayError: there is no such program, or it refuses.
    """
    name = f"{KEY_PREFIX}{secrets.token_hex(6)}"
    endings = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = {number: signal.signal(number, _leave) for number in endings}
    try:
        yield _run(program, "make", name, "--expires-in", KEY_LIFETIME).strip()
    finally:
        for number in endings:
            signal.signal(number, signal.SIG_IGN)
        # Also when `make` was interrupted: nobody knows how far it came. What cannot be revoked ends by itself.
        with suppress(GatewayError):
            _run(program, "revoke", name)
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _run(program: str, *arguments: str) -> str:
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=KEY_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GatewayError(f"{program} {arguments[0]}: {error}") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise GatewayError(f"{program} {arguments[0]}: {said}")
    return done.stdout


class Gateway:
    """The gateway at ``url``, which must serve the very certificate of the file ``certificate``."""

    def __init__(self, url: str, certificate: Path = CERTIFICATE) -> None:
        parts = urllib.parse.urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._certificate = certificate

    def ask(self, path: str, *, key: str | None = None, body: Any = None, timeout_s: float = 5) -> Answer:
        """A GET, or a POST of ``body`` as JSON; ``key`` is sent as clients send it.

        Raises:
            GatewayError: nobody answers, or not with the certificate that clients are told to trust.
        """
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=self._context())
        headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.connect()
            self._expect_own_certificate(connection.sock)
            connection.request("GET" if data is None else "POST", path, body=data, headers=headers)
            response = connection.getresponse()
            return Answer(response.status, response.read())
        except ssl.SSLCertVerificationError as error:
            raise GatewayError(
                f"what it serves is not trusted by {self._certificate}: {error.verify_message}"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise GatewayError(f"{type(error).__name__}: {error}") from None
        finally:
            connection.close()

    def _context(self) -> ssl.SSLContext:
        """Trusts the certificates of the file, be they self-signed or not, and looks at their dates.

        Not at their names: an operator's own certificate names what clients call the rack, never this host's loopback.
        What a name would prove is proven by ``_expect_own_certificate``.
        """
        try:
            context = ssl.create_default_context(cafile=str(self._certificate))
        except OSError as error:  # ssl.SSLError, too
            raise GatewayError(f"{self._certificate}: {error}") from None
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    def _expect_own_certificate(self, connected: Any) -> None:
        """The certificate that is served is the first of the file, byte for byte."""
        served = connected.getpeercert(binary_form=True) or b""
        if served != first_certificate(self._certificate):
            fingerprint = hashlib.sha256(served).hexdigest()
            raise GatewayError(
                f"it serves another certificate than {self._certificate} (SHA-256 {fingerprint}): "
                "systemctl reload rayrack-gateway"
            )


def first_certificate(file: Path) -> bytes:
    """The certificate of a host in a PEM file, which stands before those that vouch for it."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    _, found, rest = file.read_text().partition(begin)
    pem, ended, _ = rest.partition(end)
    if not (found and ended):
        raise GatewayError(f"{file}: holds no certificate")
    return ssl.PEM_cert_to_DER_cert(f"{begin}{pem}{end}")
