"""Names of images, by the grammar that engines and registries share."""

from __future__ import annotations

import re
from pathlib import Path

from cpr_kit.errors import ConfigError

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*(?::[0-9]+)?)"
_WORD = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"(?:{_HOST}/)?{_WORD}(?:/{_WORD})*\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_MAX_LENGTH = 255


def checked(reference: str) -> str:
    """The reference, with `:latest` where it has no tag. Raises ConfigError with the reason."""
    path, tag = _split(reference)
    reason = _fault(reference, path, tag)
    if reason:
        raise ConfigError(f'"{reference}" is no name for an image: {reason}')
    return f"{path}:{tag}"


def default(folder: Path) -> str:
    """A reference made from a folder's name."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")
    return f"{name or 'model'}:latest"


def _split(reference: str) -> tuple[str, str]:
    head, slash, last = reference.rpartition("/")
    name, colon, tag = last.partition(":")
    return head + slash + name, tag if colon else "latest"


def _fault(reference: str, path: str, tag: str) -> str | None:  # noqa: PLR0911 - one a reason
    if not reference:
        return "it is empty"
    if "@" in reference:
        return "a digest is what a build yields; give a tag instead"
    if "://" in reference:
        return "it is a URL; leave the scheme away"
    if not _TAG.match(tag):
        return f'the tag "{tag}" is not made of at most 128 letters, digits, "_", "." and "-"'
    if len(path) > _MAX_LENGTH:
        return f"it is longer than {_MAX_LENGTH} characters"
    if _PATH.match(path):
        return None
    if _PATH.match(path.lower()):
        return f'capital letters are not allowed; write "{path.lower()}"'
    return 'its parts are made of a-z and 0-9, joined by ".", "_" or "-" within, and by "/" between'
