"""An image file as a request's instance, for clients."""

from __future__ import annotations

import base64
import os
import warnings
from pathlib import Path

from cpr_kit.contract import MAX_BODY
from cpr_kit.errors import UsageError

# "shared" is what the platform's users call its public endpoint (contract.MAX_BODY).
_LIMITS: dict[str, int] = {"shared": MAX_BODY["public"], **{str(kind): size for kind, size in MAX_BODY.items()}}
_AROUND = len('{"instances":[{"bytes_inputs":{"b64":""}}]}')
_QUALITY = "re-encode the photograph at the size that the model takes, where JPEG has tens of kilobytes"


class TooLarge(UserWarning):
    """A request with this image is larger than its endpoint lets through."""


def b64_image(image: str | os.PathLike[str] | bytes, limit: str | int = "shared") -> dict[str, str]:
    """{"b64": "..."} of a path or of a file's bytes, to stand in `instances` by itself or under the input's name.

    Warns with TooLarge when a request that holds nothing else would be above `limit`: bytes, or a kind of endpoint:
    "shared" (1.5 MB), "dedicated", "psc" or "psa" (10 MB each). Raises UsageError for a file that cannot be read.
    """
    most = _most(limit)
    data = image if isinstance(image, bytes) else _read(image)
    if not data:
        raise UsageError("the image is empty" if isinstance(image, bytes) else f"{os.fspath(image)} is empty")
    text = base64.b64encode(data).decode()
    if len(text) + _AROUND > most:
        what = "the image" if isinstance(image, bytes) else Path(image).name
        kind = f"{limit} endpoint" if isinstance(limit, str) else "endpoint"
        larger = "" if most >= MAX_BODY["dedicated"] else f"a dedicated one takes {_shown(MAX_BODY['dedicated'])}; "
        warnings.warn(
            f"{what} has {_shown(len(data))}, {_shown(len(text))} in base64, which adds a third; this {kind} takes "
            f"requests of {_shown(most)}, so files of {_shown(max(most - _AROUND, 0) * 3 // 4)}: {larger}{_QUALITY}",
            TooLarge,
            stacklevel=2,
        )
    return {"b64": text}


def _most(limit: str | int) -> int:
    if isinstance(limit, str):
        if limit not in _LIMITS:
            raise UsageError(f'limit is "{limit}"; give bytes, or a kind of endpoint: {", ".join(sorted(_LIMITS))}')
        return _LIMITS[limit]
    if limit <= 0:
        raise UsageError(f"limit is {limit}; give the bytes that a request may have")
    return limit


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{os.fspath(path)} cannot be read: {error.strerror}") from error


def _shown(size: int) -> str:
    return f"{size / 1_000_000:.2f} MB"
