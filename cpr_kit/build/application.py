"""The user's own ASGI application, found by parsing: that it is there. What it is, only the server can see."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from pathlib import Path

from cpr_kit.build.classes import Folder, statements
from cpr_kit.contract import Reference
from cpr_kit.errors import SourceError

_MOST_TOLD = 12


def find(folder: Folder, reference: Reference) -> Path:
    """The file of its module. Raises SourceError naming what that module binds instead."""
    path = folder.module(reference.module)
    if path is None:
        there = folder.modules()
        listed = f"the modules there are {', '.join(there)}" if there else "there is no Python file"
        raise SourceError(folder.root, f'there is no module "{reference.module}"; {listed}')
    bound = dict(_bound(folder.tree(path)))
    if reference.name in bound or "*" in bound:
        return path
    told = [f"{name} (line {line})" for name, line in bound.items() if not name.startswith("_")]
    listed = f"it has {', '.join(told[-_MOST_TOLD:])}" if told else "it has no name at all"
    close = difflib.get_close_matches(reference.name, bound, 1)
    hint = f'; did you mean "{close[0]}"?' if close else ""
    where = f"{path}:{bound[close[0]]}" if close else path
    raise SourceError(where, f'there is no "{reference.name}" at the top level; {listed}{hint}')


def _bound(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """The names that running the module binds, with their lines; `*` where it imports whatever another has."""
    for node in statements(tree.body):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.stmt):
            yield from ((each.id, each.lineno) for each in _expressions(node) if isinstance(each.ctx, ast.Store))


def _expressions(node: ast.stmt) -> Iterator[ast.Name]:
    """The names in a statement, without those in the statements inside it."""
    pending = [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.stmt)]
    while pending:
        child = pending.pop()
        if isinstance(child, ast.Name):
            yield child
        if not isinstance(child, ast.Lambda):
            pending += [each for each in ast.iter_child_nodes(child) if not isinstance(each, ast.stmt)]
