"""TLS at the gateway's door."""

import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from tests.roles.gateway.running import RunningGateway


def connect(gateway: RunningGateway, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{gateway.config.port}", *options]
    return subprocess.run(command, input="", capture_output=True, text=True, timeout=20, check=False)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_tls_1_2_and_1_3_are_spoken(gateway: RunningGateway, version: str) -> None:
    assert connect(gateway, version).returncode == 0


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_older_versions_are_refused(gateway: RunningGateway, version: str) -> None:
    """The client is willing: it comes with the security level that old versions need."""
    refused = connect(gateway, version, "-cipher", "ALL:@SECLEVEL=0")
    assert refused.returncode != 0
    assert "alert protocol version" in refused.stderr


@pytest.mark.parametrize("cipher", ["AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "aNULL"])
def test_a_weak_cipher_is_refused(gateway: RunningGateway, cipher: str) -> None:
    refused = connect(gateway, "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")
    assert refused.returncode != 0
    assert "handshake failure" in refused.stderr


def test_no_ticket_is_handed_out(gateway: RunningGateway) -> None:
    assert "TLS session ticket:" not in connect(gateway, "-tls1_2").stdout


def test_http_1_1_is_what_is_agreed_on(gateway: RunningGateway) -> None:
    assert "ALPN protocol: http/1.1" in connect(gateway, "-alpn", "h2,http/1.1").stdout


def test_a_client_that_checks_strictly_trusts_the_certificate_it_was_given(gateway: RunningGateway) -> None:
    """As Python 3.13 does without being asked."""
    context = gateway.trust()
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    for name in ("localhost", "127.0.0.1", socket.gethostname()):
        plain = socket.create_connection(("127.0.0.1", gateway.config.port), timeout=5)
        with context.wrap_socket(plain, server_hostname=name) as encrypted:
            assert encrypted.version() == "TLSv1.3"


def test_a_client_that_was_not_given_the_certificate_refuses(gateway: RunningGateway) -> None:
    plain = socket.create_connection(("127.0.0.1", gateway.config.port), timeout=5)
    with plain, pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")


def test_plain_http_is_refused(gateway: RunningGateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.config.port), timeout=5) as plain:
        plain.sendall(f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.key}\r\n\r\n".encode())
        answer = plain.recv(65536)
    assert b"HTTP" not in answer


def cut_after_s(connection: socket.socket) -> float:
    """How long the gateway lets a client wait; what it says at the end does not matter."""
    began = time.monotonic()
    connection.settimeout(30)
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - began


def test_whoever_says_nothing_is_cut_off(gateway: RunningGateway) -> None:
    """On HAProxy 2.6 a handshake may take as long as a silence in a body, 15 s; later ones have a limit of its own."""
    with socket.create_connection(("127.0.0.1", gateway.config.port)) as silent:
        assert 9 < cut_after_s(silent) < 17


def test_whoever_sends_headers_byte_by_byte_is_cut_off(gateway: RunningGateway) -> None:
    with gateway.connection() as slow:
        slow.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n")
        slow.settimeout(0.5)
        began = time.monotonic()
        answer = b""
        while time.monotonic() - began < 20:
            try:
                slow.sendall(b"X")
                part = slow.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                break
            answer += part
            if not part:
                break
        assert 9 < time.monotonic() - began < 12
    assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")


def test_metrics_are_on_a_port_of_their_own(gateway: RunningGateway, tmp_path: Path) -> None:
    command = ["curl", "-sS", f"http://127.0.0.1:{gateway.config.metrics_port}/metrics"]
    metrics = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    assert 'haproxy_frontend_status{proxy="openai",state="UP"} 1' in metrics
    assert gateway.ask("GET", "/metrics").status == 404
