"""Stands for google.cloud.aiplatform.prediction.handler_utils: the headers that a handler of one's own reads."""

from __future__ import annotations

from collections.abc import Mapping

from cpr_kit.runtime.codecs import media
from cpr_kit.runtime.serializer import JSON

__all__ = ["get_accept_from_headers", "get_content_type_from_headers", "parse_accept_header"]


def get_content_type_from_headers(headers: Mapping[str, str] | None) -> str | None:
    """The Content-Type without its parameters; None where there is none."""
    value = _header(headers, ("content-type", "contenttype"))
    return None if value is None else value.partition(";")[0].strip()


def get_accept_from_headers(headers: Mapping[str, str] | None) -> str:
    """The Accept header as it came; JSON where there is none."""
    return _header(headers, ("accept",)) or JSON


def parse_accept_header(accept_header: str | None) -> dict[str, float]:
    """`text/csv;q=0.5, */*` -> {"text/csv": 0.5, "*/*": 1.0}. Parameters other than q are passed over."""
    return media.qualities(accept_header) if accept_header else {}


def _header(headers: Mapping[str, str] | None, names: tuple[str, ...]) -> str | None:
    return next((value for name, value in (headers or {}).items() if name.lower() in names), None)
