"""cpr.toml as text, with a reason behind what was found."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping

from cpr_kit.config import CheckSection, Config, ImageSection, ModelSection

_MODEL = ("predictor", "preprocessor", "handler", "artifacts", "requirements", "extra_packages", "trusted")
_IMAGE = ("name", "base", "template", "dockerfile", "platform")


def text(config: Config, reasons: Mapping[str, str]) -> str:
    """`reasons` has a comment for some keys; a key without one is written where it is not the default."""
    sections = [
        ("[model]", _keys(config.model, ModelSection(), _MODEL, reasons)),
        ("[image]", _keys(config.image, ImageSection(), _IMAGE, reasons)),
        *(("[[check]]", _check(check)) for check in config.checks),
    ]
    written = [[head, *lines] for head, keys in sections if (lines := list(_lines(keys, reasons)))]
    return "\n\n".join("\n".join(lines) for lines in written) + "\n"


def _keys(section: object, default: object, names: Iterable[str], reasons: Mapping[str, str]) -> dict[str, object]:
    values = {name: getattr(section, name) for name in names}
    return {
        name: value
        for name, value in values.items()
        if value is not None and (name in reasons or value != getattr(default, name))
    }


def _check(check: CheckSection) -> dict[str, object]:
    keys: dict[str, object] = {"request": check.request}
    if check.expect is not None:
        keys["expect"] = check.expect
    if check.content_type != CheckSection(request="").content_type:
        keys["content_type"] = check.content_type
    return keys


def _lines(keys: Mapping[str, object], reasons: Mapping[str, str]) -> Iterator[str]:
    width = max(map(len, keys), default=0)
    for name, value in keys.items():
        reason = re.sub(r"[\x00-\x1f\x7f\s]+", " ", reasons.get(name, ""))
        yield f"{name:{width}} = {_written(value)}" + (f"  # {reason}" if reason else "")


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    # JSON's escapes are TOML's; only DEL, which JSON leaves as it is, must be escaped in TOML.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
