"""cpr.toml as an image gets it: what makes the image, and nothing of where it is deployed or how it is asked.

So an edit of `[deploy]` or `[[check]]` alone makes the same image again, and no new model version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_SECTIONS_ELSEWHERE = frozenset({"deploy", "check"})
_KEYS_ELSEWHERE: Mapping[str, frozenset[str]] = {
    "model": frozenset({"artifacts"}),
    "image": frozenset({"name", "predict_route", "health_route", "shared_memory_mb"}),
}
"""What an image is called, and what a container of it is told by its specification (cpr_kit.serving_spec)."""
_HEAD = "# Of cpr.toml, what this image was made by. [deploy] and [[check]] are the project's, and not the image's.\n"


def text(table: Mapping[str, Any]) -> str:
    """The same for two tables that say the same of the image in the same keys; "" where they say nothing of it."""
    blocks = []
    for name in sorted(table.keys() - _SECTIONS_ELSEWHERE):
        section = table[name]
        kept = sorted(section.keys() - _KEYS_ELSEWHERE.get(name, frozenset()))
        if kept:
            blocks.append("\n".join([f"[{name}]", *(f"{key} = {written(section[key])}" for key in kept), ""]))
    return "\n".join([_HEAD, *blocks]) if blocks else ""


def written(value: Any) -> str:
    r"""A value as TOML writes it: its strings are JSON's, DEL apart.

    >>> print(written({"a": ["b\n", 1]}))
    { "a" = ["b\n", 1] }
    """
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{written(key)} = {written(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
