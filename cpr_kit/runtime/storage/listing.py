"""The objects that an artifact URI names, and where each goes."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpr_kit.errors import StartError

if TYPE_CHECKING:
    from cpr_kit.runtime.storage.client import Client

_OBJECT = "name,size,generation,crc32c,md5Hash,contentEncoding"
_NOT_FOUND = 404


@dataclass(frozen=True, kw_only=True)
class Blob:
    """One object: its name, where it goes below the folder, and what must arrive. Checksums are in base64."""

    bucket: str
    name: str
    relative: str
    size: int
    generation: str = ""
    crc32c: str = ""
    md5: str = ""
    gzipped: bool = False

    @property
    def uri(self) -> str:
        return f"gs://{self.bucket}/{self.name}"

    @classmethod
    def from_metadata(cls, item: dict[str, Any], bucket: str, relative: str) -> Blob:
        return cls(
            bucket=bucket,
            name=item["name"],
            relative=relative,
            size=int(item["size"]),
            generation=str(item.get("generation") or ""),
            crc32c=item.get("crc32c") or "",
            md5=item.get("md5Hash") or "",
            gzipped=item.get("contentEncoding") == "gzip",
        )


def find(client: Client, path: str) -> list[Blob]:
    """Everything below the folder `path`, or the one object of that name. `model` never matches `model2/`.

    Raises StartError when there is nothing.
    """
    prefix = f"{path.rstrip('/')}/" if path.strip("/") else ""
    blobs = list(_below(client, prefix))
    if not blobs and prefix and not path.endswith("/"):
        blobs = _exactly(client, path)
    if not blobs:
        raise StartError(
            f"gs://{client.bucket}/{path} holds no file",
            "check the artifact URI: it names the folder of the model's files, or one file",
        )
    return sorted(blobs, key=lambda blob: blob.name)


def _below(client: Client, prefix: str) -> Iterator[Blob]:
    query = {"prefix": prefix, "fields": f"items({_OBJECT}),nextPageToken"}
    while True:
        page = json.loads(client.read(f"{_objects(client.bucket)}?{urllib.parse.urlencode(query)}"))
        for item in page.get("items", []):
            relative = item["name"].removeprefix(prefix)
            if relative and not relative.endswith("/"):
                yield Blob.from_metadata(item, client.bucket, relative)
        if not page.get("nextPageToken"):
            return
        query["pageToken"] = page["nextPageToken"]


def _exactly(client: Client, name: str) -> list[Blob]:
    from cpr_kit.runtime.storage.client import Refused

    path = f"{_objects(client.bucket)}/{urllib.parse.quote(name, safe='')}?fields={_OBJECT}"
    try:
        item = json.loads(client.read(path))
    except Refused as error:
        if error.status == _NOT_FOUND:
            return []
        raise
    return [Blob.from_metadata(item, client.bucket, name.rpartition("/")[2])]


def _objects(bucket: str) -> str:
    return f"/storage/v1/b/{urllib.parse.quote(bucket, safe='')}/o"


def targets(blobs: Sequence[Blob], folder: Path) -> list[Path]:
    """Where each object goes. Raises StartError for a name that leaves the folder, and for two of one place."""
    paths = [inside(folder, blob.relative) for blob in blobs]
    taken = dict(zip(paths, blobs, strict=True))
    parents = {parent for path in paths for parent in path.relative_to(folder).parents}
    for path, blob in zip(paths, blobs, strict=True):
        if taken[path] is not blob or path.relative_to(folder) in parents:
            raise StartError(f"{blob.uri} and another object cannot both be files of one folder", "rename one of them")
    return paths


def inside(folder: Path, relative: str) -> Path:
    """An object's name is any text, so `../` and the like must not leave the folder. Raises StartError."""
    target = folder / relative
    if (
        "\\" in relative
        or "\0" in relative
        or ".." in relative.split("/")
        or not _encodable(relative)
        or not target.resolve().is_relative_to(folder.resolve())
    ):
        raise StartError(f"an object is named {relative!r}, which leads out of the folder", "rename or remove it")
    return target


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
