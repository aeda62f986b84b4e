"""The storage's HTTP as it is sent: resumable uploads piece by piece, and what clients get wrong."""

import asyncio
import contextlib
import json
import os
import socket
import time
import urllib.parse

import pytest
import requests
from emu_storage_server import serving
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cpr_kit.emulator.storage.depot import Depot
from cpr_kit.emulator.storage.related import Related, boundary

QUARTER = 256 * 1024


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "storage"


@pytest.fixture
def depot(folder):
    with Depot(folder) as depot:
        depot.objects.ensure_bucket("bucket-1")
        yield depot


@pytest.fixture
def base(depot):
    with serving(depot) as base:
        yield base


@pytest.fixture
def upload(base):
    return f"{base}/upload/storage/v1/b/bucket-1/o"


def start(upload, query="name=x", **headers):
    answer = requests.post(f"{upload}?uploadType=resumable&{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.headers["location"]


def put(session, data, content_range, **headers):
    return requests.put(session, data, headers={"Content-Range": content_range, **headers})


def message(answer):
    """Of an error in Google's form, which every refusal is."""
    error = answer.json()["error"]
    assert error["code"] == answer.status_code and error["errors"][0]["reason"] and error["errors"][0]["domain"]
    assert error["errors"][0]["message"] == error["message"]
    return error["message"]


def drafts(folder):
    return [path.stat().st_size for path in (folder / "drafts").iterdir()]


def wait_until(true, seconds=30):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestResumable:
    def test_pieces(self, depot, upload):
        data = os.urandom(2 * QUARTER + 10)
        session = start(upload)
        asked = put(session, b"", "bytes */*")
        assert asked.status_code == 308 and "range" not in asked.headers
        sent = put(session, data[:QUARTER], f"bytes 0-{QUARTER - 1}/*")
        assert (sent.status_code, sent.headers["range"]) == (308, f"bytes=0-{QUARTER - 1}")
        # Again, and some more: what has come is not taken twice.
        sent = put(session, data[: 2 * QUARTER], f"bytes 0-{2 * QUARTER - 1}/{len(data)}")
        assert (sent.status_code, sent.headers["range"]) == (308, f"bytes=0-{2 * QUARTER - 1}")
        assert not depot.exists("gs://bucket-1/x")
        sent = put(session, data[2 * QUARTER :], f"bytes {2 * QUARTER}-{len(data) - 1}/{len(data)}")
        assert sent.status_code == 200 and sent.json()["size"] == str(len(data))
        assert depot.read("gs://bucket-1/x") == data
        assert put(session, b"", "bytes */*").json() == sent.json()
        assert put(session, b"", f"bytes */{len(data)}").json() == sent.json()

    def test_a_piece_that_is_no_multiple_is_cut(self, depot, upload):
        data = os.urandom(2 * QUARTER)
        session = start(upload)
        sent = put(session, data[: QUARTER + 5], f"bytes 0-{QUARTER + 4}/*")
        assert (sent.status_code, sent.headers["range"]) == (308, f"bytes=0-{QUARTER - 1}")
        sent = put(session, data[QUARTER:], f"bytes {QUARTER}-{2 * QUARTER - 1}/{2 * QUARTER}")
        assert sent.status_code == 200 and depot.read("gs://bucket-1/x") == data

    def test_all_at_once(self, depot, upload):
        for number, session in enumerate([start(upload), start(upload, **{"X-Upload-Content-Length": "4"})]):
            assert requests.put(session, b"all%d" % number).status_code == 200
            assert depot.read("gs://bucket-1/x") == b"all%d" % number
        assert requests.post(start(upload), b"by post").status_code == 200
        assert requests.put(start(upload), b"").json()["size"] == "0"

    def test_its_size_is_told_last(self, depot, upload):
        session = start(upload)
        put(session, b"x" * QUARTER, f"bytes 0-{QUARTER - 1}/*")
        assert put(session, b"", f"bytes */{QUARTER + 1}").status_code == 308
        assert put(session, b"", f"bytes */{QUARTER}").status_code == 200

    def test_for_clients_that_follow_308(self, upload):
        answer = put(start(upload), b"", "bytes */*", **{"X-GUploader-No-308": "yes"})
        assert (answer.status_code, answer.headers["x-http-status-code-override"]) == (200, "308")

    @pytest.mark.parametrize(
        ("data", "content_range", "expected"),
        [
            (b"x", "bytes 5-5/*", "0 bytes have come"), (b"xx", "bytes 0-0/*", "more than the 1 bytes"),
            (b"x", "bytes 0-1/*", "has 1 bytes; Content-Range says 2"), (b"x", "0-0/1", "Failed to parse"),
            (b"x", "bytes 3-1/9", "Failed to parse"), (b"xxxx", "bytes 0-3/3", "ends after byte 3"),
            (b"x", "bytes 0-0/7", "announced with 3 bytes"),
        ],
    )  # fmt: skip
    def test_wrong_pieces(self, folder, upload, data, content_range, expected):
        session = start(upload, **{"X-Upload-Content-Length": "3"})
        answer = put(session, data, content_range)
        assert answer.status_code == 400 and expected in message(answer)
        assert "range" not in put(session, b"", "bytes */*").headers
        assert put(session, b"abc", "bytes 0-2/3").status_code == 200

    def test_more_or_less_than_was_announced(self, upload):
        session = start(upload, **{"X-Upload-Content-Length": "3"})
        for data in (b"xxxx", b"xx"):
            answer = requests.put(session, data)
            assert answer.status_code == 400 and f"to have 3 bytes, but {len(data)}" in message(answer)
        assert requests.put(session, b"abc").status_code == 200

    def test_cancel(self, folder, upload):
        session = start(upload)
        put(session, b"x" * QUARTER, f"bytes 0-{QUARTER - 1}/*")
        assert requests.delete(session).status_code == 499
        assert put(session, b"", "bytes */*").status_code == 404
        assert drafts(folder) == []

    def test_one_that_fails_at_its_end_is_gone(self, depot, folder, upload):
        session = start(upload, "name=x&ifGenerationMatch=0")
        put(session, b"x" * QUARTER, f"bytes 0-{QUARTER - 1}/*")
        depot.write("gs://bucket-1/x", b"other")
        assert put(session, b"", f"bytes */{QUARTER}").status_code == 412
        assert drafts(folder) == [] and depot.read("gs://bucket-1/x") == b"other"
        session = start(upload)
        answer = put(session, b"x", "bytes 0-0/1", **{"X-Goog-Hash": "crc32c=AAAAAA=="})
        assert answer.status_code == 400 and "doesn't match" in message(answer)
        assert drafts(folder) == [] and depot.read("gs://bucket-1/x") == b"other"

    def test_a_connection_that_ends_amid_a_piece(self, depot, folder, base, upload):
        data = os.urandom(8 * QUARTER)
        session = start(upload)
        head = f"Content-Range: bytes 0-{len(data) - 1}/{len(data)}"
        with hung_up(base, "PUT", session.removeprefix(base), head, len(data), data[: 5 * QUARTER]):
            wait_until(lambda: sum(drafts(folder)) >= 4 * QUARTER)
        asked = put(session, b"", "bytes */*")
        came = int(asked.headers["range"].partition("-")[2]) + 1
        assert asked.status_code == 308 and 4 * QUARTER <= came <= 5 * QUARTER
        done = put(session, data[came:], f"bytes {came}-{len(data) - 1}/{len(data)}")
        assert done.status_code == 200 and depot.read("gs://bucket-1/x") == data

    @given(st.data())
    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_pieces(self, depot, upload, data):
        content = os.urandom(data.draw(st.integers(0, 4 * QUARTER)))
        session, at, status = start(upload), 0, 308
        while status == 308:
            back = data.draw(st.integers(0, at))
            end = min(len(content), at + data.draw(st.sampled_from([QUARTER, QUARTER + 7, 3 * QUARTER, 9 * QUARTER])))
            last = end == len(content)
            span = f"{back}-{end - 1}" if end > back else "*"
            answer = put(session, content[back:end], f"bytes {span}/{len(content) if last else '*'}")
            status = answer.status_code
            at = int(answer.headers["range"].partition("-")[2]) + 1 if "range" in answer.headers else 0
        assert status == 200 and depot.read("gs://bucket-1/x") == content


@contextlib.contextmanager
def hung_up(base, method, path, head, length, data):
    """A request whose body is never finished; the connection ends with the context."""
    host = base.removeprefix("http://")
    with socket.create_connection(host.split(":")) as connection:
        connection.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{head}\r\nContent-Length: {length}\r\n\r\n".encode() + data
        )
        yield


class TestUploads:
    def test_a_connection_that_ends_leaves_the_old_object(self, depot, folder, base):
        depot.write("gs://bucket-1/x", b"old")
        path = "/upload/storage/v1/b/bucket-1/o?uploadType=media&name=x"
        with hung_up(base, "POST", path, "Content-Type: a/b", 9_000_000, b"x" * 3_000_000):
            wait_until(lambda: sum(drafts(folder)))
        wait_until(lambda: drafts(folder) == [])
        assert depot.read("gs://bucket-1/x") == b"old"

    def test_media(self, depot, upload):
        answer = requests.post(
            f"{upload}?uploadType=media&name=a/b&contentEncoding=x", b"text", headers={"Content-Type": "a/b"}
        )
        found = answer.json()
        assert (found["name"], found["contentType"], found["contentEncoding"]) == ("a/b", "a/b", "x")
        assert requests.post(f"{upload}?uploadType=media&name=y", iter([b"chun", b"ked"])).status_code == 200
        assert depot.read("gs://bucket-1/y") == b"chunked"

    @pytest.mark.parametrize("size", [*range(1, 30), 200])
    def test_multipart_in_any_pieces(self, size):
        """The mark comes in parts, and much of it stands in the data."""
        data = b"x\r\n--mar\r\n\r\n--\r\n--mar--mark\r\n-"
        body = (
            b'--mark\r\nA: b\r\n\r\n{"name": "x"}\r\n--mark\r\nContent-Type: a/b\r\n\r\n' + data + b"\r\n--mark--\r\n"
        )

        async def pieces():
            for start in range(0, len(body), size):
                yield body[start : start + size]

        async def read():
            parts = Related(aiter(pieces()), boundary("multipart/related; boundary=mark"))
            return await parts.resource(), await parts.media_type(), b"".join([piece async for piece in parts.media()])

        assert asyncio.run(read()) == ({"name": "x"}, "a/b", data)

    @pytest.mark.parametrize("end", [b"\n", b"\r\n"])
    @pytest.mark.parametrize("kind", [b"Content-Type: a/b", b""])
    @pytest.mark.parametrize("data", [b"", b"data", b"\r\n", b"--mark", b"\n--mar"])
    def test_multipart_of_other_clients(self, depot, upload, end, kind, data):
        lines = [b"--mark", b"Content-Type: application/json", b"", b'{"name": "x"}', b"--mark", *filter(None, [kind])]
        body = end.join([*lines, b"", data, b"--mark--", b""])
        headers = {"Content-Type": 'multipart/related; boundary="mark"'}
        answer = requests.post(f"{upload}?uploadType=multipart", body, headers=headers)
        assert answer.status_code == 200, answer.text
        assert depot.read("gs://bucket-1/x") == data
        assert answer.json()["contentType"] == ("a/b" if kind else "application/octet-stream")

    @pytest.mark.parametrize(
        ("query", "content_type", "body", "expected"),
        [
            ("uploadType=media", "a/b", b"x", "Required parameter: name"),
            ("uploadType=other&name=x", "a/b", b"x", "Invalid value for uploadType"),
            ("name=x", "a/b", b"x", "Invalid value for uploadType"),
            ("uploadType=multipart&name=x", "a/b", b"x", "boundary"),
            ("uploadType=multipart&name=x", "multipart/related", b"x", "boundary"),
            ("uploadType=multipart&name=x", "multipart/related; boundary=m", b"x", "ended before"),
            ("uploadType=multipart&name=x", "multipart/related; boundary=m", b"--m\r\n\r\n{}\r\n--m\r\n\r\nx", "ended"),
            ("uploadType=multipart&name=x", "multipart/related; boundary=m", b"--m\r\n\r\n{\r\n--m\r\n\r\nx", "Parse"),
            ("uploadType=multipart&name=x", "multipart/related; boundary=m", b"--m\r\n\r\n[]\r\n--m\r\n\r\nx", "Parse"),
            (
                "uploadType=multipart", "multipart/related; boundary=m",
                b'--m\r\n\r\n{"name": 5}\r\n--m\r\n\r\nx\r\n--m--', "Required parameter: name",
            ),
            (
                "uploadType=multipart&name=x", "multipart/related; boundary=m",
                b'--m\r\n\r\n{"metadata": {"a": 1}}\r\n--m\r\n\r\nx\r\n--m--', "metadata.a",
            ),
            (
                "uploadType=multipart&name=x", "multipart/related; boundary=m",
                b'--m\r\n\r\n{"contentType": "a\\r\\nb: c"}\r\n--m\r\n\r\nx\r\n--m--', "control character",
            ),
            (
                "uploadType=multipart&name=x", "multipart/related; boundary=m",
                b"--m\r\n\r\n{}\r\n--m\r\n\r\nx\r\n--m\r\n\r\ny\r\n--m--", "more than two parts",
            ),
            (
                "uploadType=multipart&name=x", "multipart/related; boundary=m",
                b"--m\r\n\r\n{}\r\n--m\r\nContent-Transfer-Encoding: base64\r\n\r\neA==\r\n--m--", "base64",
            ),
            ("uploadType=media&name=x&ifGenerationMatch=x", "a/b", b"x", "ifGenerationMatch"),
            ("uploadType=media&name=x&ifGenerationMatch=-1", "a/b", b"x", "ifGenerationMatch"),
            (f"uploadType=media&name=x&ifGenerationMatch={1 << 63}", "a/b", b"x", "ifGenerationMatch"),
        ],
    )  # fmt: skip
    def test_wrong_ones(self, depot, folder, upload, query, content_type, body, expected):
        answer = requests.post(f"{upload}?{query}", body, headers={"Content-Type": content_type})
        assert answer.status_code == 400 and expected in message(answer)
        assert drafts(folder) == [] and depot.list("gs://bucket-1") == []

    def test_a_resource_without_end(self, upload):
        body = b"--m\r\n\r\n" + b"x" * (3 << 20)
        headers = {"Content-Type": "multipart/related; boundary=m"}
        assert requests.post(f"{upload}?uploadType=multipart&name=x", body, headers=headers).status_code == 413


class TestOthers:
    @pytest.mark.parametrize(
        ("method", "path", "body", "status", "expected"),
        [
            ("GET", "/storage/v1/b", None, 400, "Required parameter: project"),
            ("POST", "/storage/v1/b?project=p", "{", 400, "Parse Error"),
            ("POST", "/storage/v1/b?project=p", "{}", 400, "Required parameter: name"),
            ("POST", "/storage/v1/b?project=p", '{"name": 5}', 400, "Invalid bucket name: 5"),
            ("POST", "/storage/v1/b?project=p", '{"name": "abc", "labels": []}', 400, "Invalid value for labels"),
            ("POST", "/storage/v1/b?project=p", '{"name": "abc", "x": "' + "y" * (1 << 20) + '"}', 413, "1048576"),
            ("GET", "/storage/v1/b/UP", None, 400, "Invalid bucket name: 'UP'"),
            ("GET", "/storage/v1/b/bucket-1/o/%ff", None, 400, "not UTF-8"),
            ("GET", "/storage/v1/b/bucket-1/o/a/b", None, 501, "not emulated"),
            ("GET", "/storage/v1/b/bucket-1/o/x?generation=a", None, 400, "generation"),
            ("PATCH", "/storage/v1/b/bucket-1/o/x", "[]", 400, "Parse Error"),
            ("POST", "/storage/v1/b/bucket-1/o/x/compose", "{}", 400, "sourceObjects"),
            ("POST", "/storage/v1/b/bucket-1/o/x/compose", '{"sourceObjects": []}', 400, "components"),
            ("POST", "/storage/v1/b/bucket-1/o/x/compose", '{"sourceObjects": [5]}', 400, "has no name"),
            ("POST", "/storage/v1/b/bucket-1/o/x/compose", '{"sourceObjects": [], "destination": 5}', 400, "destination"),
            ("GET", "/storage/v1/b/bucket-1/notificationConfigs", None, 501, "is not emulated"),
            ("POST", "/storage/v1/b/bucket-1/o/x", None, 501, "is not emulated"),
            ("GET", "/nothing", None, 404, "is no call of Cloud Storage"),
            ("POST", "/batch/storage/v1", "x", 400, "multipart"),
            ("PUT", "/upload/storage/v1/b/bucket-1/o", None, 400, "Required parameter: upload_id"),
            ("PUT", "/upload/storage/v1/b/bucket-1/o?upload_id=x", None, 404, "No such resumable upload: x"),
        ],
    )  # fmt: skip
    def test_refusals(self, base, method, path, body, status, expected):
        answer = requests.request(method, base + path, data=body)
        assert answer.status_code == status and expected in message(answer)

    def test_links_lead_back(self, depot, base, upload):
        depot.write("gs://bucket-1/a/b", b"text")
        path = "/storage/v1/b/bucket-1/o/a%2Fb"
        found = requests.get(base + path).json()
        assert found["selfLink"] == base + path
        assert requests.get(found["mediaLink"]).content == b"text"
        through = {"Host": "storage.googleapis.com"}
        found = requests.get(base + path, headers=through).json()
        assert found["selfLink"] == f"https://storage.googleapis.com{path}"
        assert start(upload, **through).startswith("https://storage.googleapis.com/upload/storage/v1/b/bucket-1/o?")

    def test_batches(self, depot, base):
        depot.write("gs://bucket-1/a b", b"text")
        depot.write("gs://bucket-1/ü", b"text")
        calls = [
            ("GET", "https://storage.googleapis.com/storage/v1/b/bucket-1/o/a%20b", ""),
            ("PATCH", "/storage/v1/b/bucket-1/o/a%20b", '{"metadata": {"a": "ü"}}'),
            ("GET", "/storage/v1/b/bucket-1/o/none", ""),
            ("GET", "/storage/v1/b/bucket-1/o/a%20b?alt=media", ""),
            ("POST", "/upload/storage/v1/b/bucket-1/o?uploadType=media&name=x", "x"),
            ("POST", "/batch/storage/v1", ""),
            ("nonsense", "", ""),
            ("DELETE", "/storage/v1/b/bucket-1/o/a%20b", ""),
            ("DELETE", "/storage/v1/b/bucket-1/o/ü?ifGenerationNotMatch=1", ""),
        ]
        parts = [
            f"Content-Type: application/http\r\nContent-ID: <b+{number}>\r\n\r\n{method} {url} HTTP/1.1\r\n"
            f"Content-Type: application/json\r\n\r\n{body}\r\n"
            for number, (method, url, body) in enumerate(calls)
        ]
        body = "".join(f"--mark\r\n{part}" for part in parts) + "--mark--"
        answer = requests.post(
            f"{base}/batch/storage/v1", body.encode(), headers={"Content-Type": "multipart/mixed; boundary=mark"}
        )
        mark = answer.headers["content-type"].partition("boundary=")[2]
        answers = answer.content.decode().split(f"--{mark}")[1:-1]
        statuses = [int(each.partition("HTTP/1.1 ")[2][:3]) for each in answers]
        assert statuses == [200, 200, 404, 400, 400, 400, 400, 204, 204]
        assert [f"<response-b+{number}>" in each for number, each in enumerate(answers)] == [True] * len(calls)
        assert json.loads(answers[1].rpartition("\r\n\r\n")[2])["metadata"] == {"a": "ü"}
        assert depot.list("gs://bucket-1") == []

    @given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_name(self, depot, base, upload, name):
        """Either the object is there under exactly this name, or the name is refused."""
        quoted = urllib.parse.quote(name, safe="")
        answer = requests.post(f"{upload}?uploadType=media&name={quoted}", b"text")
        if answer.status_code == 400:
            assert name in (".", "..") or "\r" in name or "\n" in name
            return
        assert answer.json()["name"] == name
        assert depot.list("gs://bucket-1") == [f"gs://bucket-1/{name}"]
        assert requests.get(answer.json()["mediaLink"]).content == b"text"
        assert requests.delete(answer.json()["selfLink"]).status_code == 204
        assert depot.list("gs://bucket-1") == []
