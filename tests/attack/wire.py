"""What happens below HTTP: noise instead of TLS, connections that break off, bytes that drip."""

import contextlib
import ssl
from dataclasses import replace

from tests.attack.attempt import Craft, Ending, Sent, Wire


def cut_off(craft: Craft) -> Sent:
    """A good request that ends at any byte."""
    whole = craft.request()
    place = craft.random.randint(0, len(whole) - 1)
    return Sent((whole[:place],), ending=craft.pick((Ending.CLOSE, Ending.RESET)))


def left_alone(craft: Craft) -> Sent:
    """A good request whose client does not wait for the answer."""
    return Sent((craft.request(),), ending=craft.pick((Ending.CLOSE, Ending.RESET)))


def dripping(craft: Craft) -> Sent:
    """A request in small pieces, right or cut off."""
    whole = craft.pick((craft.request(), craft.head(headers=[b"Transfer-Encoding: chunked"]) + b"3\r\nabc\r\n" * 9))
    size = craft.pick((1, 7, 40))
    end = craft.random.randint(1, 40) * size
    return Sent(tuple(whole[start : start + size] for start in range(0, min(end, len(whole)), size)), pause_s=0.01)


def mutated(craft: Craft) -> Sent:
    """A good request with some of its bytes changed, doubled or gone."""
    data = bytearray(craft.request(headers=[b"Accept: */*"]))
    for _ in range(craft.random.randint(1, 6)):
        place = craft.random.randint(0, len(data))
        match craft.random.randint(0, 4):
            case 0:
                data[place : place + 1] = craft.noise(1)
            case 1:
                del data[place : place + craft.random.randint(1, 20)]
            case 2:
                data[place:place] = craft.noise(10)
            case 3:
                data[place:place] = data[max(0, place - 30) : place]
            case _:
                data[place:place] = craft.pick((b"\r\n", b"\n", b"\r", b"\0", b": ", b'"', b" ", b"\r\n\r\n"))
    return Sent.of(bytes(data))


def noise(craft: Craft) -> Sent:
    """Bytes that are nothing."""
    return Sent((craft.noise(2000),), wire=craft.pick((Wire.PLAIN, Wire.TLS, Wire.BROKEN_RECORD)))


def plain_http(craft: Craft) -> Sent:
    """HTTP without TLS."""
    return Sent((craft.request(),), wire=Wire.PLAIN)


def client_hello(craft: Craft) -> bytes:
    """The first bytes of a real handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    connection = context.wrap_bio(incoming, outgoing, server_hostname="rack")
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def half_handshakes(craft: Craft) -> Sent:
    """A handshake that stops, or goes on with noise."""
    hello = client_hello(craft)
    kept = hello[: craft.random.randint(1, len(hello))]
    after = craft.pick((b"", craft.noise(), b"\x15\x03\x03\x00\x02\x02\x28", b"\x14\x03\x03\x00\x01\x01", hello))
    return Sent((kept + after,), wire=Wire.CUT_HANDSHAKE, ending=craft.pick(tuple(Ending)))


def broken_records(craft: Craft) -> Sent:
    """Records that do not decrypt, are too long, or of no kind, after a good handshake."""
    record = craft.pick((
        b"\x17\x03\x03\x00\x20" + craft.random.randbytes(32), b"\x17\x03\x03\xff\xff" + craft.noise(),
        b"\x18\x03\x03\x00\x03\x01\x40\x00",
        b"\x16\x03\x03\x00\x04\x01\x00\x00\x00", b"\x15\x03\x03\x00\x02\x01\x00", b"\x00" * 20,
        b"GET / HTTP/1.1\r\n\r\n", b"\x17\x03\x03\x00\x00" * 50,
    ))  # fmt: skip
    return replace(Sent.of(record), wire=Wire.BROKEN_RECORD)


MAKERS = (
    (4, cut_off), (2, left_alone), (1, dripping), (8, mutated), (2, noise), (1, plain_http), (2, half_handshakes), (1,
    broken_records)
)  # fmt: skip
