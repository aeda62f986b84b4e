"""The variables in a Dockerfile's words."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SEGMENT = r"""(?P<single>'[^']*')|"(?P<double>(?:{e}.|[^"{e}])*)"|{e}(?P<one>.)|(?P<plain>[^'"{e}]+|.)"""
_VARIABLE = re.compile(
    r"\$(?:(?P<plain>\w+)|\{(?P<name>\w+)(?:(?P<operator>:?[-+])(?P<word>[^{}]*))?\}|(?P<other>[{(]))"
)

Values = Mapping[str, "str | None"]
"""What variables hold; None where only the base image or the builder's arguments tell."""


def expanded(text: str, values: Values, escape: str = "\\") -> str | None:
    """A word without its quotes and with its variables; None where one of them is not known.

    >>> expanded('"${A}:x"', {"A": "1"})
    '1:x'
    """
    parts = []
    for segment in re.finditer(_SEGMENT.format(e=re.escape(escape)), text, re.DOTALL):
        kind = segment.lastgroup or "plain"
        content = segment.group(kind)
        if kind == "single":
            parts.append(content[1:-1])
        elif kind == "one":
            parts.append(content)
        else:
            part = _substituted(content, values, escape if kind == "double" else None)
            if part is None:
                return None
            parts.append(part)
    return "".join(parts)


def _substituted(text: str, values: Values, escape: str | None) -> str | None:
    out, end = "", 0
    pattern = _VARIABLE if escape is None else re.compile(rf"{re.escape(escape)}(?P<one>.)|{_VARIABLE.pattern}")
    for match in pattern.finditer(text):
        found = match.groupdict()
        value = found["one"] if found.get("one") else _value(found, values)
        if value is None:
            return None
        out += text[end : match.start()] + value
        end = match.end()
    return out + text[end:]


def _value(found: Mapping[str, str | None], values: Values) -> str | None:
    name = found["plain"] or found["name"]
    if name is None:
        return None
    value, word, operator = values.get(name), found["word"] or "", found["operator"] or ""
    if operator.endswith("-") and (name not in values or (value == "" and operator == ":-")):
        return None if "$" in word else word
    if operator.endswith("+"):
        return word if value else None
    return value
