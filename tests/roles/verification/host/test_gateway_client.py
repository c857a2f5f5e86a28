"""A host's own programs ask its gateway with the certificate of its file and a key that lives as long as they ask."""

import subprocess
import sys
from pathlib import Path

import gateway_client
import pytest

from tests.roles.gateway.running import until
from tests.roles.verification.host.conftest import GatewayHost, make_certificate

LIBRARY = Path(gateway_client.__file__).parent


def names(host: GatewayHost) -> str:
    return "".join(file.read_text() for file in host.key_files)


def test_a_temporary_key_opens_the_gateway_and_leaves_no_trace(gateway_host: GatewayHost) -> None:
    gateway = gateway_client.Gateway(gateway_host.url, gateway_host.certificate)
    gateway_host.running.api_keys("make", "somebody")
    before = names(gateway_host)
    with gateway_client.temporary_key(gateway_host.api_keys) as key:
        assert gateway.ask("/v1/models", key=key).json()["data"][0]["id"] == "tiny-a"
        assert "verify-" in names(gateway_host)
    assert names(gateway_host) == before
    assert gateway.ask("/v1/models", key=key).status == 401


def test_the_key_is_taken_back_when_the_work_fails(gateway_host: GatewayHost) -> None:
    def fail() -> None:
        with gateway_client.temporary_key(gateway_host.api_keys):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert names(gateway_host) == ""


@pytest.mark.parametrize("signal", ["TERM", "HUP", "INT"])
def test_the_key_is_taken_back_when_the_program_is_told_to_end(gateway_host: GatewayHost, signal: str) -> None:
    text = f"""
import sys, time
sys.path.insert(0, {str(LIBRARY)!r})
import gateway_client
with gateway_client.temporary_key({gateway_host.api_keys!r}):
    print("made", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "made\n"
        assert names(gateway_host)
        subprocess.run(["kill", f"-{signal}", str(process.pid)], check=True)
        assert process.wait(10) > 128
    assert names(gateway_host) == ""


def test_a_program_that_makes_no_key_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(gateway_client.GatewayError, match=r"no-such-program make: .*No such file"),
        gateway_client.temporary_key(str(tmp_path / "no-such-program")),
    ):
        pass


def test_a_certificate_that_names_no_loopback_is_trusted_when_it_is_the_files(gateway_host: GatewayHost) -> None:
    make_certificate(gateway_host.running.directory, "-addext", "subjectAltName=DNS:api.example.com")
    gateway = gateway_client.Gateway(gateway_host.url, gateway_host.certificate)
    gateway_host.running.signal_reload()
    until(lambda: answers(gateway), "the gateway shows the new certificate")


def test_another_certificate_than_the_files_is_not_trusted(gateway_host: GatewayHost) -> None:
    make_certificate(gateway_host.running.directory)
    with pytest.raises(gateway_client.GatewayError, match=r"not trusted by .*tls\.pem"):
        gateway_client.Gateway(gateway_host.url, gateway_host.certificate).ask("/healthz")


def test_a_renewed_certificate_that_is_not_loaded_yet_is_told(gateway_host: GatewayHost, tmp_path: Path) -> None:
    """The old one is trusted, as of the same chain; it is not the first of the file."""
    file = tmp_path / "renewed.pem"
    (tmp_path / "other").mkdir()
    make_certificate(tmp_path / "other")
    file.write_text((tmp_path / "other/tls.pem").read_text() + gateway_host.certificate.read_text())
    with pytest.raises(gateway_client.GatewayError, match=r"another certificate than .*: systemctl reload"):
        gateway_client.Gateway(gateway_host.url, file).ask("/healthz")


def test_a_file_without_a_certificate_is_one_line(gateway_host: GatewayHost, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    for make in (empty.touch, empty.unlink):
        make()
        with pytest.raises(gateway_client.GatewayError, match=r"empty\.pem"):
            gateway_client.Gateway(gateway_host.url, empty).ask("/healthz")


def test_a_gateway_that_is_not_there_is_one_line(gateway_host: GatewayHost) -> None:
    gateway_host.running.process.terminate()
    gateway_host.running.process.wait(10)
    with pytest.raises(gateway_client.GatewayError, match="ConnectionRefusedError"):
        gateway_client.Gateway(gateway_host.url, gateway_host.certificate).ask("/healthz")


def answers(gateway: gateway_client.Gateway) -> bool:
    try:
        return gateway.ask("/healthz").status == 200
    except gateway_client.GatewayError:
        return False
