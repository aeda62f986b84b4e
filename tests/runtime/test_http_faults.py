"""What clients do wrong, over real sockets, to the real server: it refuses, and answers the next good request."""

import concurrent.futures
import contextlib
import gzip
import io
import json
import pickle
import random
import socket
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from malformed import MALFORMED
from wire import Wire, ask, chunked, predict, request

MB = 1024 * 1024
TIMEOUT = 5  # seconds for a request: short for the faults, long enough for good requests on a busy machine
MAX_BODY = 12_000_000
GOOD_ROW = [5.1, 3.5, 1.4, 0.2]
NPY = "application/x-npy"


@pytest.fixture(scope="module")
def doubles(serve_all):
    environment = {"CPR_SERVE_REQUEST_TIMEOUT": str(TIMEOUT), "CPR_SERVE_MAX_BODY": str(MAX_BODY)}
    return serve_all("answers:Doubles", **environment).ready()


@pytest.fixture(scope="module")
def iris(serve_all, tmp_path_factory):
    import skops.io
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folder = tmp_path_factory.mktemp("model")
    x, y = load_iris(return_X_y=True)
    skops.io.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y), folder / "model.skops")
    environment = {"CPR_SERVE_REQUEST_TIMEOUT": str(TIMEOUT), "CPR_SERVE_MAX_BODY": str(MAX_BODY)}
    return serve_all("cpr_kit:SklearnPredictor", AIP_STORAGE_URI=str(folder), **environment).ready()


@pytest.fixture(autouse=True)
def still_serves(doubles, iris):
    """After each fault both servers answer a good request on a fresh connection, and no fault became theirs."""
    logged = {server: server.stderr() for server in (doubles, iris)}
    yield
    for server, instances in ((doubles, [1]), (iris, [GOOD_ROW])):
        answer = ask(server.port, predict(json.dumps({"instances": instances}).encode()))
        assert answer.status == 200, answer
        assert len(answer.json()["predictions"]) == 1
        assert ask(server.port, request("GET", "/health")).status == 200
        assert server.stderr() == logged[server]
        assert "Traceback" not in server.stdout()


def refused(answer, *statuses):
    """The refusal has one of the statuses, in the one form of errors; its message."""
    assert answer.status in statuses, answer
    error = answer.json()["error"]
    assert error["code"] == answer.status
    assert set(error) == {"code", "status", "message"}
    return error["message"]


# HTTP


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_http(doubles, name):
    data, status = MALFORMED[name]
    with Wire(doubles.port) as wire:
        refused(wire.send(data).answer(), status)
        assert wire.ended()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_a_method_that_the_route_does_not_have(doubles, method):
    answer = ask(doubles.port, request(method, Content_Length="0"))
    refused(answer, 405)
    assert answer.headers["allow"] == "POST"


def test_slow_headers_and_bodies_are_given_up_and_block_nobody(doubles):
    with contextlib.ExitStack() as stack:
        heads = [stack.enter_context(Wire(doubles.port)).send(b"POST /predict HTTP/1.1\r\nHo") for _ in range(20)]
        body = predict(b"", Content_Length="5000")
        bodies = [stack.enter_context(Wire(doubles.port)).send(body) for _ in range(20)]
        trickling = heads[:5] + bodies[:5]
        began = time.monotonic()
        while time.monotonic() < began + 4 * TIMEOUT and not all(wire.answered() for wire in trickling):
            assert ask(doubles.port, request("GET", "/health")).status == 200
            for wire in trickling:
                if not wire.answered():
                    wire.send(b"x")
            time.sleep(0.2)
        for wire in heads + bodies:
            refused(wire.answer(), 408)
            assert wire.ended()


@pytest.mark.parametrize("pipelined", [1, 20])
def test_a_half_closed_client_gets_its_answers(doubles, pipelined):
    with Wire(doubles.port) as wire:
        wire.send(b"".join(predict(b'{"instances": [%d]}' % number) for number in range(pipelined)))
        wire.socket.shutdown(socket.SHUT_WR)
        for number in range(pipelined):
            assert wire.answer().json() == {"predictions": [2 * number]}
        assert wire.ended()


@pytest.mark.parametrize(
    "sent", [b"", b"PO", b"POST /predict HTTP/1.1\r\nHost: m\r\n", predict(b"{", Content_Length="9")]
)
@pytest.mark.parametrize("reset", [False, True])
def test_clients_that_leave_in_the_middle(doubles, sent, reset):
    for _ in range(20):
        with Wire(doubles.port) as wire:
            wire.send(sent)
            if reset:
                wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_200_pipelined_requests_are_answered_in_order(doubles):
    with Wire(doubles.port) as wire:
        wire.send(b"".join(predict(b'{"instances": [%d]}' % number) for number in range(200)))
        assert [wire.answer().json()["predictions"] for _ in range(200)] == [[2 * number] for number in range(200)]


def test_a_body_too_large_is_refused_by_its_length_and_by_its_chunks(doubles):
    with Wire(doubles.port) as wire:
        refused(wire.send(predict(b"", Content_Length=str(MAX_BODY + 1), Expect="100-continue")).answer(), 413)
        assert wire.interim == 0
    with Wire(doubles.port) as wire:
        head = predict(b"", Content_Length=None, Transfer_Encoding="chunked")
        refused(wire.send(head, chunked(*[b"x" * MB] * 20)).answer(), 413)
        assert wire.ended()


def test_an_ordinary_client_can_read_the_refusal_of_a_large_body(doubles):
    answer = doubles.predict(data=b"x" * 30 * MB, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


# Bodies


def nested(depth):
    return b'{"instances": ' + b"[" * depth + b"]" * depth + b"}"


def instances(text):
    return b'{"instances": %b}' % (text if isinstance(text, bytes) else json.dumps(text).encode())


NOT_JSON = {
    "empty": b"",
    "blank": b"  \n",
    "cut short": b'{"instances": [[5.1, 3.5',
    "followed by more": b'{"instances": [[1,2,3,4]]} x',
    "1e6 nested brackets": nested(1_000_000),
    "1e6 open brackets": b"[" * 1_000_000,
    "1e6 nested objects": b'{"a":' * 1_000_000,
    "invalid UTF-8": instances(b'["\xff\xfe"]'),
    "UTF-16": '{"instances": [[1, 2, 3, 4]]}'.encode("utf-16"),
    "half a surrogate pair": instances(rb'["\ud800"]'),
    "NaN": instances(b"[[NaN, 1, 2, 3]]"),
    "Infinity": instances(b"[[Infinity, 1, 2, 3]]"),
    "minus Infinity": instances(b"[[-Infinity, 1, 2, 3]]"),
    "single quotes": b"{'instances': [[1, 2, 3, 4]]}",
    "NUL bytes": b"\0" * 1000,
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_bodies_that_are_not_json(doubles, iris, name):
    for server in (doubles, iris):
        refused(ask(server.port, predict(NOT_JSON[name])), 400)


NO_INSTANCES = {
    "no object": b"[1, 2]",
    "a number": b"1",
    "null": b"null",
    "no instances": b'{"inputs": []}',
    "null instances": instances(None),
    "instances that are text": instances("text"),
    "instances that are a number": instances(3),
    "instances that are an object": instances({"a": 1}),
    "null rows": instances([None]),
    "empty rows": instances([[]]),
    "numbers for rows": instances([1, 2, 3, 4]),
    "text for rows": instances(["a", "b"]),
    "ragged rows": instances([GOOD_ROW, GOOD_ROW[:3]]),
    "ragged and good rows": instances([GOOD_ROW] * 50 + [[1]] + [GOOD_ROW] * 50),
    "too few features": instances([[1, 2, 3]]),
    "too many features": instances([[1] * 5]),
    "1e5 features": instances([[1] * 100_000]),
    "text in a row": instances([[1, 2, 3, "a"]]),
    "null in a row": instances([[1, 2, 3, None]]),
    "an object in a row": instances([[1, 2, 3, {}]]),
    "a list in a row": instances([[1, 2, 3, [4]]]),
    "rows nested too deep": instances([[GOOD_ROW]]),
    "a float beyond the largest": instances(b"[[1e999, 1, 2, 3]]"),
    "an integer of 400 digits": instances(b"[[" + b"9" * 400 + b", 1, 2, 3]]"),
    "an integer of 1e6 digits": instances(b"[[" + b"9" * 1_000_000 + b", 1, 2, 3]]"),
}


@pytest.mark.parametrize("name", NO_INSTANCES)
def test_instances_that_the_model_does_not_take(iris, name):
    refused(ask(iris.port, predict(NO_INSTANCES[name])), 400)


def test_no_instances_get_no_predictions(iris):
    answer = ask(iris.port, predict(instances([])))
    assert answer.status == 400 or answer.json() == {"predictions": []}


@pytest.mark.parametrize("number", [2**63, -(2**63), 2**64, 10**30], ids=str)
def test_huge_integers_are_numbers_or_refused(doubles, iris, number):
    assert ask(iris.port, predict(instances([[number, 1, 2, 3]]))).status in (200, 400)
    answer = ask(doubles.port, predict(instances([number])))
    assert answer.status == 200
    assert answer.json()["predictions"] == [pytest.approx(2 * number)]


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


class Loads:
    def __reduce__(self):
        return (Path.touch, (Path("/tmp/a-pickle-was-loaded"),))


GOOD_NPY = npy(np.array([GOOD_ROW]))
NO_NPY = {
    "pickled objects": npy(np.array([{"a": 1}], dtype=object), allow_pickle=True),
    "a pickle": pickle.dumps([GOOD_ROW]),
    "a pickle that does something": pickle.dumps(Loads()),
    "objects that do something": npy(np.array([Loads()], dtype=object), allow_pickle=True),
    "empty": b"",
    "its magic alone": GOOD_NPY[:8],
    "cut short": GOOD_NPY[:-1],
    "a shape beyond memory": GOOD_NPY.replace(b"(1, 4), ", b"(9999999999999, 4), "),
    "a negative shape": GOOD_NPY.replace(b"(1, 4)", b"(-1, 4)"),
    "a header that is code": GOOD_NPY.replace(b"'<f8'", b"exit()"),
    "a version that there is not": GOOD_NPY.replace(b"NUMPY\x01", b"NUMPY\x09"),
    "NaN": npy(np.array([[np.nan, 1, 2, 3]])),
    "text": npy(np.array([["a", "b", "c", "d"]])),
    "too few features": npy(np.ones((1, 3))),
    "no dimension": npy(np.float64(1)),
    "seven dimensions": npy(np.ones((1,) * 7)),
}


def test_the_npy_form_is_read_at_all(iris):
    assert ask(iris.port, predict(GOOD_NPY, Content_Type=NPY)).status == 200


@pytest.mark.parametrize("name", NO_NPY)
def test_arrays_that_the_model_does_not_take(iris, name):
    refused(ask(iris.port, predict(NO_NPY[name], Content_Type=NPY)), 400)
    assert not Path("/tmp/a-pickle-was-loaded").exists()


def bomb(packed):
    """About `packed` bytes of gzip that unpack to a thousand times as many."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    first = packer.compress(b"\0" * MB) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(b"\0" * MB) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + again * (packed // len(again))


@pytest.mark.parametrize("depth", [1, 2])
def test_a_gzip_bomb_is_refused_before_it_is_large(doubles, depth):
    data = bomb(10 * MB)
    for _ in range(depth - 1):
        data = gzip.compress(data)
    before = peak_memory(doubles)
    refused(ask(doubles.port, predict(data, Content_Encoding="gzip")), 413 if depth == 1 else 400)
    assert peak_memory(doubles) < before + 100 * MB


@pytest.mark.parametrize(
    ("encoding", "data", "status"),
    [
        ("gzip", b'{"instances": [1]}', 400),
        ("gzip", gzip.compress(b'{"instances": [1]}')[:-9], 400),
        ("gzip", gzip.compress(b'{"instances": [1]}')[:-8] + b"\0" * 8, 400),
        ("gzip", gzip.compress(b"") * 100_000, 400),
        ("gzip", gzip.compress(b'{"instances": [1'), 400),
        ("br", b'{"instances": [1]}', 415),
        ("gzip, gzip", gzip.compress(b'{"instances": [1]}'), 415),
    ],
    ids=["plain", "cut short", "damaged", "a million members", "not JSON inside", "another encoding", "two encodings"],
)
def test_compressed_bodies_that_are_none(doubles, encoding, data, status):
    refused(ask(doubles.port, predict(data, Content_Encoding=encoding)), status)


@pytest.mark.parametrize("content_type", ["application/xml", "application/octet-stream", "nonsense", "text/html; x"])
def test_bodies_of_another_type(iris, content_type):
    refused(ask(iris.port, predict(b"<a/>", Content_Type=content_type)), 415)


# All together


def test_thousands_of_good_and_bad_requests_leave_the_memory_as_it_was(doubles, iris):
    bad = [data for data, _ in MALFORMED.values() if len(data) < 20_000]
    bad += [predict(data) for data in [*NOT_JSON.values(), *NO_INSTANCES.values()] if len(data) < 20_000]
    bad += [predict(data, Content_Type=NPY) for data in NO_NPY.values()]
    good = predict(instances([GOOD_ROW]))
    mixed = random.Random(3)

    def send(count):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for status in pool.map(
                lambda data: ask(iris.port, data).status,
                mixed.choices([good, *bad], [len(bad), *[1] * len(bad)], k=count),
            ):
                assert status < 500 or status in (501, 505)

    send(500)
    before = memory(iris)
    send(2000)
    assert memory(iris) < before + 6 * MB


def memory(server):
    return sum(measure(pid, "VmRSS") for pid in family(server.process.pid))


def peak_memory(server):
    return sum(measure(pid, "VmHWM") for pid in family(server.process.pid))


def measure(pid, name):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def family(pid):
    """A process and its children's children: the server may have workers."""
    found = [pid]
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found += family(int(stat.parent.name))
    return found
