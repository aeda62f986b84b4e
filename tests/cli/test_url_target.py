"""TARGET: what is asked of the server behind a URL; what is refused before a folder is built."""

import http.server
import threading

import pytest

from cpr_kit.cli.target import Options, at_url, startable
from cpr_kit.errors import ContainerError, SpecError


@pytest.fixture
def asked():
    """(the server's URL, the paths that it was asked)."""
    paths = []

    class Notes(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            paths.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Notes) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", paths
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("rest", "route", "path"),
    [
        ("", None, "/predict"),
        ("/v1/m:predict", None, "/v1/m:predict"),
        ("/v1/m:predict?key=a%20b&x=1", None, "/v1/m:predict?key=a%20b&x=1"),
        ("?key=1", None, "/predict?key=1"),
        ("/?key=1", "/ask", "/ask?key=1"),
        ("/?key=1", "/ask?x=2", "/ask?x=2&key=1"),
    ],
)
def test_the_whole_url_is_asked(asked, rest, route, path):
    url, paths = asked
    target = at_url(url + rest, Options(predict_route=route))
    assert target.predict(b"{}").status_code == 200
    assert paths == [path]
    assert target.health_route == "/health"


def test_a_key_in_the_url_is_not_told_when_nobody_answers():
    with pytest.raises(ContainerError, match="/predict could not be reached, or closed the connection: ") as caught:
        at_url("http://127.0.0.1:1?key=secret", Options()).predict(b"{}")
    assert "secret" not in str(caught.value)
    assert "HTTPConnection" not in str(caught.value)


def test_a_folder_whose_model_is_not_there_is_not_built_first(tmp_path, monkeypatch):
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "cpr.toml").write_text(
        """
        [model]
        artifacts = "model/"
        [image]
        dockerfile = "Dockerfile"
        command = ["/usr/bin/tensorflow_model_server"]
        args = ["--model_name=m", "--model_base_path=$(AIP_STORAGE_URI)", "--rest_api_port=8080", "--port=8500"]
        ports = [8080]
        health_route = "/v1/models/m"
        predict_route = "/v1/models/m:predict"
        """
    )
    monkeypatch.setattr("cpr_kit.build.image.build", None)  # a build would be a TypeError
    with pytest.raises(SpecError, match=r"model, where the model's versions are looked for, is not there"):
        startable(str(tmp_path), Options(engine="process"))
