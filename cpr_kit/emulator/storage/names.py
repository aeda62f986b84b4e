"""What buckets and objects may be called: "About Cloud Storage buckets" and "Objects" of its documentation."""

from __future__ import annotations

import re

from cpr_kit.emulator.storage import errors

SCHEME = "gs://"
_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_RESERVED = re.compile(r"^goog|g[o0]{2}g[l1]e")
_SHORTEST, _COMPONENT, _LONGEST = 3, 63, 222
_OBJECT_BYTES = 1024
_CHALLENGE = ".well-known/acme-challenge/"


def check_bucket(name: object) -> str:
    """The name, which a bucket can have; whether it exists is another question."""
    if (
        not isinstance(name, str)
        or not _BUCKET.fullmatch(name)
        or not _SHORTEST <= len(name) <= _LONGEST
        or any(not 0 < len(part) <= _COMPONENT for part in name.split("."))
        or _ADDRESS.fullmatch(name)
    ):
        raise errors.invalid(f"Invalid bucket name: {_shown(name)}")
    return name


def check_new_bucket(name: object) -> str:
    """As check_bucket; what Google keeps for itself can be read but not made."""
    checked = check_bucket(name)
    if _RESERVED.search(checked):
        raise errors.invalid(f"Invalid bucket name: {_shown(name)}")
    return checked


def check_object(name: object) -> str:
    """The name, if an object can have it: 1 to 1024 bytes of UTF-8."""
    if not isinstance(name, str) or not name:
        raise errors.required("name")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise errors.invalid("The object's name is not UTF-8.") from None
    if size > _OBJECT_BYTES:
        raise errors.invalid(f"The maximum object length is {_OBJECT_BYTES} characters, but got a name with {size}.")
    if "\r" in name or "\n" in name or name in (".", "..") or name.startswith(_CHALLENGE):
        raise errors.invalid(f"Disallowed object name: {_shown(name)}")
    return name


def split(uri: str) -> tuple[str, str]:
    """Bucket and object (or prefix, or "") of a gs:// URI."""
    bucket, _, name = uri.removeprefix(SCHEME).partition("/")
    if not uri.startswith(SCHEME) or not bucket:
        raise errors.invalid(f'"{uri}" is no Cloud Storage URI: write gs://BUCKET/OBJECT')
    return check_bucket(bucket), name


def folder(name: str) -> str:
    """The prefix of what is below a folder; `model` never means `model2/`."""
    return f"{name.rstrip('/')}/" if name.strip("/") else ""


def _shown(name: object) -> str:
    return repr(name if len(str(name)) <= _COMPONENT else f"{str(name)[:_COMPONENT]}...")
