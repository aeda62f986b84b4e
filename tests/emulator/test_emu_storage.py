"""The storage as google-cloud-storage and the kit's own container-side client use it."""

import gzip
import hashlib
import io
import os
import tempfile
import threading
from base64 import b64encode

import google_crc32c
import pytest
import requests
from emu_storage_server import client_of, serving
from google.api_core import exceptions
from google.cloud.storage import blob as blob_module
from google.cloud.storage import transfer_manager

from cpr_kit.emulator.storage.depot import Depot
from cpr_kit.runtime.storage import depot as container

QUARTER = 256 * 1024
NUMBER = "4242"
WEIRD = ["../../etc/passwd", "a b/c?d#e&f=g%2F+", "ünï/✓ 𝕏", "/leading", "double//slash", "dir/", "." * 20, "x" * 1024]


@pytest.fixture
def depot(tmp_path):
    with Depot(tmp_path / "storage") as depot:
        yield depot


@pytest.fixture
def base(depot):
    with serving(depot, number_of=lambda _: NUMBER) as base:
        yield base


@pytest.fixture
def client(base, monkeypatch):
    client = client_of(base, monkeypatch)
    yield client
    client.close()


@pytest.fixture
def bucket(client):
    return client.create_bucket("bucket-1")


def put(bucket, *names):
    for name in names:
        bucket.blob(name).upload_from_string(name)


def names(blobs):
    return [blob.name for blob in blobs]


class TestBuckets:
    def test_the_life_of_a_bucket(self, client):
        assert client.lookup_bucket("bucket-1") is None
        with pytest.raises(exceptions.NotFound, match="The specified bucket does not exist"):
            client.get_bucket("bucket-1")
        assert not client.bucket("bucket-1").exists()
        made = client.create_bucket("bucket-1", location="us-central1")
        assert (made.location, made.location_type, made.storage_class) == ("US-CENTRAL1", "region", "STANDARD")
        assert str(made.project_number) == NUMBER
        assert client.bucket("bucket-1").exists()
        with pytest.raises(exceptions.Conflict):
            client.create_bucket("bucket-1")
        found = client.get_bucket("bucket-1")
        found.labels = {"a": "1", "b": "2"}
        found.versioning_enabled = True
        found.patch()
        found.labels = {"a": "1"}
        found.patch()
        again = client.get_bucket("bucket-1")
        assert again.labels == {"a": "1"} and again.versioning_enabled
        assert again.metageneration == 3 and again.time_created
        found.update()
        put(found, "x")
        with pytest.raises(exceptions.Conflict, match="not empty"):
            found.delete()
        found.delete(force=True)
        assert client.lookup_bucket("bucket-1") is None

    def test_lists_them(self, client):
        assert list(client.list_buckets()) == []
        for name in ("aa-2", "aa-1", "bb-1"):
            client.create_bucket(name)
        assert names(client.list_buckets()) == ["aa-1", "aa-2", "bb-1"]
        assert names(client.list_buckets(prefix="aa")) == ["aa-1", "aa-2"]
        pages = client.list_buckets(page_size=2).pages
        assert [names(page) for page in pages] == [["aa-1", "aa-2"], ["bb-1"]]

    @pytest.mark.parametrize(
        "name", ["Upper", "ab", "a" * 64, "1.2.3.4", "-ab", "ab-", "goog-x", "my-google-b", "a..b"]
    )
    def test_refuses_names(self, base, name):
        answer = requests.post(f"{base}/storage/v1/b?project=p", json={"name": name})
        assert answer.status_code == 400 and "Invalid bucket name" in answer.json()["error"]["message"]

    def test_conditions(self, client, bucket):
        with pytest.raises(exceptions.PreconditionFailed):
            bucket.delete(if_metageneration_match=7)
        bucket.delete(if_metageneration_match=1)

    def test_permissions_and_policy(self, client, bucket):
        assert bucket.test_iam_permissions(["storage.objects.get", "x.y"]) == ["storage.objects.get", "x.y"]
        policy = bucket.get_iam_policy()
        policy.bindings.append({"role": "roles/storage.objectViewer", "members": {"user:a@b.c"}})
        bucket.set_iam_policy(policy)
        bucket.update()
        assert bucket.get_iam_policy()["roles/storage.objectViewer"] == {"user:a@b.c"}
        assert "iamPolicy" not in client.get_bucket("bucket-1")._properties
        bucket.set_iam_policy(type(policy)())
        assert bucket.get_iam_policy().bindings == []
        assert client.get_service_account_email() == f"service-{NUMBER}@gs-project-accounts.iam.gserviceaccount.com"


class TestUploads:
    def check(self, blob, data):
        blob.reload()
        assert blob.size == len(data)
        assert blob.md5_hash == b64encode(hashlib.md5(data).digest()).decode()
        assert blob.crc32c == b64encode(google_crc32c.Checksum(data).digest()).decode()
        assert blob.download_as_bytes() == data

    @pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_001])
    @pytest.mark.parametrize("checksum", ["md5", "crc32c", "auto", None])
    def test_multipart(self, bucket, size, checksum):
        data = os.urandom(size)
        blob = bucket.blob("deep/er/name.bin")
        blob.metadata = {"a": "ü"}
        blob.upload_from_string(data, content_type="application/x-model", checksum=checksum)
        self.check(blob, data)
        found = bucket.get_blob("deep/er/name.bin")
        assert (found.content_type, found.metadata, found.metageneration) == ("application/x-model", {"a": "ü"}, 1)

    @pytest.mark.parametrize("size", [0, 1, QUARTER, QUARTER + 1, 5 * QUARTER])
    @pytest.mark.parametrize("checksum", ["md5", "crc32c"])
    def test_resumable_of_known_size(self, bucket, size, checksum, tmp_path, monkeypatch):
        monkeypatch.setattr(blob_module, "_MAX_MULTIPART_SIZE", -1)
        data = os.urandom(size)
        (tmp_path / "file").write_bytes(data)
        blob = bucket.blob("r", chunk_size=QUARTER)
        blob.upload_from_filename(str(tmp_path / "file"), content_type="a/b", checksum=checksum)
        self.check(blob, data)
        assert blob.content_type == "a/b"

    @pytest.mark.parametrize("size", [0, 1, QUARTER, 2 * QUARTER, 2 * QUARTER + 1])
    def test_resumable_of_unknown_size(self, bucket, size):
        data = os.urandom(size)

        class Stream(io.BytesIO):
            def seek(self, *_):
                raise io.UnsupportedOperation

        blob = bucket.blob("r", chunk_size=QUARTER)
        blob.upload_from_file(Stream(data))
        self.check(blob, data)

    def test_a_file_that_is_written_to(self, bucket):
        blob = bucket.blob("r")
        data = os.urandom(3 * QUARTER + 5)
        with blob.open("wb", chunk_size=QUARTER) as file:
            for start in range(0, len(data), 100_000):
                file.write(data[start : start + 100_000])
        self.check(blob, data)
        with blob.open("rb", chunk_size=QUARTER) as file:
            file.seek(QUARTER - 3)
            assert file.read(10) == data[QUARTER - 3 : QUARTER + 7]

    def test_a_checksum_that_is_wrong_is_refused(self, base, bucket):
        for header in ("crc32c=AAAAAA==", "md5=" + b64encode(b"0" * 16).decode()):
            answer = requests.post(
                f"{base}/upload/storage/v1/b/bucket-1/o?uploadType=media&name=x",
                b"data",
                headers={"X-Goog-Hash": header},
            )
            assert answer.status_code == 400 and "doesn't match calculated" in answer.json()["error"]["message"]
        assert not bucket.blob("x").exists()

    def test_a_new_version(self, bucket):
        blob = bucket.blob("x")
        blob.upload_from_string("one")
        first = blob.generation
        blob.upload_from_string("two")
        assert blob.generation > first and blob.download_as_text() == "two"
        with pytest.raises(exceptions.NotFound):
            bucket.blob("x", generation=first).download_as_bytes()

    @pytest.mark.parametrize("name", WEIRD)
    def test_names(self, bucket, name, tmp_path):
        blob = bucket.blob(name)
        blob.upload_from_string(name.encode())
        assert names(bucket.list_blobs()) == [name]
        assert bucket.get_blob(name).name == name
        assert blob.download_as_bytes() == name.encode()
        bucket.copy_blob(blob, bucket, new_name=f"c{name}"[:1000])
        blob.delete()
        assert not blob.exists()
        assert {path.parent.name for path in tmp_path.rglob("*") if path.is_file()} == {"storage", "objects"}

    @pytest.mark.parametrize("name", ["x" * 1025, "a\nb", ".", "..", ".well-known/acme-challenge/x"])
    def test_refuses_names(self, bucket, name):
        with pytest.raises(exceptions.BadRequest):
            bucket.blob(name).upload_from_string("x")

    def test_no_bucket(self, client):
        for call in (
            lambda: client.bucket("nothing").blob("x").upload_from_string("x"),
            lambda: (
                client.bucket("nothing").blob("x", chunk_size=QUARTER).upload_from_file(io.BytesIO(b"x" * QUARTER * 2))
            ),
            lambda: client.bucket("nothing").blob("x").download_as_bytes(),
            lambda: list(client.list_blobs("nothing")),
        ):
            with pytest.raises(exceptions.NotFound, match="bucket does not exist"):
                call()


class TestDownloads:
    def test_ways(self, bucket, tmp_path):
        data = os.urandom(2_500_000)
        blob = bucket.blob("x")
        blob.upload_from_string(data)
        assert bucket.blob("x").download_as_bytes() == data
        bucket.blob("x").download_to_filename(str(tmp_path / "a"))
        bucket.blob("x", chunk_size=QUARTER).download_to_filename(str(tmp_path / "b"))
        transfer_manager.download_chunks_concurrently(
            blob, str(tmp_path / "c"), chunk_size=QUARTER, max_workers=3, worker_type=transfer_manager.THREAD
        )
        assert all((tmp_path / name).read_bytes() == data for name in "abc")
        assert bucket.blob("x").download_as_bytes(start=5, end=9) == data[5:10]
        assert bucket.blob("x").download_as_bytes(start=2_499_990) == data[-10:]
        assert bucket.blob("x").download_as_bytes(raw_download=True, checksum="md5") == data
        with pytest.raises(exceptions.RequestRangeNotSatisfiable):
            bucket.blob("x").download_as_bytes(start=2_500_000)
        with pytest.raises(exceptions.NotFound, match="No such object: bucket-1/y"):
            bucket.blob("y").download_as_bytes()
        text = bucket.blob("t")
        text.upload_from_string("grüße")
        assert text.download_as_text() == "grüße"

    @pytest.mark.parametrize(
        ("header", "status", "expected"),
        [
            ("bytes=0-0", 206, b"0"), ("bytes=3-", 206, b"3456789"), ("bytes=-3", 206, b"789"),
            ("bytes=-300", 206, b"0123456789"), ("bytes=8-100", 206, b"89"), ("bytes=5-4", 200, b"0123456789"),
            ("bytes=1-2,4-5", 200, b"0123456789"), ("lines=1-2", 200, b"0123456789"), ("bytes=10-", 416, None),
            ("bytes=-0", 416, None),
        ],
    )  # fmt: skip
    def test_ranges(self, base, bucket, header, status, expected):
        bucket.blob("x").upload_from_string(b"0123456789")
        answer = requests.get(f"{base}/storage/v1/b/bucket-1/o/x?alt=media", headers={"Range": header})
        assert answer.status_code == status
        if status == 416:
            assert answer.headers["content-range"] == "bytes */10"
        else:
            assert answer.content == expected
        if status == 206:
            start = b"0123456789".index(expected)
            assert answer.headers["content-range"] == f"bytes {start}-{start + len(expected) - 1}/10"

    def test_headers(self, base, bucket):
        blob = bucket.blob("x")
        blob.content_disposition, blob.cache_control = 'attachment; filename="ü"', "no-store"
        blob.upload_from_string(b"0123456789", content_type="a/b")
        url = f"{base}/download/storage/v1/b/bucket-1/o/x?alt=media"
        for answer in (requests.get(url), requests.head(url)):
            headers = answer.headers
            assert headers["x-goog-generation"] == str(blob.generation)
            assert headers["x-goog-hash"] == f"crc32c={blob.crc32c},md5={blob.md5_hash}"
            assert headers["x-goog-stored-content-length"] == headers["content-length"] == "10"
            assert (headers["content-type"], headers["cache-control"]) == ("a/b", "no-store")
            assert headers["content-disposition"].encode("latin-1").decode() == 'attachment; filename="ü"'
        assert answer.content == b""

    def test_gzip_is_kept_and_unpacked_for_whom_does_not_know_it(self, base, bucket):
        data = b"text" * 1_000_000
        packed = gzip.compress(data[:1000]) + gzip.compress(data[1000:])
        blob = bucket.blob("x")
        blob.content_encoding = "gzip"
        blob.upload_from_string(packed)
        assert bucket.blob("x").download_as_bytes(raw_download=True) == packed
        url = f"{base}/storage/v1/b/bucket-1/o/x?alt=media"
        assert requests.get(url, headers={"Accept-Encoding": "gzip"}).headers["content-encoding"] == "gzip"
        plain = requests.get(url, headers={"Accept-Encoding": "identity"})
        assert plain.content == data and "content-encoding" not in plain.headers
        assert plain.headers["x-goog-stored-content-encoding"] == "gzip"
        assert requests.head(url, headers={"Accept-Encoding": "identity"}).status_code == 200

    def test_a_reader_who_hangs_up(self, base, bucket, caplog):
        bucket.blob("x").upload_from_string(b"x" * 30_000_000)
        for _ in range(3):
            with requests.get(f"{base}/download/storage/v1/b/bucket-1/o/x?alt=media", stream=True) as answer:
                assert answer.raw.read(1000)
        assert bucket.blob("x").exists() and not caplog.records

    def test_the_public_form(self, base, bucket):
        put(bucket, "a/b c")
        assert requests.get(f"{base}/bucket-1/a/b%20c").content == b"a/b c"
        assert requests.get(f"{base}/bucket-1/a%2Fb%20c").content == b"a/b c"
        assert requests.post(f"{base}/bucket-1/x?uploads").status_code == 501
        missing = requests.get(f"{base}/bucket-1/x")
        assert missing.status_code == 404 and "<Code>NoSuchKey</Code>" in missing.text
        assert "NoSuchBucket" in requests.get(f"{base}/bucket-2/x").text

    def test_a_new_version_does_not_mix_into_a_download(self, base, bucket):
        blob = bucket.blob("x")
        old = b"a" * 30_000_000
        blob.upload_from_string(old)
        with requests.get(f"{base}/download/storage/v1/b/bucket-1/o/x?alt=media", stream=True) as answer:
            first = answer.raw.read(1000)
            blob.upload_from_string(b"b" * 30_000_000)
            assert first + answer.raw.read() == old


class TestLists:
    ALL = ["a", "a/1", "a/2/x", "a/2/y", "ab", "b/", "b/1", "c", "é/1"]

    @pytest.fixture(autouse=True)
    def filled(self, bucket):
        put(bucket, *reversed(self.ALL))

    def list(self, bucket, **options):
        iterator = bucket.list_blobs(**options)
        return names(iterator), sorted(iterator.prefixes)

    def test_each_folder_is_named_once(self, base):
        listed = requests.get(f"{base}/storage/v1/b/bucket-1/o?delimiter=/&fields=items(name)").json()
        assert listed["prefixes"] == ["a/", "b/", "é/"] and len(listed["items"]) == 3

    def test_prefix_and_delimiter(self, bucket):
        assert self.list(bucket) == (self.ALL, [])
        assert self.list(bucket, prefix="a/") == (["a/1", "a/2/x", "a/2/y"], [])
        assert self.list(bucket, prefix="z") == ([], [])
        assert self.list(bucket, delimiter="/") == (["a", "ab", "c"], ["a/", "b/", "é/"])
        assert self.list(bucket, prefix="a/", delimiter="/") == (["a/1"], ["a/2/"])
        assert self.list(bucket, prefix="b/", delimiter="/") == (["b/", "b/1"], [])
        assert self.list(bucket, delimiter="/", include_trailing_delimiter=True) == (
            ["a", "ab", "b/", "c"], ["a/", "b/", "é/"],
        )  # fmt: skip
        assert self.list(bucket, delimiter="2/") == (["a", "a/1", "ab", "b/", "b/1", "c", "é/1"], ["a/2/"])

    def test_offsets(self, bucket):
        assert self.list(bucket, start_offset="a/2/y", end_offset="b/1") == (["a/2/y", "ab", "b/"], [])
        assert self.list(bucket, prefix="a/", start_offset="a/2") == (["a/2/x", "a/2/y"], [])

    @pytest.mark.parametrize(
        ("glob", "expected"),
        [
            ("*", ["a", "ab", "c"]), ("**", ALL), ("a/*", ["a/1"]), ("a/**", ["a/1", "a/2/x", "a/2/y"]),
            ("**/1", ["a/1", "b/1", "é/1"]), ("a/**/x", ["a/2/x"]), ("a/**/1", ["a/1"]), ("?", ["a", "c"]),
            ("{a,b}/1", ["a/1", "b/1"]), ("[a-b]/?", ["a/1", "b/1"]), ("[!a]/1", ["b/1", "é/1"]), ("a.*", []),
            ("**b", ["ab"]),
        ],
    )  # fmt: skip
    def test_glob(self, bucket, glob, expected):
        assert names(bucket.list_blobs(match_glob=glob)) == expected

    @pytest.mark.parametrize("size", [1, 2, 3, 100])
    def test_pages(self, bucket, size):
        pages = [names(page) for page in bucket.list_blobs(page_size=size).pages]
        assert sum(pages, []) == self.ALL and all(len(page) <= size for page in pages)
        iterator = bucket.list_blobs(page_size=size, delimiter="/")
        assert names(iterator) == ["a", "ab", "c"] and iterator.prefixes == {"a/", "b/", "é/"}
        assert names(bucket.list_blobs(max_results=2)) == ["a", "a/1"]

    def test_bad_parameters(self, base):
        for query in ("pageToken=%25", "maxResults=x", "matchGlob={a", "matchGlob=[z-a]", "matchGlob=a&delimiter=x"):
            answer = requests.get(f"{base}/storage/v1/b/bucket-1/o?{query}")
            assert answer.status_code == 400, query
            assert answer.json()["error"]["errors"][0]["domain"] == "global"


class TestChanges:
    def test_metadata(self, bucket):
        blob = bucket.blob("x")
        blob.upload_from_string("x")
        blob.metadata, blob.content_type, blob.cache_control = {"a": "1", "b": "2"}, "a/b", "no-store"
        blob.patch()
        blob.metadata = {"b": None, "c": "3"}
        blob.cache_control = None
        blob.patch()
        found = bucket.get_blob("x")
        assert (found.metadata, found.content_type, found.cache_control) == ({"a": "1", "c": "3"}, "a/b", None)
        assert found.metageneration == 3 and found.generation == blob.generation and found.updated > found.time_created
        found.content_language = "de"
        found.update()
        assert bucket.get_blob("x").content_language == "de"

    def test_copies(self, client, bucket):
        other = client.create_bucket("bucket-2")
        blob = bucket.blob("x")
        blob.metadata = {"a": "1"}
        blob.upload_from_string("text", content_type="a/b")
        copied = bucket.copy_blob(blob, other, "y")
        assert (copied.metadata, copied.content_type, copied.download_as_text()) == ({"a": "1"}, "a/b", "text")
        rewritten = other.blob("z")
        assert rewritten.rewrite(blob) == (None, 4, 4)
        assert other.get_blob("z").content_type == "a/b"
        changed = other.blob("w")
        changed.content_type = "c/d"
        changed.rewrite(blob)
        assert other.get_blob("w").content_type == "c/d"
        blob.update_storage_class("NEARLINE")
        assert bucket.get_blob("x").storage_class == "NEARLINE" and bucket.get_blob("x").content_type == "a/b"
        renamed = bucket.rename_blob(blob, "renamed")
        assert renamed.download_as_text() == "text" and not bucket.blob("x").exists()
        moved = bucket.move_blob(renamed, "moved")
        assert moved.download_as_text() == "text" and names(bucket.list_blobs()) == ["moved"]
        assert bucket.move_blob(moved, "moved").generation > moved.generation
        assert bucket.blob("moved").download_as_text() == "text"
        with pytest.raises(exceptions.NotFound):
            bucket.copy_blob(bucket.blob("none"), other)

    def test_a_copy_is_not_changed_by_its_source(self, bucket):
        blob = bucket.blob("x")
        blob.upload_from_string("old")
        copied = bucket.copy_blob(blob, bucket, "y")
        blob.upload_from_string("new")
        assert copied.download_as_text() == "old"
        blob.delete()
        assert copied.download_as_text() == "old"

    def test_compose(self, bucket):
        put(bucket, "a", "bb", "ccc")
        target = bucket.blob("all")
        target.content_type = "a/b"
        parts = [bucket.blob(name) for name in ("a", "bb", "ccc", "a")]
        target.compose(parts)
        target.reload()
        assert (target.download_as_text(), target.content_type) == ("abbccca", "a/b")
        assert (target.component_count, target.md5_hash, target.size) == (4, None, 7)
        target.compose([target, bucket.blob("a")])
        assert target.component_count == 5 and target.download_as_text() == "abbcccaa"
        with pytest.raises(exceptions.NotFound):
            target.compose([bucket.blob("none")])
        with pytest.raises(exceptions.BadRequest, match="33"):
            target.compose([bucket.blob("a")] * 33)
        generation = bucket.get_blob("a").generation
        target.compose([bucket.blob("a")], if_source_generation_match=[generation])
        with pytest.raises(exceptions.PreconditionFailed):
            target.compose([bucket.blob("a")], if_source_generation_match=[1])

    def test_batch(self, client, bucket):
        put(bucket, *(f"o/{number}" for number in range(5)), "kept", "wei rd/ü?#")
        with client.batch():
            for number in range(5):
                bucket.blob(f"o/{number}").delete()
            bucket.blob("wei rd/ü?#").delete()
            kept = bucket.blob("kept")
            kept.metadata = {"ä": "ö"}
            kept.patch()
        assert names(bucket.list_blobs()) == ["kept"]
        assert bucket.get_blob("kept").metadata == {"ä": "ö"} and kept.generation
        with pytest.raises(exceptions.NotFound), client.batch():
            bucket.blob("none").delete()
            bucket.blob("kept").delete()
        assert names(bucket.list_blobs()) == []

    def test_delete(self, bucket):
        put(bucket, "x")
        bucket.delete_blob("x")
        with pytest.raises(exceptions.NotFound):
            bucket.delete_blob("x")
        bucket.delete_blobs([bucket.blob("y")], on_error=lambda _: None)


class TestConditions:
    @pytest.fixture
    def blob(self, bucket):
        blob = bucket.blob("x")
        blob.upload_from_string("one")
        return blob

    def test_of_writes(self, bucket, blob):
        right, wrong = blob.generation, blob.generation - 1
        calls = [
            lambda **conditions: bucket.blob("x").upload_from_string("two", **conditions),
            lambda **conditions: bucket.blob("x", chunk_size=QUARTER).upload_from_file(
                io.BytesIO(b"2" * QUARTER * 2), **conditions
            ),
            lambda **conditions: bucket.copy_blob(blob, bucket, "x", **conditions),
            lambda **conditions: bucket.blob("x").rewrite(blob, **conditions),
            lambda **conditions: bucket.blob("x").compose([blob], **conditions),
            lambda **conditions: bucket.delete_blob("x", **conditions),
        ]
        for call in calls:
            for failing in ({"if_generation_match": wrong}, {"if_generation_match": 0}, {"if_metageneration_match": 9}):
                with pytest.raises(exceptions.PreconditionFailed, match="pre-conditions"):
                    call(**failing)
            assert bucket.get_blob("x").generation == right
            call(if_generation_match=right, if_metageneration_match=1)
            if (found := bucket.get_blob("x")) is not None:
                right, blob = found.generation, found

    def test_that_it_is_not_there(self, bucket):
        bucket.blob("x").upload_from_string("one", if_generation_match=0)
        with pytest.raises(exceptions.PreconditionFailed):
            bucket.blob("x").upload_from_string("two", if_generation_match=0)
        with pytest.raises(exceptions.PreconditionFailed):
            bucket.blob("y").upload_from_string("two", if_generation_match=5)

    def test_of_changes(self, bucket, blob):
        blob.metadata = {"a": "1"}
        with pytest.raises(exceptions.PreconditionFailed):
            blob.patch(if_metageneration_match=7)
        with pytest.raises(exceptions.PreconditionFailed):
            blob.patch(if_metageneration_not_match=1)
        blob.patch(if_metageneration_match=1, if_generation_match=blob.generation)

    def test_of_sources(self, bucket, blob):
        with pytest.raises(exceptions.PreconditionFailed):
            bucket.copy_blob(blob, bucket, "y", if_source_generation_match=1)
        with pytest.raises(exceptions.NotFound):
            bucket.copy_blob(blob, bucket, "y", source_generation=1)
        bucket.copy_blob(blob, bucket, "y", if_source_generation_match=blob.generation)

    def test_of_reads(self, base, bucket, blob):
        for call in (bucket.blob("x").download_as_bytes, bucket.blob("x").reload):
            with pytest.raises(exceptions.PreconditionFailed):
                call(if_generation_match=1)
            with pytest.raises(exceptions.NotModified):
                call(if_generation_not_match=blob.generation)
            with pytest.raises(exceptions.NotModified):
                call(if_etag_not_match=blob.etag)
            with pytest.raises(exceptions.PreconditionFailed):
                call(if_etag_match="other")
            call(if_etag_match=blob.etag, if_generation_not_match=1)
        url = f"{base}/storage/v1/b/bucket-1/o/x?ifMetagenerationNotMatch=1"
        assert (requests.get(url).status_code, requests.get(url).content) == (304, b"")
        assert requests.get(f"{base}/bucket-1/x?ifGenerationNotMatch={blob.generation}").status_code == 304

    @pytest.mark.parametrize("chunk_size", [None, QUARTER])
    def test_of_many_writers_one_wins(self, bucket, chunk_size, monkeypatch):
        if chunk_size:
            monkeypatch.setattr(blob_module, "_MAX_MULTIPART_SIZE", -1)
        ready, won, lost = threading.Barrier(8), [], []

        def write(number):
            data = bytes([number]) * QUARTER * 2
            blob = bucket.blob("raced", chunk_size=chunk_size)
            ready.wait()
            try:
                blob.upload_from_file(io.BytesIO(data), size=len(data), if_generation_match=0)
                won.append(data)
            except exceptions.PreconditionFailed:
                lost.append(number)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(won), len(lost)) == (1, 7)
        assert bucket.blob("raced").download_as_bytes() == won[0]


class TestContainers:
    """The client that the kit has inside of containers."""

    @pytest.fixture(autouse=True)
    def temporary(self, tmp_path, monkeypatch):
        (tmp_path / "temporary").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))

    def test_fetches_a_model(self, base, bucket):
        big = os.urandom(70_000_000)  # more than one of its pieces, which it fetches by range
        bucket.blob("model/big.bin").upload_from_string(big)
        put(bucket, "model/deep/a", "model2/b", "model.txt")
        packed = bucket.blob("model/packed")
        packed.content_encoding = "gzip"
        packed.upload_from_string(gzip.compress(b"text"))
        bucket.blob("model/joined").compose([bucket.blob("model2/b")] * 2)
        folder = container.fetch("gs://bucket-1/model", {"STORAGE_EMULATOR_HOST": base})
        assert (folder / "big.bin").read_bytes() == big
        assert (folder / "packed").read_bytes() == b"text"
        assert (folder / "joined").read_bytes() == b"model2/bmodel2/b"
        assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["a", "big.bin", "joined", "packed"]
