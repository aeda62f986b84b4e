"""Download a folder from Google Cloud Storage with the standard library."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from cpr_kit.errors import MissingExtra, StartError

_STREAMS = 8
_ATTEMPTS = 4
_TIMEOUT_S = 60
_CHUNK = 1 << 20
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"


@dataclass(frozen=True)
class Blob:
    """One object: its name below the prefix, and what must arrive."""

    name: str
    relative: str
    md5: str | None


def download(bucket: str, prefix: str, folder: Path, environ: Mapping[str, str] = os.environ) -> None:
    """Copy everything below `prefix` into `folder`. `model` and `model/` are the same and never match `model2/`.

    Raises StartError naming the URI: nothing there, not allowed, unreachable, or a name that leaves the folder.
    """
    client = _Client(bucket, environ)
    blobs = list(client.list(f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""))
    if not blobs:
        raise StartError(
            f"gs://{bucket}/{prefix} holds no file", "check the artifact URI: it names the folder of the model's files"
        )
    targets = [_inside(folder, blob.relative) for blob in blobs]
    with ThreadPoolExecutor(_STREAMS) as pool:
        list(pool.map(client.fetch, blobs, targets))


def _inside(folder: Path, relative: str) -> Path:
    """Where the object goes. An object's name is any text, so `../` and the like must not leave the folder."""
    target = folder / relative
    if "\\" in relative or "\0" in relative or not target.resolve().is_relative_to(folder.resolve()):
        raise StartError(f"an object is named {relative!r}, which leads out of the folder", "rename or remove it")
    return target


class _Client:
    def __init__(self, bucket: str, environ: Mapping[str, str]) -> None:
        self.bucket = bucket
        self.base = environ.get("STORAGE_EMULATOR_HOST", "https://storage.googleapis.com").rstrip("/")
        if "://" not in self.base:
            self.base = f"http://{self.base}"
        self.headers = {} if "STORAGE_EMULATOR_HOST" in environ else {"Authorization": f"Bearer {_token(environ)}"}

    def list(self, prefix: str) -> Iterator[Blob]:
        query = {"prefix": prefix, "fields": "items(name,md5Hash),nextPageToken"}
        while True:
            url = f"{self.base}/storage/v1/b/{self.bucket}/o?{urllib.parse.urlencode(query)}"
            page = json.loads(self._read(url))
            for item in page.get("items", []):
                relative = item["name"].removeprefix(prefix)
                if relative and not relative.endswith("/"):
                    yield Blob(item["name"], relative, item.get("md5Hash"))
            if not page.get("nextPageToken"):
                return
            query["pageToken"] = page["nextPageToken"]

    def fetch(self, blob: Blob, target: Path) -> None:
        """Into a file beside `target` first, so that a file under its own name is whole and verified."""
        name = urllib.parse.quote(blob.name, safe="")
        url = f"{self.base}/download/storage/v1/b/{self.bucket}/o/{name}?alt=media"
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        digest = hashlib.md5(usedforsecurity=False)
        with self._open(url) as response, part.open("wb") as file:
            while chunk := response.read(_CHUNK):
                digest.update(chunk)
                file.write(chunk)
            length = response.headers.get("Content-Length")
            if length is not None and file.tell() != int(length):
                raise StartError(f"gs://{self.bucket}/{blob.name} arrived cut short", "start again")
        if blob.md5 and base64.b64decode(blob.md5) != digest.digest():
            raise StartError(f"gs://{self.bucket}/{blob.name} arrived damaged (MD5 differs)", "start again")
        part.replace(target)

    def _read(self, url: str) -> bytes:
        with self._open(url) as response:
            return cast("bytes", response.read())

    def _open(self, url: str) -> Any:
        request = urllib.request.Request(url, headers=self.headers)  # noqa: S310  the scheme is ours
        for attempt in range(_ATTEMPTS):
            try:
                return urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310
            except urllib.error.HTTPError as error:
                error.close()
                if error.code < 500 or attempt == _ATTEMPTS - 1:  # noqa: PLR2004
                    raise StartError(
                        f"gs://{self.bucket} answered {error.code} {error.reason}", _remedy(error.code)
                    ) from error
            except OSError as error:
                if attempt == _ATTEMPTS - 1:
                    raise StartError(f"{self.base} cannot be reached: {error}", "check the network") from error
            time.sleep(0.25 * 2**attempt)
        raise AssertionError


def _remedy(status: int) -> str:
    if status in (401, 403):
        return "grant roles/storage.objectViewer on the bucket to the account the container runs as"
    return "check the bucket and the artifact URI"


def _token(environ: Mapping[str, str]) -> str:
    """An access token: from a key file through google-auth, else from the platform's metadata server."""
    if environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return _token_of_key_file()
    host = environ.get("GCE_METADATA_HOST", "metadata.google.internal")
    url = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token"
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310
            return cast("str", json.load(response)["access_token"])
    except OSError as error:
        raise StartError(
            f"no credentials for Google Cloud Storage: the metadata server {host} does not answer ({error})",
            "pass a key file (credential_path=), or use a local folder as the artifact",
        ) from error


def _token_of_key_file() -> str:
    try:
        import google.auth
        import google.auth.transport.requests
    except ImportError as error:
        raise MissingExtra("google-auth", "gcs") from error
    credentials, _ = google.auth.default(scopes=[_SCOPE])
    credentials.refresh(google.auth.transport.requests.Request())  # type: ignore[no-untyped-call]
    return cast("str", credentials.token)
