"""Whatever form a request comes in, what goes on to Serve can be read in one way only."""

import pytest

from tests.roles.gateway.running import RunningGateway
from tests.roles.gateway.serve_side import ServeSide

BODY = b'{"model":"tiny-a"}'


def request(target: bytes = b"/v1/completions", version: bytes = b"HTTP/1.1", *headers: bytes) -> bytes:
    lines = (b"POST " + target + b" " + version, b"Host: x", b"Connection: close", *headers)
    return b"\r\n".join((*lines, b"", b""))


def sized(target: bytes = b"/v1/completions", version: bytes = b"HTTP/1.1", *headers: bytes) -> bytes:
    return request(target, version, *headers, b"Content-Length: %d" % len(BODY)) + BODY


@pytest.mark.parametrize("target", [b"http://x/v1/completions", b"http://@x/v1/completions", b"file:///v1/completions"])
def test_a_target_with_scheme_and_host_goes_on_as_a_path(
    gateway: RunningGateway, serve: ServeSide, target: bytes
) -> None:
    before = len(serve.requests)
    answer = gateway.raw(sized(target))
    # HAProxy 3.0 does not take `file:`, which names no host.
    assert answer[:13] in (b"HTTP/1.1 200 ", b"HTTP/1.1 400 ")
    arrived = [request.path for request in serve.requests[before:]]
    assert arrived == (["/m/tiny-a/v1/completions"] if answer.startswith(b"HTTP/1.1 200 ") else [])


def test_a_query_ends_at_the_gateway(gateway: RunningGateway, serve: ServeSide) -> None:
    assert gateway.raw(sized(b"/v1/completions?api-version=1")).startswith(b"HTTP/1.1 200 ")
    assert serve.requests[-1].path == "/m/tiny-a/v1/completions"


@pytest.mark.parametrize("header", [b"Content-Type: \0text", b"User-Agent: \x1b[2J", b"X: \x7f", b"Accept: a\x01b"])
def test_control_characters_in_a_header_are_a_bad_request(
    gateway: RunningGateway, serve: ServeSide, header: bytes
) -> None:
    before = len(serve.requests)
    assert gateway.raw(sized(b"/v1/completions", b"HTTP/1.1", header)).startswith(b"HTTP/1.1 400 ")
    assert len(serve.requests) == before


def test_a_tab_in_a_header_is_none(gateway: RunningGateway) -> None:
    assert gateway.raw(sized(b"/v1/completions", b"HTTP/1.1", b"Accept: a\tb")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/9.9"])
def test_a_version_that_is_none_of_ours_is_a_bad_request(
    gateway: RunningGateway, serve: ServeSide, version: bytes
) -> None:
    before = len(serve.requests)
    assert gateway.raw(sized(b"/v1/completions", version)).startswith(b"HTTP/1.1 400 ")
    assert len(serve.requests) == before
