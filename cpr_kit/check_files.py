"""The files that [[check]] sections of cpr.toml name, looked at before anything is built, started or deployed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from cpr_kit.config import CheckSection
from cpr_kit.errors import ConfigError

_JSON = "application/json"
_BEGINS = (b"{", b"[")


def check(folder: Path, sections: Iterable[CheckSection]) -> None:
    """Raises ConfigError for an expected answer that is meant to be JSON and is none; with its line and column.

    Compared by its value it would never be what a model answers. It is meant to be JSON where its file is called so,
    and where the request is JSON and it begins so: a request in JSON may have an answer in text.
    """
    for section in sections:
        if section.expect is None:
            continue
        path, content = _content(folder, section.expect)
        is_json = section.content_type.partition(";")[0].strip().lower() == _JSON
        if path.suffix.lower() == ".json" or (is_json and content.lstrip().startswith(_BEGINS)):
            _parse(path, content)


def _content(folder: Path, name: str) -> tuple[Path, bytes]:
    path = folder / name
    try:
        return path, path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"[[check]] expects {name}, and {path} cannot be read: {reason}") from error


def _parse(path: Path, content: bytes) -> None:
    try:
        json.loads(content.decode(), parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        where = f"{path}, line {error.lineno}, column {error.colno}"
        raise ConfigError(
            f"{where}: this is no JSON ({error.msg}), and [[check]] expects it as the answer; mend it, or write the "
            "answer that is right with: cpr predict"
        ) from error
    except (UnicodeDecodeError, RecursionError, _NoConstantError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ConfigError(f"{path}: this is no JSON ({reason}), and [[check]] expects it as the answer") from error


class _NoConstantError(ValueError):
    pass


def _no_constant(name: str) -> None:
    raise _NoConstantError(f"it has no {name}; an answer that has no number there is null")
