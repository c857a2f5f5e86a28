"""Request lines, paths and headers as no client sends them."""

from tests.attack.attempt import SMUGGLED, Craft, Sent

METHODS = (
    b"", b"post", b"PoST", b"POST\x00", b"P\tOST", b"GET", b"HEAD", b"PUT", b"TRACE", b"TRACK", b"DEBUG", b"PRI",
    b"MOVE",
    b"CONNECT", b"OPTIONS", b"PATCH", b"PROPFIND", b"A" * 300, b"A" * 9000, b'"POST"', b"{POST}", b"POST,GET",
    b"\xff\xfe",
    b"POST\xa0", b"%50OST", b"\\", b"\r\nPOST", b"\n\n\nPOST", b" POST", b"-1", b"QUERY",
)  # fmt: skip
VERSIONS = (
    b"HTTP/0.9", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/3", b"HTTP/9.9", b"HTTP/1.1.1", b"http/1.1", b"HTTP/11",
    b"HTTP/1,1", b"HTTP /1.1", b"HTTP/1.1 ", b"HTTP/1.1\x00", b"HTTP/+1.1", b"HTTP/1.10", b"RTSP/1.0", b"ICY", b"",
    b"\xff",
    b"HTTP/1.1" + b"1" * 500,
)  # fmt: skip
SEPARATORS = (b"\t", b"  ", b"\x0b", b"\x0c", b"\x00", b"\xa0", b"", b"\r", b"\n", b" \t ")
LINE_ENDS = (b"\n", b"\r", b"\n\r", b"\r\r\n", b"\r\n\n", b"\x00\r\n", b"\x85", b"\xe2\x80\xa8")
TRICKS = (
    "/..", "/../", "/./", "/%2e%2e/", "/%2E%2E%2F", "/..%2f", "/%252e%252e/", "/..;/", "/.;/", "//", "///", "\\",
    "/..\\",
    "%5c..%5c", "/%00", "%00.json", "/%0a", "/%0d%0a", ";x=1", "/;/", "/%20", "/%", "/%zz", "/%u002e%u002e/",
    "/%c0%ae%c0%ae/",
    "/%ef%bc%8f", "?", "#", "/*", "/~", "/.git/config", "/%2f%2f", "?%00", "/@", "/:", "/|", "/{}", "/<>", "/'\"",
)  # fmt: skip
INSIDE = (
    "/m/{model}/v1/completions", "/m/{model}/v1/chat/completions", "/m/{model}/health", "/m/{model}/metrics",
    "/-/healthz",
    "/-/routes", "/metrics", "/scale_elastic_ep", "/api/jobs/", "/api/serve/applications/", "/reset_prefix_cache",
    "/collective_rpc", "/server_info", "/sleep", "/load", "/tokenize", "/pause", "/invocations", "/v1/messages",
    "/v1/audio",
    "/v1/load_lora_adapter", "/stats", "/haproxy?stats", "/docs", "/openapi.json", "/healthz/", "/healthz/..",
    "/version",
)  # fmt: skip


def request_lines(craft: Craft) -> Sent:
    """Methods, versions, and what stands between."""
    method = craft.pick(METHODS) if craft.chance(0.5) else b"POST"
    version = craft.pick(VERSIONS) if craft.chance(0.5) else b"HTTP/1.1"
    space = craft.pick(SEPARATORS) if craft.chance(0.3) else b" "
    end = craft.pick(LINE_ENDS) if craft.chance(0.3) else b"\r\n"
    body = craft.body()
    before = craft.pick((b"", b"", b"\r\n" * craft.random.randint(1, 50), b"\n", b"\x00", b" ", b"\xef\xbb\xbf"))
    line = method + space + craft.path.encode() + space + version
    return Sent.of(before + craft.head(line, length=len(body), end=end) + body)


def forms(craft: Craft) -> Sent:
    """Targets in every form there is, other protocols, upgrades, expectations."""
    path = craft.path
    target = craft.pick((
        f"http://rack{path}", f"https://rack:8000{path}", f"http://127.0.0.1:8100{path}", f"http://@rack{path}", "*",
        "rack:443",
        f"http://rack\\@x{path}", "http://", f"file://{path}", f"//rack{path}", f"HTTP://RACK{path}", f"{path}#x",
        f"{path}?",
        f"http:///m/{craft.aim.models[0]}/health", "127.0.0.1:8265", path, path, path, path,
    )).encode()  # fmt: skip
    method = craft.pick((b"POST", b"POST", b"POST", b"CONNECT", b"OPTIONS", b"GET"))
    headers = craft.pick((
        [b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__", b"Connection: Upgrade, HTTP2-Settings"],
        [b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Key: x", b"Sec-WebSocket-Version: 13"],
        [b"Expect: 100-continue"], [b"Expect: 200-ok"], [b"Expect: 100-continue, x"], [b"Expect:"],
        [b"Max-Forwards: 0"],
        [b"Content-Encoding: gzip"], [b"Content-Type: text/plain"], [b"Accept: \xff"], [b"Range: bytes=0-0"],
        [b"TE: trailers"],
        [b"Via: 1.1 x"], [b"Prefer: respond-async"], [b"X-HTTP-Method-Override: GET"],
    ))  # fmt: skip
    request = craft.request(b"%s %s HTTP/1.1" % (method, target), headers)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + craft.noise(40)
    return Sent.of(craft.pick((request, request, request, request + craft.hidden(), preface, preface + request)))


def paths(craft: Craft) -> Sent:
    """Ways to another path than the one that was looked at."""
    start = craft.pick((craft.path, craft.aim.prefix, craft.aim.prefix + "/models", "/healthz", "", craft.path.upper()))
    inside = craft.pick(INSIDE).replace("{model}", craft.pick(craft.aim.models))
    tricks = "".join(craft.pick(TRICKS) for _ in range(craft.random.randint(1, 4)))
    target = craft.pick((start + tricks, start + tricks + inside, start + tricks + inside[1:], inside, inside + tricks))
    if craft.chance(0.1):
        target += craft.pick(("/a", "%2e", "/..", "x", "\u00e9")) * craft.pick((500, 5000, 9000))
    if craft.chance(0.1):
        place = craft.random.randint(0, len(target))
        target = (
            target[:place]
            + craft.pick(("\x00", "\x01", "\x7f", "\xff", "\t", " ", "\r", "\n", "\u2025"))
            + target[place:]
        )
    method = craft.pick((b"GET", b"POST", b"POST", b"HEAD", b"OPTIONS"))
    return Sent.of(craft.request(b"%s %s HTTP/1.1" % (method, target.encode())))


STEERING = (
    b"Host: 127.0.0.1:8100", b"Host:", b"Host: rack\r\nHost: other", b"Host: a b", b"Host: rack:99999999",
    b"Host: [::1", b"Host: \x00",
    b"X-Forwarded-For: 127.0.0.1", b"X-Forwarded-For: " + b"1.1.1.1, " * 500, b"X-Forwarded-Host: 127.0.0.1:8265",
    b"X-Forwarded-Proto: http\r\nX-Forwarded-Prefix: /../..", b"Forwarded: for=127.0.0.1;host=x",
    b"X-Real-IP: 127.0.0.1",
    b"X-Original-URL: /m/tiny-a/health", b"X-Rewrite-URL: /api/jobs/", b"X-Request-Id: {0}", b"X-Request-Id: ../../x",
    b"X-Request-Id: " + b"9" * 8000, b"Request-Id: x\r\nx-request-id: y\r\nX-REQUEST-ID: z",
    b"X-Data-Parallel-Rank: 9999",
    b"serve_multiplexed_model_id: other", b"X-Session-Id: 0", b"X-Serve-Replica: x", b"Proxy: http://127.0.0.1",
    b"Connection: authorization", b"Connection: close, host, content-length, content-type", b"Connection: \x00",
    b"Connection: keep-alive, Transfer-Encoding\r\nTransfer-Encoding: chunked", b"Keep-Alive: timeout=99999, max=99999",
    b"Proxy-Connection: keep-alive", b"Proxy-Authorization: Bearer x", b"Cookie: " + b"a=b; " * 2000,
    b"Authorization : Bearer x",
    b"X: \r\n folded\r\n\tagain", b"X : y", b": empty", b"nocolon", b"X\x00Y: z", b"X\xe9: z", b"X Y: z", b"(x): y",
    b"X: a\x00b",
    b"X: a\rb", b"X: a\nb: c", b"\x00", b" leading: x", b"X: \x80\xff\xfe", b"Content-Length", b"Content-Length:",
    b"Date: x" * 50,
)  # fmt: skip
INJECTIONS = (
    b'"}\n{"request_id":"injected","status":200}', b'","status":200,"x":"', b"\\", b'\\"', b"%[env(PATH)]", b"%{+Q}r",
    b"${HOME}",
    b"' OR '1'='1", b"'; DROP TABLE keys; --", b"$(id)", b"`id`", b"../../../etc/passwd", b"\x1b[2J\x1b]0;x\x07",
    b"\xf0\x9f\x92\xa9", b"\xff\xfe",
    b"\xed\xa0\x80", b"{{7*7}}", b"<script>", b"\r\nX-Injected: 1", b"\xe2\x80\xa8injected",
)  # fmt: skip


def steering_headers(craft: Craft) -> Sent:
    """Headers that steer proxies and servers, and headers that are none."""
    chosen = [craft.pick(STEERING) for _ in range(craft.random.randint(1, 5))]
    return Sent.of(craft.request(headers=chosen))


def header_storms(craft: Craft) -> Sent:
    """Very many headers, and very large ones."""
    kind = craft.random.randint(0, 3)
    if kind == 0:
        headers = [b"x%d: y" % number for number in range(craft.pick((90, 101, 500, 3000)))]
    elif kind == 1:
        headers = [b"x: " + b"y" * craft.pick((8_000, 30_000, 33_000, 90_000, 400_000))]
    elif kind == 2:
        headers = [b"x" * craft.pick((300, 9_000, 40_000)) + b": y"]
    else:
        headers = [b"Host: rack"] * craft.pick((2, 50)) + [b":"] * craft.pick((0, 50))
    return Sent.of(craft.request(headers=headers))


def injections(craft: Craft) -> Sent:
    """What would write lines of its own into a log, or be taken for a format, a query, a command."""
    text = craft.pick(INJECTIONS) + craft.pick(INJECTIONS)
    place = craft.random.randint(0, 4)
    if place == 0:
        return Sent.of(craft.request(b"POST %s%s HTTP/1.1" % (craft.path.encode(), text)))
    if place == 1:
        return Sent.of(craft.request(b"%s %s HTTP/1.1" % (text, craft.path.encode())))
    if place == 2:
        return Sent.of(craft.request(headers=[b"X-Request-Id: " + text, b"User-Agent: " + text, b"Referer: " + text]))
    if place == 3:
        return Sent.of(craft.request(b"GET %s/models/%s HTTP/1.1" % (craft.aim.prefix.encode(), text)))
    model = b"".join(b"\\u%04x" % byte for byte in text) if craft.chance(0.5) else text.replace(b'"', b'\\"')
    return Sent.of(craft.request(body=b'{"model":"%s"}' % model))


def keys(craft: Craft) -> Sent:
    """Guesses, and the good key where none belongs: none of these may pass, or the key with a valid one beside it."""
    good = (craft.key or craft.aim.key).encode()
    bearer = b"Authorization: Bearer "
    wrong = craft.pick((
        [bearer + good[:-1]], [bearer + good[: craft.random.randint(0, len(good) - 1)]], [bearer + good + b"x"],
        [bearer + good.swapcase()], [bearer + good, bearer + good], [bearer + good, bearer + b"x"], [bearer + b"x",
        bearer + good],
        [b"Authorization: Basic " + good], [b"Authorization: " + good], [b"X-Api-Key: " + good], [b"Api-Key: " + good],
        [b"Cookie: key=" + good], [b"Proxy-Authorization: Bearer " + good], [bearer + b'"' + good + b'"'],
        [bearer + b"*"],
        [bearer + good + b", Bearer " + good], [bearer + b"%00" + good], [bearer + b"\x00" + good],
        [bearer + good + b"\x00"],
        [bearer + b"x" * 20_000], [bearer + b"' OR 1=1 --"], [bearer], [b"Authorization:"],
        [bearer + b"rr-" + b"A" * 43],
        [b"Authorization: Bearer\xa0" + good], [bearer + good[::-1]], [b"Authorization_: Bearer " + good],
        [bearer + b"\xff\xfe"],
        [bearer + b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
    ))  # fmt: skip
    valid = craft.pick(
        (bearer + good, b"authorization: bearer " + good, b"AUTHORIZATION:Bearer " + good, bearer + good + b"  ")
    )
    chosen = craft.pick((wrong, [valid], [*wrong, valid])) if craft.keyed else wrong
    query = b"" if craft.keyed or craft.chance(0.8) else b"?api_key=" + good
    body = craft.body()
    line = b"POST %s%s HTTP/1.1" % (craft.path.encode(), query)
    return Sent.of(craft.head(line, length=len(body), authorization=chosen) + body)


MAKERS = (
    (5, request_lines), (4, forms), (6, paths), (5, steering_headers), (1, header_storms), (4, injections), (5, keys)
)  # fmt: skip
assert all(SMUGGLED.encode() not in text for text in INJECTIONS)
