"""Preconditions: a call is done only if the object is still the one that its caller knows.

Source: "Request preconditions" of the Cloud Storage documentation: 412 where one fails, 304 where a read's
"not match" does. Generation 0 stands for "there is none".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cpr_kit.emulator.storage import errors
from cpr_kit.emulator.storage.records import Bucket, Object


@dataclass(frozen=True, kw_only=True)
class Conditions:
    generation: int | None = None
    generation_not: int | None = None
    metageneration: int | None = None
    metageneration_not: int | None = None
    etag: str | None = None
    etag_not: str | None = None

    @classmethod
    def of(
        cls, query: Mapping[str, str], headers: Mapping[str, str] | None = None, *, prefix: str = "if"
    ) -> Conditions:
        """From a call's parameters, its If-Match and its If-None-Match. `prefix` is ifSource for a copy's source."""
        headers = headers or {}
        return cls(
            generation=number(query, f"{prefix}GenerationMatch"),
            generation_not=number(query, f"{prefix}GenerationNotMatch"),
            metageneration=number(query, f"{prefix}MetagenerationMatch"),
            metageneration_not=number(query, f"{prefix}MetagenerationNotMatch"),
            etag=headers.get("if-match"),
            etag_not=headers.get("if-none-match"),
        )

    def check(self, found: Bucket | Object | None, *, reading: bool = False) -> None:
        """Raise unless all hold. `found` is what is there now, None when nothing is."""
        generation, metageneration, etag = (found.generation, found.metageneration, found.etag) if found else (0, 0, "")
        if (
            self.generation not in (None, generation)
            or self.metageneration not in (None, metageneration)
            or not (self.etag is None or _names(self.etag, etag))
        ):
            raise errors.condition_not_met()
        if (
            self.generation_not == generation
            or self.metageneration_not == metageneration
            or (self.etag_not is not None and _names(self.etag_not, etag))
        ):
            raise errors.NotModified() if reading else errors.condition_not_met()


NONE = Conditions()


def number(query: Mapping[str, str], name: str) -> int | None:
    """A parameter that is a whole number (int64 in the API); None when it is not given."""
    text = query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()) or int(text) >= 1 << 63:
        raise errors.invalid(f"Invalid value for {name}: {text!r} is no whole number")
    return int(text)


def _names(header: str, etag: str) -> bool:
    """Whether a list of entity tags, quoted or as the resource has them, names this one."""
    tags = {tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")}
    return bool(etag) and (etag in tags or "*" in tags)
