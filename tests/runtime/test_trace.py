import asyncio
import os
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.runtime import trace

T, S = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
W3C = f"00-{T}-{S}-01".encode()
NAMES = st.sampled_from([b"x-request-id", b"traceparent", b"x-cloud-trace-context", b"accept"])
NEARLY = st.one_of(
    st.binary(max_size=140),
    st.from_regex(re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}[\r\n -]?"), fullmatch=True),
    st.from_regex(re.compile(rb"[0-9a-fA-F]{32}/[0-9]{1,21};o=[0-9][\r\n]?"), fullmatch=True),
    st.from_regex(re.compile(rb"[!-~\r\n]{1,130}"), fullmatch=True),
)


def of(**headers):
    return trace.of([(name.replace("_", "-").encode(), value) for name, value in headers.items()])


def test_a_request_without_headers_gets_an_id_of_its_own():
    made = [trace.of([(b"host", b"x")]) for _ in range(1000)]
    assert len({each.request_id for each in made}) == 1000
    assert all(re.fullmatch("[0-9a-f]{32}", each.request_id) for each in made)
    assert made[0][1:] == ("", "", False)


@pytest.mark.parametrize("given", [b"a", b"req-1_2.3~4:5/6+7=8@9", b"x" * 128])
def test_a_well_formed_id_is_kept(given):
    assert of(x_request_id=given).request_id == given.decode()
    assert of(x_request_id=given).header == (b"x-request-id", given)


@pytest.mark.parametrize(
    "given", [b"", b"x" * 129, b"a b", b"a\r\nb", b"a\n", "é".encode(), b'a"', b"a,b", b"a;b", b"\0"]
)
def test_an_id_that_is_not_is_replaced(given):
    assert re.fullmatch("[0-9a-f]{32}", of(x_request_id=given).request_id)


def test_two_ids_are_none():
    assert len(trace.of([(b"x-request-id", b"a"), (b"x-request-id", b"b")]).request_id) == 32


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (W3C, (T, S, True)),
        (W3C[:-1] + b"0", (T, S, False)),
        (W3C[:-2] + b"ff", (T, S, True)),
        (b"cc" + W3C[2:] + b"-what the future brings", (T, S, True)),
        (b"cc" + W3C[2:], (T, S, True)),
        (b"cc" + W3C[2:] + b".future", ("", "", False)),
        (W3C + b"-more", ("", "", False)),
        (b"ff" + W3C[2:], ("", "", False)),
        (W3C.upper(), ("", "", False)),
        (W3C.replace(T.encode(), b"0" * 32), ("", "", False)),
        (W3C.replace(S.encode(), b"0" * 16), ("", "", False)),
        (W3C + b"\n", ("", "", False)),
        (b" " + W3C, ("", "", False)),
    ],
)
def test_traceparent_is_read_as_w3c_says(given, expected):
    assert of(traceparent=given)[1:] == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (f"{T}/123;o=1", (T, "000000000000007b", True)),
        (f"{T}/123;o=0", (T, "000000000000007b", False)),
        (f"{T}/123", (T, "000000000000007b", False)),
        (f"{T}/0;o=1", (T, "", True)),
        (T, (T, "", False)),
        (f"{T.upper()}/18446744073709551615;o=1", (T, "f" * 16, True)),
        (f"{T}/18446744073709551616;o=1", ("", "", False)),
        (f"{'0' * 32}/1;o=1", ("", "", False)),
        (f"{T}/-1;o=1", ("", "", False)),
        (f"{T}/1;o=9", ("", "", False)),
        (f"{T}/1;o=1\n", ("", "", False)),
        (f"{T[:-1]}/1;o=1", ("", "", False)),
        ("", ("", "", False)),
    ],
)
def test_googles_header_is_read_with_its_decimal_span(given, expected):
    assert of(x_cloud_trace_context=given.encode())[1:] == expected


def test_traceparent_comes_before_googles_and_a_broken_one_after():
    google = f"{'c' * 32}/1;o=0".encode()
    assert of(traceparent=W3C, x_cloud_trace_context=google).trace_id == T
    assert of(traceparent=b"broken", x_cloud_trace_context=google).trace_id == "c" * 32


@given(st.lists(st.tuples(NAMES, NEARLY), max_size=5))
def test_whatever_headers_say_nothing_raises_and_nothing_hostile_comes_through(headers):
    found = trace.of(headers)

    assert re.fullmatch(r"[A-Za-z0-9._~:/+=@-]{1,128}", found.request_id, re.ASCII)
    assert re.fullmatch(r"[0-9a-f]{32}|", found.trace_id)
    assert re.fullmatch(r"[0-9a-f]{16}|", found.span_id)
    assert found.trace_id or not (found.span_id or found.sampled)
    assert found.header[1] == found.request_id.encode("ascii")


def test_a_model_that_seeds_random_does_not_make_ids_repeat():
    made = set()
    for _ in range(2):
        random.seed(0)
        made.add(trace.of([]).request_id)
    assert len(made) == 2


def test_a_forked_worker_makes_ids_of_its_own():
    ids = {trace.of([]).request_id}
    for _ in range(3):
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            os.write(writer, trace.of([]).request_id.encode())
            os._exit(0)
        os.close(writer)
        os.waitpid(pid, 0)
        ids.add(os.read(reader, 100).decode())
        os.close(reader)
    assert len(ids) == 4


def test_the_current_request_is_each_tasks_own():
    async def one(name):
        trace.current.set(trace.Trace(name))
        await asyncio.sleep(0)
        return trace.current.get().request_id

    async def both():
        return await asyncio.gather(one("a"), one("b"))

    assert asyncio.run(both()) == ["a", "b"]
    assert trace.current.get() is None


def test_server_timing_is_in_milliseconds():
    timing = trace.server_timing(0.0001234, 0.0, 1.5, 0.00000051)
    assert timing == b"queue;dur=0.123, preprocess;dur=0.000, predict;dur=1500.000, postprocess;dur=0.001"
