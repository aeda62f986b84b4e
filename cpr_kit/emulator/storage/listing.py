"""One page of a list of objects: prefix, delimiter, offsets and glob, as "Objects: list" of the JSON API has them."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cpr_kit.emulator.storage import errors
from cpr_kit.emulator.storage.conditions import number
from cpr_kit.emulator.storage.records import Object

PAGE = 1000
_BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class Query:
    """`token` is the name that the page starts from, in bytes as all here: the order is that of UTF-8."""

    prefix: bytes = b""
    delimiter: str = ""
    start: bytes = b""
    end: bytes = b""
    token: bytes = b""
    glob: re.Pattern[str] | None = None
    trailing: bool = False
    limit: int = PAGE

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Query:
        delimiter, glob = parameters.get("delimiter", ""), parameters.get("matchGlob")
        if glob and delimiter not in ("", "/"):
            raise errors.invalid('Invalid value for delimiter: with matchGlob it can only be "/"')
        return cls(
            prefix=_bytes(parameters.get("prefix", "")),
            delimiter=delimiter,
            start=_bytes(parameters.get("startOffset", "")),
            end=_bytes(parameters.get("endOffset", "")),
            token=read_token(parameters.get("pageToken", "")),
            glob=re.compile(_pattern(glob), re.DOTALL) if glob else None,
            trailing=parameters.get("includeTrailingDelimiter", "").lower() == "true",
            limit=limit(parameters),
        )

    @property
    def first(self) -> bytes:
        return max(self.prefix, self.start, self.token)

    def ends(self, key: bytes) -> bool:
        """Whether nothing from here on belongs to the list."""
        return not key.startswith(self.prefix) or bool(self.end and key >= self.end)

    def folder(self, name: str) -> str:
        """What the object is listed under instead of its own name; "" for itself."""
        if not self.delimiter:
            return ""
        start = len(self.prefix.decode())
        at = name.find(self.delimiter, start)
        return "" if at < 0 else name[: at + len(self.delimiter)]


@dataclass
class Page:
    items: list[Object] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    token: bytes | None = None

    def __len__(self) -> int:
        return len(self.items) + len(self.prefixes)


def page(query: Query, fetch: Callable[[bytes, int], list[Object]]) -> Page:
    """`fetch` gives the objects from a name on, in order, no more than so many."""
    result, at = Page(), query.first
    size = _BATCH if query.delimiter or query.glob else min(_BATCH, query.limit + 1)
    while batch := fetch(at, size):
        for found in batch:
            key = found.name.encode()
            if key < at:  # below a folder that is listed already
                continue
            if query.ends(key):
                return result
            if query.glob is not None and not query.glob.fullmatch(found.name):
                at = key + b"\0"
                continue
            if len(result) >= query.limit:
                result.token = at
                return result
            at = _add(result, found, query)
    return result


def _add(result: Page, found: Object, query: Query) -> bytes:
    """The object, or the folder that it is below; where to go on."""
    folder = query.folder(found.name)
    if not folder or (query.trailing and folder == found.name):
        result.items.append(found)
    if not folder:
        return found.name.encode() + b"\0"
    result.prefixes.append(folder)
    return after(folder.encode())


def after(prefix: bytes) -> bytes:
    """The first of all strings that come after those with the prefix; UTF-8 has no byte 255."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


def limit(parameters: Mapping[str, str]) -> int:
    return min(number(parameters, "maxResults") or PAGE, PAGE)


def token(at: bytes) -> str:
    return base64.urlsafe_b64encode(at).decode()


def read_token(text: str) -> bytes:
    try:
        return base64.b64decode(text, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise errors.invalid("Invalid page token.") from None


def _bytes(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise errors.invalid("The prefix or offset is not UTF-8.") from None


def _pattern(glob: str) -> str:
    """As a regular expression: `*` and `?` stop at "/", `**` does not; "List objects using glob"."""
    pieces, at, depth = [], 0, 0
    while at < len(glob):
        char = glob[at]
        if glob.startswith("**", at):
            # Between slashes it matches nothing too: `a/**/b` has a/b.
            folders = glob.startswith("**/", at) and glob[at - 1 : at] in ("", "/")
            pieces.append("(?:.*/)?" if folders else ".*")
            at += 3 if folders else 2
            continue
        if char == "[" and (match := re.compile(r"\[([!^]?)([^\]]+)\]").match(glob, at)):
            pieces.append(f"[{'^' if match[1] else ''}{_class(match[2])}]")
            at = match.end()
            continue
        if char == "\\" and at + 1 < len(glob):
            at += 1
            char = "\\" + glob[at]
        depth += {"{": 1, "}": -1}.get(char, 0)
        pieces.append(_one(char, inside=depth > 0))
        at += 1
        if depth < 0:
            break
    if depth:
        raise errors.invalid(f"Invalid value for matchGlob: {glob!r} has an unpaired brace")
    return "".join(pieces)


def _one(char: str, *, inside: bool) -> str:
    signs = {"*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")"}
    if char == "," and inside:
        return "|"
    return signs.get(char) or re.escape(char[-1])


def _class(text: str) -> str:
    escaped = re.sub(r"([\\\[\]&~|^])", r"\\\1", text)
    try:
        re.compile(f"[{escaped}]")
    except re.error as error:
        raise errors.invalid(f"Invalid value for matchGlob: [{text}]: {error}") from None
    return escaped
