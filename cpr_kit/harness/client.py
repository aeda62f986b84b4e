"""One HTTP call to a model: a Python object, bytes or a file goes out, a `requests.Response` comes back."""

from __future__ import annotations

import ipaddress
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from cpr_kit.errors import ContainerError, MissingExtra, PredictionError, UsageError
from cpr_kit.harness.reasons import innermost

if TYPE_CHECKING:
    import requests

JSON = "application/json"
CONTENT_TYPES = {
    ".json": JSON,
    ".csv": "text/csv",
    ".jsonl": "application/jsonl",
    ".npy": "application/x-npy",
    ".txt": "text/plain",
}
_GATEWAY_TIMEOUT = 504


def send(url: str, body: Any, headers: Mapping[str, str] | None = None, timeout_s: float = 60.0) -> requests.Response:
    """POST `body`: an object becomes JSON, bytes and str go as they are, a Path is read as bytes.

    Objects, bytes and .json files are labelled application/json, as Vertex AI's :predict does it; other
    files by their suffix. The caller's headers win.
    """
    data, content_type = encode(body)
    return request("POST", url, data=data, headers=_with_content_type(headers, content_type), timeout_s=timeout_s)


def request(
    method: str,
    url: str,
    *,
    data: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> requests.Response:
    """Any call. Raises ContainerError when nobody answers and PredictionError (504) after `timeout_s`."""
    try:
        import requests
    except ImportError as error:
        raise MissingExtra("requests", "local") from error
    where = url.partition("?")[0]  # what follows may be a key
    with requests.Session() as session:
        # A proxy of the environment cannot reach this machine's own 127.0.0.1, so it is not asked.
        session.trust_env = not _is_here(url)
        try:
            return session.request(method, url, data=data, headers=headers, timeout=timeout_s, allow_redirects=False)
        except requests.Timeout as error:
            raise PredictionError(_GATEWAY_TIMEOUT, f"{where} gave no answer within {timeout_s:g} s") from error
        except requests.ConnectionError as error:
            raise ContainerError(
                f"{where} could not be reached, or closed the connection: {innermost(error)}"
            ) from error
        except (requests.RequestException, ValueError) as error:
            raise UsageError(f"{method} {where} cannot be sent: {error}") from error


def encode(body: Any) -> tuple[bytes, str]:
    """The bytes to send and the content type they have unless the caller says otherwise."""
    if isinstance(body, Path):
        return _read(body), content_type_of(body)
    if isinstance(body, str):
        return body.encode(), JSON
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body), JSON
    try:
        return orjson.dumps(body, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY), JSON
    except TypeError as error:
        raise UsageError(f"the request cannot be written as JSON: {error}") from error


def content_type_of(path: Path) -> str:
    """What a file is by its suffix.

    >>> content_type_of(Path("rows.csv")), content_type_of(Path("cat.png"))
    ('text/csv', 'image/png')
    """
    suffix = path.suffix.lower()
    guessed = CONTENT_TYPES.get(suffix) or mimetypes.guess_type(f"file{suffix}")[0]
    return guessed or "application/octet-stream"


def _read(path: Path) -> bytes:
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise UsageError(f"the request file {path} cannot be read: {error.strerror}") from error


def _plain(value: Any) -> Any:
    """Arrays that orjson does not take itself (non-contiguous ones, those of other libraries)."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _with_content_type(headers: Mapping[str, str] | None, content_type: str) -> dict[str, str]:
    chosen = dict(headers or {})
    if not any(name.lower() == "content-type" for name in chosen):
        chosen["Content-Type"] = content_type
    return chosen


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
