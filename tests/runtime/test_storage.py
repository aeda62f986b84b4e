"""Artifacts from a bucket, against a real storage emulator over a real socket."""

import http.server
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest

from cpr_kit.errors import StartError
from cpr_kit.runtime import storage


@pytest.fixture(scope="module")
def emulator(unused_port):
    port = unused_port()
    command = [
        sys.executable, "-c", "from gcp_storage_emulator.__main__ import main; main()",
        "start", "--host", "127.0.0.1", "--port", str(port), "-M", "-q",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                post(f"{base}/storage/v1/b?project=p", b'{"name": "bucket"}', "application/json")
                break
            except urllib.error.URLError:
                time.sleep(0.05)
        yield base
    finally:
        process.kill()
        process.wait()


def post(url, body, content_type="application/octet-stream"):
    request = urllib.request.Request(url, body, {"Content-Type": content_type})
    urllib.request.urlopen(request, timeout=10).close()


@pytest.fixture(scope="module")
def bucket(emulator):
    for name in ("model/a.bin", "model/deep/b.bin", "model2/c.bin", "evil/x", "model.txt"):
        post(f"{emulator}/upload/storage/v1/b/bucket/o?uploadType=media&name={name}", name.encode())
    return {"STORAGE_EMULATOR_HOST": emulator}


@pytest.mark.parametrize("prefix", ["model", "model/"])
def test_a_prefix_ends_at_its_folder(bucket, tmp_path, prefix):
    storage.download("bucket", prefix, tmp_path, bucket)

    files = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"a.bin": "model/a.bin", "deep/b.bin": "model/deep/b.bin"}


def test_a_whole_bucket(bucket, tmp_path):
    storage.download("bucket", "", tmp_path, bucket)
    assert (tmp_path / "model2/c.bin").read_text() == "model2/c.bin"


def test_nothing_under_the_prefix_and_no_bucket_say_so(bucket, tmp_path):
    with pytest.raises(StartError, match="gs://bucket/nothing holds no file"):
        storage.download("bucket", "nothing", tmp_path, bucket)
    with pytest.raises(StartError, match="answered 404"):
        storage.download("no-such-bucket", "model", tmp_path, bucket)


def test_an_unreachable_storage_says_so(tmp_path, unused_port):
    with pytest.raises(StartError, match="cannot be reached"):
        storage.download("bucket", "model", tmp_path, {"STORAGE_EMULATOR_HOST": f"127.0.0.1:{unused_port()}"})


def test_no_credentials_at_all_say_so(tmp_path, unused_port):
    with pytest.raises(StartError, match=r"no credentials.*metadata server"):
        storage.download("bucket", "model", tmp_path, {"GCE_METADATA_HOST": f"127.0.0.1:{unused_port()}"})


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../out", "a\\b", "nul\0"])
def test_no_object_leaves_the_folder(tmp_path, name):
    with pytest.raises(StartError, match="leads out"):
        storage._inside(tmp_path, name)


def test_the_server_loads_from_a_bucket(bucket, serve):
    server = serve("answers:Doubles", AIP_STORAGE_URI="gs://bucket/model", **bucket).ready()
    assert server.predict({"instances": [1]}).status_code == 200


def test_an_object_that_is_cut_short_is_refused(tmp_path):
    """A server that announces more than it sends, for an object without a checksum: no emulator does that."""

    class CutsShort(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            body = b'{"items": [{"name": "model/a"}]}' if "/o?" in self.path else b"x" * 400
            self.send_header("Content-Length", str(len(body) if "/o?" in self.path else 1000))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), CutsShort) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(StartError, match="cut short"):
                storage.download("b", "model", tmp_path, {"STORAGE_EMULATOR_HOST": f"127.0.0.1:{server.server_port}"})
        finally:
            server.shutdown()
            thread.join()
    assert not (tmp_path / "a").exists()
