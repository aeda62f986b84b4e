"""Artifacts from a bucket: against a storage emulator, and against a stand-in that fails as it is told to."""

import contextlib
import gzip
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from bucket_server import BucketServer, Fault, Stored
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cpr_kit.errors import StartError
from cpr_kit.runtime.storage import checksum, depot, listing, transfer
from cpr_kit.runtime.storage.client import Client
from cpr_kit.runtime.storage.listing import Blob
from cpr_kit.runtime.storage.patience import Patience

QUICK = Patience(attempts=4, pause_s=0.01, timeout_s=5, total_s=60)


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


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """What TMPDIR is to a process that starts."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def fetch(path, environ):
    return depot.fetch(f"gs://bucket{path}", environ, patience=QUICK)


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def wait_until(true, seconds=30):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def stand_in():
    """stand_in({name: content or Stored}) -> BucketServer"""
    open_ = []

    def start(objects):
        server = BucketServer(**objects).__enter__()
        open_.append(server)
        return server

    yield start
    for server in open_:
        server.__exit__()


# What a URI names.


@pytest.mark.parametrize("path", ["/model", "/model/"])
def test_a_prefix_ends_at_its_folder(bucket, path):
    assert files(fetch(path, bucket)) == {"a.bin": b"model/a.bin", "deep/b.bin": b"model/deep/b.bin"}


@pytest.mark.parametrize("path", ["", "/"])
def test_a_whole_bucket(bucket, path):
    assert (fetch(path, bucket) / "model2/c.bin").read_text() == "model2/c.bin"


def test_one_object(bucket):
    assert files(fetch("/model/deep/b.bin", bucket)) == {"b.bin": b"model/deep/b.bin"}
    assert files(fetch("/model.txt", bucket)) == {"model.txt": b"model.txt"}
    with pytest.raises(StartError, match="gs://bucket/model.txt/ holds no file"):
        fetch("/model.txt/", bucket)


def test_nothing_under_the_prefix_and_no_bucket_say_so(bucket):
    with pytest.raises(StartError, match="gs://bucket/nothing holds no file"):
        fetch("/nothing", bucket)
    with pytest.raises(StartError, match="answered 404"):
        depot.fetch("gs://no-such-bucket/model", bucket, patience=QUICK)
    with pytest.raises(StartError, match="names no bucket"):
        depot.fetch("gs://", bucket)


def test_the_server_loads_from_a_bucket(bucket, serve, temporary):
    server = serve("fetches:Fetches", AIP_STORAGE_URI="gs://bucket/model", TMPDIR=str(temporary), **bucket).ready()
    assert server.predict({"instances": [1]}).json()["predictions"] == [
        {"a.bin": "model/a.bin", "b.bin": "model/deep/b.bin"}
    ]


def test_a_list_of_many_pages(stand_in):
    server = stand_in({f"model/{number}": str(number).encode() for number in range(7)})
    server.page = 3
    assert files(fetch("/model", server.environ)) == {str(number): str(number).encode() for number in range(7)}


def test_empty_objects_folder_marks_and_odd_names(stand_in):
    names = ["empty", "a b", "ü?#%", "deep/er/x", "..hidden"]
    server = stand_in({"m/": b"", "m/deep/": b"", **{f"m/{name}": b"" for name in names}})
    assert files(fetch("/m", server.environ)) == dict.fromkeys(names, b"")


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../out", "a/../b", "a\\b", "nul\0", "\udc80"])
def test_no_object_leaves_the_folder(tmp_path, stand_in, name):
    with pytest.raises(StartError, match="leads out"):
        listing.inside(tmp_path, name)
    if name.isprintable():
        server = stand_in({f"model/{name}": b"x", "model/good": b"x"})
        with pytest.raises(StartError, match="leads out"):
            fetch("/model", server.environ)
        assert not server.downloads()


def test_no_object_follows_a_link_out_of_the_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/link").symlink_to(tmp_path)
    with pytest.raises(StartError, match="leads out"):
        listing.inside(tmp_path / "folder", "link/x")


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a//b"), ("x/a/b/c", "x/a")])
def test_two_objects_of_one_place_are_refused(stand_in, names):
    server = stand_in({f"model/{name}": b"x" for name in names})
    with pytest.raises(StartError, match="cannot both be files"):
        fetch("/model", server.environ)


# What arrives.


@pytest.mark.parametrize("kind", [{}, {"composite": True}, {"without_checksum": True}])
def test_a_damaged_object_is_fetched_again_and_a_verified_one_is_right(stand_in, kind):
    content = os.urandom(300_000)
    server = stand_in({"model/a": Stored(content, **kind)})
    server.fault = lambda asked: Fault(kind="flip", after=7) if len(server.downloads()) == 1 and asked.name else None
    found = files(fetch("/model", server.environ))["a"]
    assert (found == content) is ("without_checksum" not in kind)


@pytest.mark.parametrize(("library", "name"), [(True, "CRC32C"), (False, "MD5")])
def test_an_object_that_stays_damaged_is_refused(stand_in, temporary, monkeypatch, library, name):
    if not library:
        monkeypatch.setattr(checksum, "_crc32c", lambda: None)
    server = stand_in({"model/deep/a": b"x" * 1000, "model/b": b"x"})
    server.fault = lambda asked: Fault(kind="flip") if asked.name == "model/deep/a" else None
    with pytest.raises(
        StartError, match=rf"gs://bucket/model/deep/a arrived damaged, 3 times: its {name} is .*the bucket"
    ):
        fetch("/model", server.environ)
    assert not list(temporary.rglob("files/deep/*"))


def test_what_cannot_be_verified_is_said(stand_in, caplog, monkeypatch):
    monkeypatch.setattr(checksum, "_crc32c", lambda: None)
    fetch("/model", stand_in({"model/a": b"x", "model/b": Stored(b"x", composite=True)}).environ)
    assert "1 objects cannot be verified, gs://bucket/model/b first: pip install google-crc32c" in caplog.text


def test_an_object_is_large_and_comes_in_pieces(stand_in, monkeypatch):
    monkeypatch.setattr(transfer, "PIECE", 1 << 16)
    content = os.urandom(10 * (1 << 16) + 17)
    server = stand_in({"model/a": content, "model/b": content[: 1 << 16]})
    assert files(fetch("/model", server.environ)) == {"a": content, "b": content[: 1 << 16]}
    assert sorted(asked.start for asked in server.downloads("model/a")) == [number << 16 for number in range(11)]
    assert [asked.start for asked in server.downloads("model/b")] == [None]


def test_a_server_without_ranges_serves_pieces_too(stand_in, monkeypatch):
    monkeypatch.setattr(transfer, "PIECE", 1 << 16)
    content = os.urandom(5 * (1 << 16) + 17)
    server = stand_in({"model/a": content})
    server.fault = lambda asked: Fault(kind="whole")
    assert files(fetch("/model", server.environ)) == {"a": content}


def test_an_object_stored_as_gzip_is_unpacked(stand_in):
    server = stand_in({"model/a.json": Stored(gzip.compress(b"[1, 2]"), gzipped=True)})
    assert files(fetch("/model", server.environ)) == {"a.json": b"[1, 2]"}
    server = stand_in({"model/a.json": Stored(b"no gzip", gzipped=True)})
    with pytest.raises(StartError, match="says that it is gzip, and is not"):
        fetch("/model", server.environ)


def test_connections_are_kept(stand_in):
    server = stand_in({f"model/{number}": b"x" for number in range(100)})
    fetch("/model", server.environ)
    assert len({asked.connection for asked in server.downloads()}) <= transfer.STREAMS


# What goes wrong on the way.


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_may_pass_is_tried_again(stand_in, status):
    server = stand_in({"model/a": b"x"})
    server.fault = lambda asked: (
        Fault(status=status, headers=(("Retry-After", "0"),)) if len(server.asked) % 3 else None
    )
    assert files(fetch("/model", server.environ)) == {"a": b"x"}
    assert len(server.asked) == 6


def test_what_does_not_pass_is_given_up(stand_in):
    server = stand_in({"model/a": b"x"})
    server.fault = lambda asked: Fault(status=503) if asked.name else None
    with pytest.raises(StartError, match="gs://bucket answered 503"):
        fetch("/model", server.environ)
    assert len(server.downloads()) == QUICK.attempts


@pytest.mark.parametrize(("status", "remedy"), [(401, "objectViewer"), (403, "objectViewer"), (404, "artifact URI")])
def test_a_refusal_is_not_tried_again(stand_in, status, remedy):
    server = stand_in({"model/a": b"x"})
    server.fault = lambda asked: Fault(status=status)
    with pytest.raises(StartError, match=f"answered {status}.*{remedy}"):
        fetch("/model", server.environ)
    assert len(server.asked) == 1


@pytest.mark.parametrize("kind", ["end", "reset"])
def test_a_connection_that_breaks_goes_on_where_it_broke(stand_in, kind):
    content = os.urandom(3 << 20)
    server = stand_in({"model/a": content})
    server.fault = lambda asked: Fault(kind=kind, after=1 << 20) if asked.name and len(server.downloads()) < 3 else None
    assert files(fetch("/model", server.environ)) == {"a": content}
    first, second, third = (asked.start for asked in server.downloads())
    assert first is None
    assert 0 < second <= 1 << 20
    assert second < third <= 2 << 20


def test_an_object_that_comes_bit_by_bit_comes(stand_in):
    """More breaks than there are tries; each brings something."""
    content = os.urandom(100_000)
    server = stand_in({"model/a": content})
    server.fault = lambda asked: Fault(after=10_000) if asked.name else None
    assert files(fetch("/model", server.environ)) == {"a": content}
    assert len(server.downloads()) == 10 > QUICK.attempts


def test_each_piece_goes_on_where_an_earlier_download_failed(stand_in, monkeypatch):
    monkeypatch.setattr(transfer, "PIECE", 1 << 16)
    content = os.urandom(4 << 16)
    server = stand_in({"model/a": content})
    together = threading.Barrier(4)

    def fault(asked):
        if asked.name:
            if asked.start % (1 << 16):
                return Fault(status=403)
            together.wait(30)
            return Fault(after=10_000 + asked.start // 8)
        return None

    server.fault = fault
    with pytest.raises(StartError, match="answered 403"):
        depot.fetch("gs://bucket/model", server.environ, patience=Patience(attempts=3, pause_s=2))
    server.fault = lambda asked: None
    server.asked.clear()
    assert files(fetch("/model", server.environ)) == {"a": content}
    starts = sorted(asked.start for asked in server.downloads())
    assert starts == [(number << 16) + 10_000 + (number << 13) for number in range(4)]


def test_an_object_that_is_always_cut_short_is_refused(stand_in, temporary):
    server = stand_in({"model/a": b"x" * 1000})
    server.fault = lambda asked: Fault(after=400 if asked.start is None else 0) if asked.name else None
    with pytest.raises(StartError, match="gs://bucket/model/a arrived cut short: 400 of 1000 bytes"):
        fetch("/model", server.environ)
    assert not list(temporary.rglob("files/*"))


def test_a_server_that_stands_still_is_left(stand_in):
    server = stand_in({"model/a": b"x" * 1000})
    server.fault = lambda asked: Fault(kind="stand", after=10) if asked.name and len(server.downloads()) == 1 else None
    patience = Patience(attempts=3, pause_s=0.01, timeout_s=0.3)
    assert files(depot.fetch("gs://bucket/model", server.environ, patience=patience)) == {"a": b"x" * 1000}


def test_the_whole_has_an_end(stand_in):
    server = stand_in({"model/a": b"x"})
    server.fault = lambda asked: Fault(status=503)
    with pytest.raises(StartError, match="did not arrive within 0.3 s"):
        depot.fetch("gs://bucket/model", server.environ, patience=Patience(attempts=10**6, pause_s=0.01, total_s=0.3))


def test_an_object_written_meanwhile_is_not_mixed_in(stand_in):
    server = stand_in({"model/a": b"x" * 1000})

    def fault(asked):
        if asked.name and len(server.downloads()) == 2:
            server.objects["model/a"] = Stored(b"y" * 1000, generation=2)
        return Fault(after=400) if asked.name else None

    server.fault = fault
    with pytest.raises(StartError, match="answered 412.*written while it was read"):
        fetch("/model", server.environ)
    server.fault = lambda asked: None
    assert files(fetch("/model", server.environ)) == {"a": b"y" * 1000}
    assert server.downloads()[-1].start is None


def test_the_first_failure_ends_the_others(stand_in):
    """A 403 for one object while another stands still: nobody waits for that one's time-out."""
    server = stand_in({"model/a": b"x" * 10, "model/b": b"x"})
    server.fault = lambda asked: {"model/a": Fault(status=503), "model/b": Fault(status=403)}.get(asked.name)
    with pytest.raises(StartError, match="answered 403"):
        depot.fetch("gs://bucket/model", server.environ, patience=Patience(attempts=20, pause_s=10))


def test_an_unreachable_storage_says_so(unused_port):
    with pytest.raises(StartError, match="cannot be reached"):
        fetch("/model", {"STORAGE_EMULATOR_HOST": f"127.0.0.1:{unused_port()}"})


def test_a_host_that_is_none_says_so():
    with pytest.raises(StartError, match='STORAGE_EMULATOR_HOST is "ftp://x"'):
        fetch("/model", {"STORAGE_EMULATOR_HOST": "ftp://x"})


def test_a_server_that_cannot_fetch_ends_with_its_reason(serve, stand_in, temporary):
    server = stand_in({"model/a": b"x"})
    server.fault = lambda asked: Fault(status=403)
    started = serve("fetches:Fetches", AIP_STORAGE_URI="gs://bucket/model", TMPDIR=str(temporary), **server.environ)
    code, last = started.end()
    assert code == 1
    assert "gs://bucket answered 403 Forbidden" in last
    assert "grant roles/storage.objectViewer" in last


def test_a_server_that_is_told_to_stop_while_it_fetches_does(serve, stand_in, temporary):
    server = stand_in({f"model/{number}": b"x" * 1000 for number in range(100)})
    server.fault = lambda asked: Fault(kind="stand", after=10) if asked.name else None
    started = serve("fetches:Fetches", AIP_STORAGE_URI="gs://bucket/model", TMPDIR=str(temporary), **server.environ)
    started.wait_for(503)
    wait_until(server.downloads)
    started.process.terminate()
    assert started.process.wait(20) == 0


FAULTS = st.one_of(
    st.none(),
    st.builds(Fault, status=st.sampled_from([408, 429, 500, 502])),
    st.builds(Fault, kind=st.sampled_from(["end", "reset", "flip", "whole"]), after=st.integers(0, 5000)),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 5000), min_size=1, max_size=5), faults=st.lists(FAULTS, max_size=8))
def test_whatever_fails_on_the_way_what_is_there_is_right(tmp_path_factory, sizes, faults):
    with pytest.MonkeyPatch.context() as patch, BucketServer() as server:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("fetched")))
        patch.setattr(transfer, "PIECE", 1000)
        contents = {str(number): os.urandom(size) for number, size in enumerate(sizes)}
        server.objects = {f"model/{name}": Stored(content) for name, content in contents.items()}
        queue = list(faults)
        server.fault = lambda asked: queue.pop() if asked.name and queue else None
        patience = Patience(attempts=12, pause_s=0.001)
        try:
            assert files(depot.fetch("gs://bucket/model", server.environ, patience=patience)) == contents
        except StartError as error:
            assert "arrived damaged" in str(error)  # three flips of one object
            assert sum(fault is not None and fault.kind == "flip" for fault in faults) >= 3
            found = {path.name: path.read_bytes() for path in Path(tempfile.gettempdir()).rglob("files/*")}
            assert found.items() <= contents.items()


# How it is reached.


@pytest.fixture
def metadata():
    """A metadata server that gives a new token each time."""

    class Gives(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            assert self.headers["Metadata-Flavor"] == "Google"
            given.append(f"token{len(given)}")
            body = json.dumps({"access_token": given[-1], "expires_in": 3599}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    given = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gives) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}", given
        server.shutdown()
        thread.join()


def client(server, host):
    made = Client("bucket", {"GCE_METADATA_HOST": host}, patience=QUICK)
    plain = Client("bucket", server.environ, patience=QUICK)
    made.base, made._route = plain.base, plain._route
    return made


def test_a_token_that_has_run_out_is_renewed(stand_in, metadata):
    host, given = metadata
    server = stand_in({f"model/{number}": b"x" for number in range(40)})
    server.fault = lambda asked: (
        Fault(status=401) if asked.headers["Authorization"] != f"Bearer token{int(len(server.asked) > 15)}" else None
    )
    made = client(server, host)
    folder = Path(tempfile.gettempdir())
    with contextlib.closing(made):
        transfer.Transfer(made, listing.find(made, "model"), folder).complete()
    assert len(files(folder / "files")) == 40
    assert given == ["token0", "token1"]


def test_a_token_that_never_worked_is_not(stand_in, metadata):
    host, given = metadata
    server = stand_in({"model/a": b"x"})
    server.fault = lambda asked: Fault(status=401)
    made = client(server, host)
    with contextlib.closing(made), pytest.raises(StartError, match="answered 401.*objectViewer"):
        listing.find(made, "model")
    assert (given, len(server.asked)) == (["token0"], 1)


def test_no_credentials_at_all_say_so(unused_port):
    with pytest.raises(StartError, match=r"no credentials.*metadata server"):
        fetch("/model", {"GCE_METADATA_HOST": f"127.0.0.1:{unused_port()}"})


def test_a_proxy_of_the_environment_is_used(stand_in, monkeypatch):
    server = stand_in({"model/a": b"x"})
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert files(fetch("/model", {"STORAGE_EMULATOR_HOST": "storage.example"})) == {"a": b"x"}
    assert all(asked.path.startswith("http://storage.example/") for asked in server.asked)


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here to make a certificate with")
def test_over_tls_the_certificate_is_checked(stand_in, tmp_path, monkeypatch):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    content = os.urandom(3 << 20)
    server = stand_in({"model/a": content})
    server.secure(certificate, key)
    with pytest.raises(StartError, match="cannot be reached.*certificate"):
        fetch("/model", server.environ)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert files(fetch("/model", server.environ)) == {"a": content}


def test_a_pure_python_checksum_is_not_used(monkeypatch):
    import google_crc32c

    monkeypatch.setattr(google_crc32c, "implementation", "python")
    checksum._crc32c.cache_clear()
    try:
        blob = Blob(bucket="b", name="n", relative="n", size=1, crc32c="c", md5="m")
        assert checksum.chosen(blob)[0] == "MD5"
    finally:
        checksum._crc32c.cache_clear()
