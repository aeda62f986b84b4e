"""Requests that are no HTTP/1.1, or none that is served, by what is wrong with each: bytes and the status they get."""


def get(*lines, target=b"/health", version=b"HTTP/1.1"):
    return b"\r\n".join([b"GET " + target + b" " + version, *lines, b"", b""])


def post(*lines, body=b"{}"):
    return b"\r\n".join([b"POST /predict HTTP/1.1", b"Host: model", *lines, b"", b""]) + body


HOST = b"Host: model"
CHUNKED = b"Transfer-Encoding: chunked"

MALFORMED = {
    "two lengths that differ": (post(b"Content-Length: 2", b"Content-Length: 3"), 400),
    "two lengths that agree": (post(b"Content-Length: 2", b"Content-Length: 2"), 400),
    "a list of lengths": (post(b"Content-Length: 2, 2"), 400),
    "a length with a sign": (post(b"Content-Length: +2"), 400),
    "a negative length": (post(b"Content-Length: -2"), 400),
    "an empty length": (post(b"Content-Length:"), 400),
    "a hexadecimal length": (post(b"Content-Length: 0x2"), 400),
    "a length beyond 64 bits": (post(b"Content-Length: 99999999999999999999999"), 413),
    "a length and chunks": (post(b"Content-Length: 2", CHUNKED, body=b"0\r\n\r\n"), 400),
    "chunks and a length": (post(CHUNKED, b"Content-Length: 2", body=b"0\r\n\r\n"), 400),
    "neither length nor chunks": (post(body=b""), 411),
    "a chunk size that is no number": (post(CHUNKED, body=b"zz\r\n\r\n"), 400),
    "a negative chunk size": (post(CHUNKED, body=b"-1\r\n\r\n"), 400),
    "a chunk size beyond 64 bits": (post(CHUNKED, body=b"fffffffffffffffff\r\n\r\n"), 400),
    "a chunk longer than its size": (post(CHUNKED, body=b"1\r\nXX\r\n0\r\n\r\n"), 400),
    "another transfer coding": (post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 501),
    "a transfer coding that is none": (post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), 501),
    "chunks and then identity": (post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"), 400),
    "chunked twice": (post(CHUNKED, CHUNKED, body=b"0\r\n\r\n"), 400),
    "chunks in HTTP 1.0": (b"POST /predict HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a folded header": (get(HOST, b"X: a\r\n b"), 400),
    "lines that end in LF": (b"GET /health HTTP/1.1\nHost: model\n\n", 400),
    "a header that ends in LF": (b"GET /health HTTP/1.1\r\nHost: model\nX: a\r\n\r\n", 400),
    "a header that ends in CR": (b"GET /health HTTP/1.1\r\nHost: model\rX: a\r\n\r\n", 400),
    "NUL in a value": (get(HOST, b"X: a\0b"), 400),
    "a control byte in a value": (get(HOST, b"X: a\x01b"), 400),
    "NUL in a name": (get(HOST, b"X\0: a"), 400),
    "a high byte in a name": (get(HOST, b"\xffX: a"), 400),
    "a space before the colon": (get(HOST, b"X : a"), 400),
    "a header without a colon": (get(HOST, b"Xa"), 400),
    "a header without a name": (get(HOST, b": a"), 400),
    "a space before the first header": (get(b" Host: model"), 400),
    "no Host": (get(), 400),
    "two Hosts": (get(HOST, HOST), 400),
    "an unknown method": (b"BREW /health HTTP/1.1\r\nHost: model\r\n\r\n", 501),
    "a method in lower case": (b"get /health HTTP/1.1\r\nHost: model\r\n\r\n", 501),
    "a method without end": (b"A" * 5000, 400),
    "CONNECT": (b"CONNECT model:80 HTTP/1.1\r\nHost: model\r\n\r\n", 501),
    "the server as a whole": (b"OPTIONS * HTTP/1.1\r\nHost: model\r\n\r\n", 501),
    "HTTP 0.9": (b"GET /health\r\n\r\n", 505),
    "HTTP 0.9 said aloud": (get(version=b"HTTP/0.9"), 505),
    "the preface of HTTP 2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP 2.0": (get(HOST, version=b"HTTP/2.0"), 505),
    "HTTP 1.2": (get(HOST, version=b"HTTP/1.2"), 505),
    "HTTP 3": (get(HOST, version=b"HTTP/3"), 505),
    "a protocol in lower case": (get(HOST, version=b"http/1.1"), 400),
    "another protocol": (get(HOST, version=b"ICAP/1.0"), 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "a sentence": (b"hello world\r\n\r\n", 400),
    "high bytes in the path": (get(HOST, target=b"/\xc3\xa9"), 400),
    "a control byte in the path": (get(HOST, target=b"/a\x01"), 400),
    "a tab in the path": (get(HOST, target=b"/a\tb"), 400),
    "a percent sign alone in the path": (get(HOST, target=b"/%"), 400),
    "a percent sign before no number": (get(HOST, target=b"/%zz"), 400),
    "a path without its slash": (get(HOST, target=b"health"), 400),
    "a URL of another scheme": (get(HOST, target=b"ftp://model/health"), 400),
    "a path of 9000 bytes": (get(HOST, target=b"/" + b"a" * 9000), 414),
    "a path of 100 kB": (get(HOST, target=b"/" + b"a" * 100_000), 414),
    "101 headers": (get(HOST, *[b"X-%d: a" % number for number in range(100)]), 431),
    "10,000 headers": (get(HOST, *[b"X-%d: a" % number for number in range(10_000)]), 431),
    "a header of 40 kB": (get(HOST, b"X: " + b"a" * 40_000), 431),
    "a header of 1 MB": (get(HOST, b"X: " + b"a" * 1_000_000), 431),
    "an expectation that nobody meets": (post(b"Content-Length: 2", b"Expect: a-miracle"), 417),
}
