"""The head of a request: what is wrong with it, in a status and a reason that hold nothing of the request itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import httptools

from cpr_kit.runtime.watch import Limits

_ONCE = (b"host", b"content-length", b"transfer-encoding", b"content-type", b"expect")
_HAS_BODY = frozenset((b"POST", b"PUT", b"PATCH"))
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(rb"https?://[^/?#]+(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_REQUEST_LINE = re.compile(rb"(?:\r\n)*[!#$%&'*+.^_`|~0-9A-Za-z-]+ [^ \r\n]+ HTTP/(?P<version>\d(?:\.\d)?)\r\n")
_SERVED_VERSIONS = (b"1.0", b"1.1")
_TLS_HANDSHAKE = b"\x16\x03"


class Refusal(Exception):
    """The request is refused before the application sees it, and the connection ends."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class Head(NamedTuple):
    """What stands before the body. Names of headers are in lower case; `url` is the request's target."""

    method: bytes
    url: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    fields: dict[bytes, bytes]


NO_HEAD = Head(b"", b"", "", [], {})


def check_size(head: Head, limits: Limits) -> None:
    """Raises Refusal 414 or 431."""
    size = len(head.url) + sum(len(name) + len(value) + len(": \r\n") for name, value in head.headers)
    if size > limits.max_header_bytes:
        raise too_many_bytes(len(head.url), limits)


def check(head: Head, fields: Mapping[bytes, bytes], limits: Limits) -> None:
    """`fields` is `dict(head.headers)`. Raises Refusal: 400, 411, 413, 414, 417, 431, 501 or 505."""
    if head.version not in ("1.1", "1.0"):
        raise Refusal(505, f"this server speaks HTTP/1.1, not HTTP/{head.version}")
    if head.method == b"CONNECT" or head.url == b"*":
        raise Refusal(501, "this server is no proxy and has no options of its own; ask for one of its routes")
    if len(head.headers) > limits.max_headers:
        raise Refusal(431, f"the request has {len(head.headers)} headers; at most {limits.max_headers} are read")
    if len(fields) != len(head.headers):
        _check_repeated(head.headers)
    if b"host" not in fields and head.version == "1.1":
        raise Refusal(400, "the request has no Host header, which HTTP/1.1 demands")
    if fields.get(b"expect", b"100-continue").lower() != b"100-continue":
        raise Refusal(417, "the only expectation this server meets is 100-continue")
    _check_framing(head, fields, limits)


def _check_repeated(headers: list[tuple[bytes, bytes]]) -> None:
    for name in _ONCE:
        if sum(1 for other, _ in headers if other == name) > 1:
            raise Refusal(400, f"the request has more than one {name.decode().title()} header")


def _check_framing(head: Head, fields: Mapping[bytes, bytes], limits: Limits) -> None:
    """The parser has refused contradictory lengths already."""
    length = fields.get(b"content-length")
    coding = fields.get(b"transfer-encoding")
    if length is not None:
        if int(length) > limits.max_body:
            raise too_large(limits)
    elif coding is not None:
        if head.version == "1.0":
            raise Refusal(400, "Transfer-Encoding is not part of HTTP/1.0; send a Content-Length")
        if coding.strip().lower() != b"chunked":
            raise Refusal(501, "the only Transfer-Encoding this server reads is chunked; use Content-Encoding for gzip")
    elif head.method in _HAS_BODY:
        raise Refusal(411, "the request has neither Content-Length nor Transfer-Encoding; send one of them")


def origin_form(url: bytes, limits: Limits) -> bytes:
    """The target as `/path?query`. Raises Refusal for one that is too long, or is no path."""
    if len(url) > limits.max_url:
        raise too_many_bytes(len(url), limits)
    if not url.startswith(b"/"):
        match = _ABSOLUTE.fullmatch(url)
        if match is None:
            raise Refusal(400, "the request's target is neither a path nor an http:// URL")
        rest = match["rest"]
        url = rest if rest.startswith(b"/") else b"/" + rest
    if not url.isascii() or _BAD_ESCAPE.search(url.partition(b"?")[0]):
        raise Refusal(400, "the URL's path is not ASCII, or has a % that no two hexadecimal digits follow")
    return url


def too_many_bytes(url: int, limits: Limits) -> Refusal:
    """For a head of which `url` bytes, so far, are the URL."""
    if url > limits.max_url:
        return Refusal(414, f"the URL has more than {limits.max_url} bytes")
    return Refusal(431, f"the headers have more than {limits.max_header_bytes} bytes")


def too_large(limits: Limits) -> Refusal:
    return Refusal(413, f"the body is larger than {limits.max_body} bytes; send fewer instances in a request")


def explain(error: httptools.HttpParserError, data: bytes) -> Refusal:
    """What the parser stopped at; `data` is empty or begins with the request. Its sentences hold nothing of that."""
    if isinstance(error, httptools.HttpParserCallbackError):
        cause = error.__context__
        return cause if isinstance(cause, Refusal) else Refusal(400, "the request is not well formed")
    if str(error) == "Content-Length overflow":
        return Refusal(413, "the Content-Length is larger than any body that is read here")
    line = _REQUEST_LINE.match(data)
    if line is not None and line["version"] not in _SERVED_VERSIONS:
        return Refusal(505, "this server speaks HTTP/1.1 only")
    if isinstance(error, httptools.HttpParserInvalidMethodError):
        if line is not None:
            return Refusal(501, "this server knows no such method")
        if data.startswith(_TLS_HANDSHAKE):
            return Refusal(400, "this port speaks http://, and was asked in https://")
    return Refusal(400, f"the request is not HTTP/1.1: {error}")
