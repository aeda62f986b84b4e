"""A bucket and an object as they are kept, and the resources that the JSON API shows of them.

Source: "Buckets" and "Objects" of the Cloud Storage JSON API reference.
"""

from __future__ import annotations

import base64
import datetime as dt
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cpr_kit.emulator.storage import errors

# What a caller may set of an object; the rest of what he sends is for the service to say, and is dropped.
_TEXTS = (
    "cacheControl", "contentDisposition", "contentEncoding", "contentLanguage", "contentType", "customTime",
    "storageClass",
)  # fmt: skip
_FLAGS = ("eventBasedHold", "temporaryHold")
_OTHERS: dict[str, type] = {"acl": list, "contexts": dict, "metadata": dict, "retention": dict}
POLICY = "iamPolicy"  # kept among a bucket's fields, and shown by getIamPolicy alone
PROJECT = "project"  # that a bucket was made in; kept there too, and shown as its number
BUCKET_KEEPS = ("location", POLICY, PROJECT)  # whatever an update sends
# What a caller may not set of a bucket.
_OF_SERVICE = frozenset((
    POLICY, PROJECT, "etag", "generation", "id", "kind", "locationType", "metageneration", "name", "projectNumber",
    "selfLink", "timeCreated", "updated",
))  # fmt: skip
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MULTI_REGIONS = ("US", "EU", "ASIA")
DEFAULT_TYPE = "application/octet-stream"


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """Times are in microseconds; `generation` is when it was made."""

    name: str
    generation: int
    metageneration: int
    updated: int
    fields: Mapping[str, Any]

    @property
    def etag(self) -> str:
        return _etag(self.generation, self.metageneration)

    def resource(self, base: str, project_number: str) -> dict[str, Any]:
        location = str(self.fields.get("location") or "US").upper()
        uniform = {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "inherited"}
        return {
            "kind": "storage#bucket",
            "id": self.name,
            "selfLink": f"{base}/storage/v1/b/{self.name}",
            "projectNumber": project_number,
            "name": self.name,
            "storageClass": "STANDARD",
            "iamConfiguration": uniform,
            **self.fields,
            "location": location,
            "locationType": "multi-region" if location in _MULTI_REGIONS else "region",
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "etag": self.etag,
            "timeCreated": _time(self.generation),
            "updated": _time(self.updated),
        }


@dataclass(frozen=True, kw_only=True)
class Object:
    """`content` names the file; checksums are in base64; a composite object has `components` and no MD5."""

    bucket: str
    name: str
    generation: int
    metageneration: int
    created: int
    updated: int
    content: str
    size: int
    crc32c: str
    md5: str | None
    components: int | None
    fields: Mapping[str, Any]

    @property
    def etag(self) -> str:
        return _etag(self.generation, self.metageneration)

    @property
    def content_type(self) -> str:
        return str(self.fields.get("contentType") or DEFAULT_TYPE)

    def resource(self, base: str) -> dict[str, Any]:
        path = f"/storage/v1/b/{self.bucket}/o/{urllib.parse.quote(self.name, safe='')}"
        shown: dict[str, Any] = {
            "kind": "storage#object",
            "id": f"{self.bucket}/{self.name}/{self.generation}",
            "selfLink": f"{base}{path}",
            "mediaLink": f"{base}/download{path}?generation={self.generation}&alt=media",
            "name": self.name,
            "bucket": self.bucket,
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "contentType": self.content_type,
            "storageClass": "STANDARD",
            "size": str(self.size),
            "crc32c": self.crc32c,
            "etag": self.etag,
            "timeCreated": _time(self.created),
            "updated": _time(self.updated),
            "timeStorageClassUpdated": _time(self.created),
            "timeFinalized": _time(self.created),
        }
        if self.md5 is not None:
            shown["md5Hash"] = self.md5
        if self.components is not None:
            shown["componentCount"] = self.components
        return {**shown, **self.fields}


def object_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """What of a caller's object resource counts, with nulls (which remove, in a patch). 400 for a wrong type."""
    fields: dict[str, Any] = {}
    for name, value in body.items():
        wanted = str if name in _TEXTS else bool if name in _FLAGS else _OTHERS.get(name)
        if wanted is None:
            continue
        if value is not None and not isinstance(value, wanted):
            raise errors.invalid(f"Invalid value for {name}: {value!r} is no {wanted.__name__}")
        # They are sent as headers.
        if isinstance(value, str) and _CONTROL.search(value):
            raise errors.invalid(f"Invalid value for {name}: {value!r} has a control character")
        fields[name] = value
    for key, value in (fields.get("metadata") or {}).items():
        if value is not None and not isinstance(value, str):
            raise errors.invalid(f"Invalid value for metadata.{key}: {value!r} is no str")
    return fields


def bucket_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """What of a caller's bucket resource counts."""
    for name, wanted in (("location", str), ("labels", dict), ("storageClass", str)):
        value = body.get(name)
        if value is not None and not isinstance(value, wanted):
            raise errors.invalid(f"Invalid value for {name}: {value!r} is no {wanted.__name__}")
    return {name: value for name, value in body.items() if name not in _OF_SERVICE}


def merged(fields: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A merge patch (RFC 7396), as the API's patch calls are: null removes, maps are merged."""
    result = dict(fields)
    for name, value in changes.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            old = result.get(name)
            result[name] = merged(old if isinstance(old, Mapping) else {}, value)
        else:
            result[name] = value
    return result


def _etag(generation: int, metageneration: int) -> str:
    return base64.b64encode(f"{generation}/{metageneration}".encode()).decode()


def _time(microseconds: int) -> str:
    time = dt.datetime.fromtimestamp(microseconds // 1_000_000, dt.timezone.utc)
    return f"{time:%Y-%m-%dT%H:%M:%S}.{microseconds // 1000 % 1000:03d}Z"
