"""Where a Python file makes its server listen: `uvicorn.run(...)` and the like, read and never run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from cpr_kit.build.lint.servers import SERVERS

UNKNOWN = object()
"""An argument that only running it would tell, as a rule the port of an environment variable."""


@dataclass(frozen=True)
class Call:
    """A call that serves; None for a host or port that its arguments, or the file, leave open."""

    name: str
    line: int
    host: str | None
    port: int | None


def read(tree: ast.Module) -> Iterator[Call]:
    flasks = set(_made_by(tree, "Flask"))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr != "run":
            continue
        owner = ast.unparse(node.func.value)
        if owner == "uvicorn" or owner in flasks:
            yield _call(node, "uvicorn" if owner == "uvicorn" else "flask")


def _made_by(tree: ast.Module, constructor: str) -> Iterator[str]:
    """The names that are assigned `Flask(...)` or `flask.Flask(...)`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        if ast.unparse(node.value.func).rpartition(".")[2] == constructor:
            yield from (ast.unparse(target) for target in node.targets)


def _call(node: ast.Call, name: str) -> Call:
    server = SERVERS[name]
    given: dict[str, object] = {"host": server.host, "port": server.port}
    if any(keyword.arg is None for keyword in node.keywords) or any(
        isinstance(each, ast.Starred) for each in node.args
    ):
        return Call(name, node.lineno, None, None)
    positional = node.args if name == "flask" else node.args[1:]  # uvicorn.run(app), and options by name alone
    given |= {which: _constant(each) for which, each in zip(("host", "port"), positional, strict=False)}
    given |= {keyword.arg: _constant(keyword.value) for keyword in node.keywords if keyword.arg in ("host", "port")}
    given |= (
        {"host": UNKNOWN, "port": UNKNOWN} if any(keyword.arg in ("uds", "fd") for keyword in node.keywords) else {}
    )
    host, port = given["host"], given["port"]
    return Call(name, node.lineno, host if isinstance(host, str) else None, port if type(port) is int else None)


def _constant(node: ast.expr) -> object:
    return node.value if isinstance(node, ast.Constant) else UNKNOWN
