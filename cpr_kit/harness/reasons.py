"""What a broken connection is about, in the words of the library that met it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_OBJECT = re.compile(r"<[\w.]+ object at 0x[0-9a-f]+>: |[\w.]*Connection(?:Pool)?\([^)]*\): |\[Errno -?\d+\] ")


def reasons(error: BaseException) -> Iterator[BaseException]:
    """From the outermost to the innermost: google-auth wraps requests' errors, which wrap urllib3's and a socket's."""
    inner: Any = error
    while isinstance(inner, BaseException):
        yield inner
        inner = getattr(inner, "reason", None) or next(
            (each for each in reversed(inner.args) if isinstance(each, BaseException)), None
        )


def innermost(error: BaseException) -> str:
    """What a broken connection is about, without the objects that the libraries put before their words."""
    *_, last = reasons(error)
    return bare(str(last)).strip() or "the connection was closed"


def bare(text: str) -> str:
    """Without the objects and numbers that the libraries put before their words."""
    return _OBJECT.sub("", text)
