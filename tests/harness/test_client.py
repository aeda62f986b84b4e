import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from script_engine import free_port

from cpr_kit.errors import ContainerError, MissingExtra, PredictionError, UsageError
from cpr_kit.harness import client


@contextmanager
def recorder(delay=None):
    """A server that says what arrived."""

    class Recorder(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if delay:
                delay.wait(5)
            content = json.dumps({"body": body.hex(), "type": self.headers["Content-Type"]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/predict"
        finally:
            server.shutdown()
            thread.join()


def sent(body, headers=None):
    with recorder() as url:
        reply = client.send(url, body, headers).json()
    return bytes.fromhex(reply["body"]), reply["type"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"instances": [[1, 2.5]]}, {"instances": [[1, 2.5]]}),
        ({"instances": np.array([[1, 2], [3, 4]])}, {"instances": [[1, 2], [3, 4]]}),
        ({"instances": np.arange(6.0).reshape(2, 3).T}, {"instances": [[0, 3], [1, 4], [2, 5]]}),
        ({"instances": [np.float32(0.5), np.int64(2)]}, {"instances": [0.5, 2]}),
    ],
    ids=["plain", "array", "transposed array", "numpy scalars"],
)
def test_an_object_is_sent_as_json(body, expected):
    data, content_type = sent(body)
    assert json.loads(data) == expected
    assert content_type == "application/json"


@pytest.mark.parametrize("body", [b"\x00\xff\r\n", '{"instances": ["\u00e9"]}', bytearray(b"x"), b""])
def test_bytes_and_text_are_sent_as_they_are(body):
    data, content_type = sent(body)
    assert data == (body.encode() if isinstance(body, str) else bytes(body))
    assert content_type == "application/json"


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.json", "application/json"),
        ("a.csv", "text/csv"),
        ("a.jsonl", "application/jsonl"),
        ("a.npy", "application/x-npy"),
        ("a.PNG", "image/png"),
        ("a.jpg", "image/jpeg"),
        ("a", "application/octet-stream"),
    ],
)
def test_a_file_is_read_as_bytes_and_labelled_by_its_suffix(tmp_path, name, content_type):
    file = tmp_path / name
    file.write_bytes(b"1,2\r\n\x00")
    assert sent(file) == (b"1,2\r\n\x00", content_type)


def test_the_callers_content_type_wins_whatever_its_case(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_bytes(b"1")
    assert sent(file, {"content-TYPE": "text/plain"})[1] == "text/plain"


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert sent({})[0] == b"{}"


def test_a_refused_connection_names_the_url():
    url = f"http://127.0.0.1:{free_port()}/predict"
    with pytest.raises(ContainerError, match=f"{url} could not be reached"):
        client.send(url, {})


def test_a_late_answer_is_a_504():
    release = threading.Event()
    with recorder(delay=release) as url:
        with pytest.raises(PredictionError, match=r"no answer within 0\.2 s") as caught:
            client.send(url, {}, timeout_s=0.2)
        release.set()
    assert caught.value.status_code == 504


def test_an_object_without_a_form_in_json_is_refused():
    with pytest.raises(UsageError, match="cannot be written as JSON"):
        client.send("http://127.0.0.1:1/predict", {"instances": [object()]})


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(UsageError, match=r"missing\.json"):
        client.send("http://127.0.0.1:1/predict", tmp_path / "missing.json")


def test_a_url_that_is_none_is_refused():
    with pytest.raises(UsageError, match="cannot be sent"):
        client.send("nowhere/predict", {})


def test_without_requests_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "requests", None)
    with pytest.raises(MissingExtra, match=r"cpr-kit\[local\]"):
        client.send("http://127.0.0.1:1/", {})


def test_the_type_of_a_path_is_not_guessed_from_its_folder():
    assert client.content_type_of(Path("data.csv/rows")) == "application/octet-stream"
