"""Where does a request end? Every known way to have two readers disagree about it."""

from tests.attack.attempt import Craft, Sent

ENCODINGS = (
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding:chunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding:\tchunked",
    b"Transfer-Encoding: chunked\t",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: \x00chunked",
    b"Transfer-Encoding: chunked\x00",
    b"Transfer-Encoding: CHUNKED",
    b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: chunked;x=1",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding:",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding:\r\n chunked",
    b"X: y\nTransfer-Encoding: chunked",
    b"X: y\rTransfer-Encoding: chunked",
    b" Transfer-Encoding: chunked",
    b"Transfer_Encoding: chunked",
    b"Transfer-Encod\xc4\xb1ng: chunked",
    b"TE: chunked",
)

LENGTHS = ("+%d", "-%d", " %d ", "0%d", "0x%x", "%d, %d", "%d,%d0", "%d.0", "%de0", "%d;", "\t%d", "", "%d 0", "9" * 40)


def lengths_and_encodings(craft: Craft) -> Sent:
    """CL.TE, TE.CL and TE.TE: both headers, either first, with a request hidden where the shorter reading ends."""
    hidden = craft.hidden()
    body = craft.body()
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    if craft.chance(0.5):
        payload, length = chunked + hidden, craft.pick((len(chunked) + len(hidden), len(chunked), 3, 0))
    else:
        inner = b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden)
        payload, length = inner, craft.pick((len(b"%x\r\n" % len(hidden)), len(inner)))
    headers = [b"Content-Length: %d" % length, craft.pick(ENCODINGS)]
    craft.random.shuffle(headers)
    return Sent.of(craft.head(headers=headers) + payload)


def two_lengths(craft: Craft) -> Sent:
    """Two Content-Lengths, or one that can be read in two ways."""
    body, hidden = craft.body(), craft.hidden()
    if craft.chance(0.5):
        headers = [b"Content-Length: %d" % craft.pick((len(body), len(body) + len(hidden), 0)) for _ in range(2)]
    else:
        form = craft.pick(LENGTHS)
        text = form.replace("%d", str(len(body))).replace("%x", f"{len(body):x}")
        headers = [b"Content-Length: " + text.encode()]
    return Sent.of(craft.head(headers=headers) + body + hidden)


def chunks(craft: Craft) -> Sent:
    """Chunk sizes, extensions and trailers that are wrong or daring."""
    body, hidden = craft.body(), craft.hidden()
    size = craft.pick((
        b"%x" % len(body), b"%X" % len(body), b"0x%x" % len(body), b"-%x" % len(body), b"+%x" % len(body),
        b" %x" % len(body), b"%x " % len(body), b"00000000000000%x" % len(body), b"1%016x" % len(body),
        b"f" * 16, b"7" + b"f" * 15, b"g", b"", b"%x" % (len(body) + 1), b"%x" % (len(body) - 1), b"%x" % 10**7,
    ))  # fmt: skip
    extension = craft.pick((b"", b"", b";x", b";x=1", b';x="\r\n"', b";\n", b";" + b"x" * 5000, b"\x00", b";a=\xff"))
    end = craft.pick((b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b""))
    trailer = craft.pick((
        b"", b"X: y\r\n", b"Content-Length: 9\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: other\r\n",
        b"Authorization: Bearer x\r\n", b"X : y\r\n", b" folded\r\n", b"X: y\n", hidden, b"X: " + b"y" * 40_000,
        b"x: y\r\n" * 300, b"\x00: y\r\n",
    ))  # fmt: skip
    last = craft.pick((b"0", b"0", b"000", b"0;x", b"-0", b"0x0", b""))
    data = size + extension + end + body + end + last + end + trailer + end
    return Sent.of(craft.head(headers=[b"Transfer-Encoding: chunked"]) + data + (hidden if craft.chance(0.5) else b""))


def pipelines(craft: Craft) -> Sent:
    """Several requests at once: the key of one must not open the door to the next."""
    line = craft.pick((b"GET %s/models HTTP/1.1", b"HEAD %s/models HTTP/1.1", b"GET %s/nothing HTTP/1.1"))
    first = craft.head(line % craft.aim.prefix.encode()).replace(b"Connection: close", b"Connection: keep-alive")
    bodied = craft.request().replace(b"Connection: close", b"Connection: keep-alive")
    follower = craft.hidden().replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
    return Sent.of(craft.pick((first, first * craft.random.randint(2, 20), bodied, first + bodied)) + follower)


def bodies_where_none_belong(craft: Craft) -> Sent:
    """A body of a GET or HEAD, a POST without one, one that is longer or shorter than said."""
    method = craft.pick((b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"POST"))
    target = craft.pick((craft.path, craft.aim.prefix + "/models", "/healthz")).encode()
    hidden = craft.hidden()
    length = craft.pick((None, 0, len(hidden), len(hidden) - 7, len(hidden) + 7))
    return Sent.of(craft.head(b"%s %s HTTP/1.1" % (method, target), length=length) + hidden)


MAKERS = ((6, lengths_and_encodings), (3, two_lengths), (5, chunks), (2, pipelines), (2, bodies_where_none_belong))
