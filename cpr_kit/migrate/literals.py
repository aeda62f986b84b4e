"""What an expression is worth, as far as that stands in the file: constants, and what is put together from them."""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass

_PATHS = ("Path", "pathlib.Path", "PurePosixPath", "str", "os.fspath")
_JOINS = ("os.path.join", "path.join", "posixpath.join")


@dataclass(frozen=True)
class Unknown:
    """An expression that only running the file could tell; `text` is its source."""

    text: str


Value = str | bool | int | float | None | tuple["Value", ...] | Unknown
"""A path is its text, a list or tuple is a tuple."""


def value(node: ast.expr, names: Mapping[str, Value]) -> Value:
    """`names` holds what was assigned before."""
    found: Value = Unknown(ast.unparse(node))
    match node:
        case ast.Constant(value=str() | bool() | int() | float() | None as constant):
            found = constant
        case ast.Name(id=name):
            found = names.get(name, found)
        case ast.JoinedStr(values=parts):
            inner = [part.value if isinstance(part, ast.FormattedValue) else part for part in parts]
            found = _together([value(part, names) for part in inner], "", found)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            found = _together([value(left, names), value(right, names)], "", found)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            found = _together([value(left, names), value(right, names)], "/", found)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            found = tuple(value(item, names) for item in items)
        case ast.Call(func=function, args=arguments, keywords=[]):
            found = _called(ast.unparse(function), [value(argument, names) for argument in arguments], found)
    return found


def _called(function: str, arguments: list[Value], otherwise: Value) -> Value:
    if function in _JOINS or (function in _PATHS and arguments):
        return _together(arguments, "/", otherwise)
    return otherwise


def _together(parts: list[Value], by: str, otherwise: Value) -> Value:
    texts = [str(part) for part in parts if not isinstance(part, Unknown | tuple) and part is not None]
    if len(texts) != len(parts):
        return otherwise
    return posixpath.join(*texts) if by else "".join(texts)
