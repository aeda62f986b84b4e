"""What a folder's served code takes from google.cloud.aiplatform: names by line, found by parsing."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cpr_kit.build.classes import Folder
from cpr_kit.build.imports import is_for_type_checkers

SDK = "google.cloud.aiplatform"

_TREE = Path(__file__).parents[1] / "sdk" / "aiplatform"
_ONLY_IN_SDK = ("google.cloud.aiplatform_v1", "google.cloud.aiplatform_v1beta1", "vertexai")
_IMPORTERS = ("import_module", "__import__")


@dataclass(frozen=True)
class Use:
    """A dotted name, and the `file:line` that has it."""

    where: str
    name: str

    @property
    def is_provided(self) -> bool:
        """Whether the kit's counterparts have it, so that no SDK is needed."""
        words = self.name.split(".")
        for end in range(len(words), 0, -1):
            names = provided().get(".".join(words[:end]))
            if names is not None:
                return end == len(words) or words[end] in names
        return False


@functools.cache
def provided() -> Mapping[str, frozenset[str]]:
    """The modules of cpr_kit/sdk/aiplatform under the names that they stand for, and what each lists as its own."""
    found = {}
    for path in _TREE.rglob("*.py"):
        parts = path.relative_to(_TREE).with_suffix("").parts
        name = ".".join((SDK, *(part for part in parts if part != "__init__")))
        below = {each.stem for each in path.parent.iterdir()} if path.name == "__init__.py" else set()
        found[name] = frozenset(_listed(path)) | below
    return found


def of_sdk(folder: Folder, files: Iterable[Path]) -> list[Use]:
    """Each use of the SDK's names in the files, and in those of the folder that they import."""
    return [
        Use(f"{path}:{line}", name)
        for path in reachable(folder, files)
        for line, name in sorted(_names(folder.tree(path)))
        if _is_of(name, (SDK, *_ONLY_IN_SDK))
    ]


def reachable(folder: Folder, files: Iterable[Path]) -> list[Path]:
    """The files, and all of the folder that importing them imports."""
    pending, found = list(files), list[Path]()
    while pending:
        path = pending.pop(0)
        if path in found:
            continue
        found.append(path)
        for module in _modules(folder, path):
            words = module.split(".")
            above = (".".join(words[:end]) for end in range(1, len(words) + 1))
            pending += [file for name in above if (file := folder.module(name)) is not None]
    return found


def _modules(folder: Folder, path: Path) -> Iterator[str]:
    """Absolute names that a file may import as modules, whether or not there are such modules."""
    package = path.relative_to(folder.root).parent.parts
    for node in _running(folder.tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *filter(None, [node.module])))
            yield from (".".join(filter(None, (module, alias.name))) for alias in node.names)
        elif (name := _imported_by_call(node)) is not None:
            yield name


def _names(tree: ast.Module) -> set[tuple[int, str]]:
    """Line and dotted name of each import, and of each chain of attributes that begins at one."""
    bound = _Bound()
    nodes = list(_running(tree))
    for node in nodes:
        bound.take(node)
    found = set(bound.found)
    inner = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            words = _chain(node)
            if words and words[0] in bound.names:
                found.add((node.lineno, ".".join((bound.names[words[0]], *words[1:]))))
    return found


@dataclass
class _Bound:
    """What imports bind: local names with what they stand for; and what is imported, by line."""

    names: dict[str, str] = field(default_factory=dict)
    found: list[tuple[int, str]] = field(default_factory=list)

    def take(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                self.found.append((node.lineno, alias.name))
                top = alias.name.partition(".")[0]
                self.names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                self.found.append((node.lineno, name))
                self.names[alias.asname or alias.name] = name
        elif isinstance(node, ast.Call) and (called := _imported_by_call(node)) is not None:
            self.found.append((node.lineno, called))


def _running(tree: ast.Module) -> Iterator[ast.AST]:
    """All nodes but those for type checkers alone."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop(0)
        yield node
        if isinstance(node, ast.If) and is_for_type_checkers(node):
            pending += node.orelse
        else:
            pending += ast.iter_child_nodes(node)


def _imported_by_call(node: ast.AST) -> str | None:
    """`importlib.import_module("a.b")` -> "a.b"."""
    if not isinstance(node, ast.Call) or not node.args:
        return None
    function, name = node.func, node.args[0]
    called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if called in _IMPORTERS and isinstance(name, ast.Constant) and isinstance(name.value, str):
        return name.value
    return None


def _chain(node: ast.expr) -> list[str]:
    """`a.b.c` -> ["a", "b", "c"]; nothing for a chain that begins at something else than a name."""
    words: list[str] = []
    while isinstance(node, ast.Attribute):
        words.append(node.attr)
        node = node.value
    return [node.id, *reversed(words)] if isinstance(node, ast.Name) else []


def _listed(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            yield from ast.literal_eval(node.value)


def _is_of(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)
