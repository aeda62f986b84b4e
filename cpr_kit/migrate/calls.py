"""The calls of the SDK in scripts and notebooks that say how an image is made and tried. Nothing is run."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cpr_kit.migrate import literals
from cpr_kit.migrate.literals import Value

BUILDS = ("build_cpr_model", "create_cpr_model")
_BUILD = ("src_dir", "output_image_uri", "predictor", "handler", "base_image", "requirements_path", "extra_packages")
_POSITIONS: Mapping[str, tuple[str, ...]] = {
    "build_cpr_model": (*_BUILD, "no_cache", "platform"),
    "create_cpr_model": (*_BUILD, "no_cache"),
    "deploy_to_local_endpoint": ("artifact_uri",),
    "predict": ("request", "request_file", "headers"),
    "upload": (),
}
"""The functions looked at, with the names of what may be given by position."""

_MARKS = (b"cpr_model", b"deploy_to_local_endpoint")
_MAX_BYTES = 5_000_000
_MAGIC = re.compile(r"(\s*)(?:[%!?]|[^#'\"=]*=\s*[!%])")
_CELLS_OF_CODE = ("%%time", "%%timeit", "%%capture", "%%prun")


@dataclass(frozen=True)
class Named:
    """A class that was given: its name, and the module it was imported from where that stands in the file."""

    name: str
    module: str = ""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call. `where` names file and line, for a notebook the cell too; its paths start at `folder`."""

    function: str
    where: str
    folder: Path
    arguments: Mapping[str, Value] = field(default_factory=dict)
    classes: Mapping[str, Named] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        """An argument that is known to be text."""
        found = self.arguments.get(name)
        return found if isinstance(found, str) and found else None


def read(path: Path) -> list[Call]:
    """The calls of one .py or .ipynb file, in their order; none for a file that is no such thing."""
    try:
        content = path.read_bytes() if path.stat().st_size <= _MAX_BYTES else b""
    except OSError:
        return []
    if not any(mark in content for mark in _MARKS):
        return []
    reader = _Reader(path)
    for where, text in _cells(path, content):
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            continue
        reader.where = where
        reader.visit(tree)
    return reader.calls


class _Reader(ast.NodeVisitor):
    """Goes through a file from top to bottom and remembers what names stand for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = path.name
        self._line = ", line " if path.suffix == ".ipynb" else ":"
        self.calls: list[Call] = []
        self._names: dict[str, Value] = {}
        self._imports: dict[str, Named] = {}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            self._imports[alias.asname or alias.name] = Named(alias.name, node.module or "")

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for target in node.targets:
            self._bind(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.generic_visit(node)
        if node.value is not None:
            self._bind(node.target, node.value)

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        function = ast.unparse(node.func).rpartition(".")[2]
        if function not in _POSITIONS:
            return
        positions = _POSITIONS[function]
        given = dict(zip(positions, node.args, strict=False))
        given |= {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
        kinds = ("predictor", "handler") if function in BUILDS else ()
        classes = {kind: self._class(given.pop(kind)) for kind in kinds if kind in given}
        self.calls.append(
            Call(
                function=function,
                where=f"{self.where}{self._line}{node.lineno}",
                folder=self.path.parent,
                arguments={name: literals.value(each, self._names) for name, each in given.items()},
                classes={kind: named for kind, named in classes.items() if named},
            )
        )

    def _bind(self, target: ast.expr, given: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self._names[target.id] = literals.value(given, self._names)
        elif isinstance(target, ast.Tuple) and isinstance(given, ast.Tuple):
            for each, part in zip(target.elts, given.elts, strict=False):
                self._bind(each, part)

    def _class(self, node: ast.expr) -> Named | None:
        """`CprPredictor`, `predictor.CprPredictor`; None for None."""
        if isinstance(node, ast.Constant):
            return None
        module, _, name = ast.unparse(node).rpartition(".")
        return self._imports.get(name, Named(name)) if not module else Named(name, module)


def _cells(path: Path, content: bytes) -> Iterator[tuple[str, str]]:
    """Pieces of Python with the place of each: a script is one piece, a notebook one for each cell of code."""
    text = content.decode("utf-8", "replace")
    if path.suffix != ".ipynb":
        yield path.name, text.removeprefix("\ufeff")
        return
    try:
        cells = json.loads(text)["cells"]
    except (ValueError, KeyError, TypeError):
        return
    for number, cell in enumerate(cells if isinstance(cells, list) else [], 1):
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            yield f"{path.name}, cell {number}", _plain("".join(cell.get("source") or ()))


def _plain(source: str) -> str:
    """A cell without the notebook's own commands. A cell that is a file, or another language, is none of ours."""
    lines = source.splitlines()
    if lines and lines[0].startswith("%%"):
        if not lines[0].startswith(_CELLS_OF_CODE):
            return ""
        lines[0] = ""
    kept, continued = [], False
    for line in lines:
        magic = _MAGIC.match(line)
        # `pass`, since the line may be all that an `if` has.
        kept.append("" if continued else f"{magic[1]}pass" if magic else line)
        continued = (continued or bool(magic)) and line.endswith("\\")
    return "\n".join(kept)
