"""The certificate that is made on a host, and those of others."""

import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path

import gateway_certificate
import pytest
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(gateway_certificate.socket, "gethostname", lambda: "gpu-01")
    return tmp_path


def run(directory: Path, command: str, *names: str) -> int:
    return gateway_certificate.main(["--directory", str(directory), command, *names])


def names_of(directory: Path) -> set[str]:
    """As Python's own TLS reads them."""
    told = ssl._ssl._test_decode_cert(str(directory / "tls.pem"))  # type: ignore[attr-defined]
    return {gateway_certificate.normal(value.removesuffix("\n")) for _, value in told["subjectAltName"]}


def contents(directory: Path) -> tuple[str, str]:
    return (directory / "tls.pem").read_text(), (directory / "tls.pem.key").read_text()


def openssl(*words: str | Path) -> str:
    return subprocess.run(["openssl", *words], check=True, capture_output=True, text=True, timeout=60).stdout


def put_foreign(directory: Path, options: Sequence[str] = (), subject: str = "/CN=api.example.org") -> None:
    """A certificate as an operator's CA would make it, as far as anybody can tell."""
    openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-days", "10", "-subj", subject, *options,
        "-keyout", directory / "tls.pem.key", "-out", directory / "tls.pem",
    )  # fmt: skip


LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def test_a_host_without_one_gets_one_for_all_its_names(directory: Path) -> None:
    assert run(directory, "check", "10.0.0.1") == gateway_certificate.TO_BE_MADE
    assert not list(directory.iterdir())
    assert run(directory, "ensure", "10.0.0.1", "API.example.org", "fd00::0:1") == 0
    assert names_of(directory) == LOOPBACK | {"gpu-01", "10.0.0.1", "api.example.org", "fd00::1"}
    assert run(directory, "check", "10.0.0.1", "API.example.org", "fd00::0:1") == 0


def test_it_is_an_elliptic_one_for_a_server_that_ends_within_825_days(directory: Path) -> None:
    run(directory, "ensure")
    text = openssl("x509", "-in", directory / "tls.pem", "-noout", "-text")
    for said in ("NIST CURVE: P-256", "TLS Web Server Authentication", "CA:FALSE", "ecdsa-with-SHA256"):
        assert said in text
    seconds = str(826 * 24 * 3600)
    ends = subprocess.run(["openssl", "x509", "-in", directory / "tls.pem", "-checkend", seconds], check=False)
    assert ends.returncode == 1


def test_the_key_is_for_the_gateway_alone(directory: Path) -> None:
    directory.chmod(0o750)
    run(directory, "ensure")
    state = (directory / "tls.pem.key").stat()
    assert (state.st_mode & 0o777, state.st_gid) == (0o640, directory.stat().st_gid)
    assert sorted(path.name for path in directory.iterdir()) == ["tls.pem", "tls.pem.key"]


def test_a_second_run_leaves_it_as_it_is(directory: Path) -> None:
    run(directory, "ensure", "a")
    before = contents(directory)
    assert run(directory, "ensure", "a") == 0
    assert contents(directory) == before


def test_a_new_name_has_it_made_anew_and_the_names_of_other_desks_stay(directory: Path) -> None:
    run(directory, "ensure", "10.0.0.1")
    run(directory, "ensure", "192.168.0.1")
    assert names_of(directory) >= {"10.0.0.1", "192.168.0.1"}
    assert run(directory, "check", "10.0.0.1") == 0


def test_it_is_made_anew_before_it_ends(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_certificate, "VALID_DAYS", 29)
    run(directory, "ensure", "10.0.0.1")
    before = contents(directory)
    monkeypatch.undo()
    assert run(directory, "check") == gateway_certificate.TO_BE_MADE
    run(directory, "ensure")
    assert contents(directory) != before
    assert run(directory, "check", "10.0.0.1") == 0


@pytest.mark.parametrize("lost", ["the key", "the certificate's key is another"])
def test_a_run_that_was_interrupted_between_the_files_is_finished(directory: Path, lost: str) -> None:
    run(directory, "ensure")
    (directory / "tls.pem.key").unlink()
    if lost != "the key":
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", directory / "tls.pem.key")
    assert run(directory, "ensure") == 0
    assert run(directory, "check") == 0


@pytest.mark.parametrize("subject", ["/CN=api.example.org", "/O=rayrack/CN=rayrack gateway", "/CN=rayrack gateway"])
def test_a_certificate_of_others_is_left_alone_whatever_it_names_and_however_soon_it_ends(
    directory: Path, subject: str
) -> None:
    put_foreign(directory, subject=subject)
    before = contents(directory)
    assert run(directory, "ensure", "10.0.0.1") == 0
    assert contents(directory) == before


def problem(directory: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a deploy ends with; both files are as they were."""
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert run(directory, "ensure", "10.0.0.1") == 1
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err.replace(str(directory), "")


def test_a_key_of_another_certificate_is_one_clear_line(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_foreign(directory)
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", directory / "tls.pem.key")
    said = problem(directory, capsys)
    assert "/tls.pem.key is not the key of /tls.pem: put both files of one certificate there" in said


def test_a_file_that_is_no_certificate_is_one_clear_line(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_foreign(directory)
    (directory / "tls.pem").write_text("hello")
    assert "/tls.pem cannot be read as a certificate: it must be PEM" in problem(directory, capsys)


@pytest.mark.parametrize("how", ["broken", "with a passphrase"])
def test_a_key_that_cannot_be_read_is_one_clear_line(
    directory: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    put_foreign(directory)
    key = directory / "tls.pem.key"
    key.write_text("x" if how == "broken" else openssl("pkey", "-in", key, "-aes128", "-passout", "pass:confidential"))
    said = problem(directory, capsys)
    assert "/tls.pem.key cannot be read as a private key without a passphrase" in said


@pytest.mark.parametrize("missing", ["tls.pem", "tls.pem.key"])
def test_half_of_somebodys_pair_is_one_clear_line(
    directory: Path, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    put_foreign(directory)
    (directory / missing).unlink()
    assert f"/{missing} is missing: put the" in problem(directory, capsys)


@pytest.mark.parametrize("name", ["two words", "a,DNS:b", "", "-a", "a..b", "a" * 64, "a\nb", "10.0.0.1/8"])
def test_what_no_certificate_can_name_is_refused(
    directory: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert run(directory, "ensure", "--", name) == 1
    assert "is neither a name nor an address" in capsys.readouterr().err
    assert not list(directory.iterdir())


@given(st.text(max_size=80))
def test_a_name_is_taken_as_it_is_or_refused(name: str) -> None:
    """Nothing can write options of its own into what openssl is told."""
    try:
        normal = gateway_certificate.normal(name)
    except gateway_certificate.CertificateProblem:
        return
    assert not set(normal) & set(",;\n\\ ='\"")
    assert gateway_certificate.normal(normal) == normal
