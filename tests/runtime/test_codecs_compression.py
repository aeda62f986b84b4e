import gzip
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.errors import RequestError
from cpr_kit.runtime.codecs.table import deflate, inflate

LIMIT = 100_000


def refusal(body, encoding="gzip", limit=LIMIT):
    with pytest.raises(RequestError) as error:
        inflate(body, encoding, limit)
    return error.value.status_code, str(error.value)


@given(st.binary(max_size=2000), st.sampled_from(["gzip", "GZIP", " x-gzip "]))
def test_gzip_is_unpacked(body, encoding):
    assert inflate(gzip.compress(body), encoding, LIMIT) == body


@pytest.mark.parametrize("encoding", [None, "", "identity"])
def test_without_an_encoding_the_body_stays(encoding):
    body = b"body"
    assert inflate(body, encoding, LIMIT) is body


def test_members_one_after_the_other_are_one_body():
    assert inflate(gzip.compress(b"one ") + gzip.compress(b"two"), "gzip", LIMIT) == b"one two"


def test_the_limit_is_the_limit():
    assert len(inflate(gzip.compress(b"x" * LIMIT), "gzip", LIMIT)) == LIMIT
    assert refusal(gzip.compress(b"x" * (LIMIT + 1))) == (413, "the body is larger than 100000 bytes when unpacked")
    halves = gzip.compress(b"x" * (LIMIT // 2)) + gzip.compress(b"x" * (LIMIT // 2))
    assert len(inflate(halves, "gzip", LIMIT)) == LIMIT
    assert refusal(halves + gzip.compress(b"x"))[0] == 413


def test_a_bomb_takes_no_more_memory_than_the_limit():
    import tracemalloc

    pieces = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(pieces.compress(b"\0" * (1 << 20)) for _ in range(200)) + pieces.flush()
    assert len(bomb) < 300_000
    tracemalloc.start()
    try:
        assert refusal(bomb, limit=1_000_000)[0] == 413
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (gzip.compress(b"body")[:-1], "cut off"),
        (gzip.compress(b"body")[:5], "cut off"),
        (b"", "cut off"),
        (b"no gzip", "not gzip"),
        (gzip.compress(b"body") + b"garbage", "not gzip"),
        (gzip.compress(b"body")[:-8] + b"\0" * 8, "not gzip"),
        (zlib.compress(b"body"), "not gzip"),
        (gzip.compress(b"") * 100_000, "more than 16 members"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_broken_gzip_is_the_callers_mistake(body, message):
    status, said = refusal(body)
    assert status == 400
    assert message in said


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip", "gzip, identity", "\x1b[31m"])
def test_other_encodings_are_415(encoding):
    status, said = refusal(b"", encoding)
    assert status == 415
    assert "send gzip" in said
    assert "\x1b" not in said


@given(st.binary(max_size=200))
def test_any_bytes_are_gzip_or_the_callers_mistake(body):
    try:
        inflate(body, "gzip", LIMIT)
    except RequestError as error:
        assert error.status_code in (400, 413)


TEXT = b'{"predictions":["setosa","versicolor"]}' * 100


@pytest.mark.parametrize(
    ("accept", "encoding"),
    [
        ("gzip", "gzip"),
        ("gzip, deflate, br", "gzip"),
        ("GZIP;q=0.5", "gzip"),
        ("*", "gzip"),
        ("x-gzip", "gzip"),
        ("identity;q=0.5, gzip;q=0.6", "gzip"),
        (None, None),
        ("", None),
        ("br", None),
        ("gzip;q=0", None),
        ("gzip;q=0, *", None),
        ("*;q=0", None),
        ("identity, gzip;q=0.5", None),
        ("gzip;q=x", None),
    ],
)
def test_the_client_decides_on_gzip(accept, encoding):
    body, chosen = deflate(TEXT, accept)
    assert chosen == encoding
    assert (gzip.decompress(body) if encoding else body) == TEXT
    assert deflate(TEXT, accept) == (body, chosen)


def test_small_bodies_and_those_that_do_not_shrink_stay():
    for body in (b"x" * 1024, random.Random(0).randbytes(2000), random.Random(0).randbytes(200_000)):
        assert deflate(body, "gzip") == (body, None)
    assert deflate(b"x" * 1025, "gzip")[1] == "gzip"


@given(st.text(max_size=40))
def test_any_accept_encoding_has_an_answer(header):
    assert deflate(TEXT, header)[1] in (None, "gzip")
