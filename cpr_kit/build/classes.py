"""Classes of a folder of Python, found by parsing. Nothing is imported, so nothing of the user's runs."""

from __future__ import annotations

import ast
import builtins
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cpr_kit.errors import SourceError

_PROVIDERS = ("cpr_kit", "google.cloud.aiplatform", "abc", "typing", "typing_extensions", "builtins")
_BROUGHT: dict[str, frozenset[str]] = {
    "ABC": frozenset(),
    "CatboostPredictor": frozenset({"load", "preprocess", "predict", "postprocess"}),
    "Generic": frozenset(),
    "Handler": frozenset(),
    "LightgbmPredictor": frozenset({"load", "preprocess", "predict", "postprocess"}),
    "OnnxPredictor": frozenset({"load", "preprocess", "predict", "postprocess"}),
    "PredictionHandler": frozenset({"handle"}),
    "Predictor": frozenset({"preprocess", "postprocess"}),
    "Preprocessor": frozenset({"save"}),
    "Protocol": frozenset(),
    "SklearnPredictor": frozenset({"load", "preprocess", "predict", "postprocess"}),
    "XgboostPredictor": frozenset({"load", "preprocess", "predict", "postprocess"}),
}
"""The methods that a class of one of the providers brings to those derived from it; abstract ones do not count."""


@dataclass(frozen=True)
class Found:
    """A class that the folder defines."""

    module: str
    path: Path
    node: ast.ClassDef

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def where(self) -> str:
        return f"{self.path}:{self.node.lineno}"


@dataclass(frozen=True)
class Outside:
    """A name that comes from a package outside the folder, or that parsing cannot follow (module "")."""

    module: str
    name: str

    @property
    def methods(self) -> frozenset[str] | None:
        """What it brings; None where that is unknown, and trusted to be enough."""
        if self.module == "builtins":
            return frozenset()
        known = any(self.module == p or self.module.startswith(f"{p}.") for p in _PROVIDERS)
        return _BROUGHT.get(self.name) if known else None


class Folder:
    """The modules below one folder, each parsed at most once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._trees: dict[Path, ast.Module] = {}

    def module(self, name: str) -> Path | None:
        """The file of a dotted module; for a package its __init__.py."""
        stem = self.root.joinpath(*name.split("."))
        candidates = (stem / "__init__.py", stem.with_name(f"{stem.name}.py"))
        return next((path for path in candidates if path.is_file()), None)

    def modules(self) -> list[str]:
        """The modules directly in the folder, and those of its packages."""
        files = [*self.root.glob("*.py"), *self.root.glob("*/*.py")]
        parts = (path.relative_to(self.root).with_suffix("").parts for path in files)
        names = (part[:-1] if part[-1] == "__init__" else part for part in parts)
        return sorted({".".join(name) for name in names if name and all(word.isidentifier() for word in name)})

    def tree(self, path: Path) -> ast.Module:
        if path not in self._trees:
            self._trees[path] = _parse(path)
        return self._trees[path]

    def find(self, module: str, name: str) -> Found | Outside:
        """The class that `module:name` stands for. Raises SourceError naming what there is instead."""
        path = self.module(module)
        if path is None:
            raise SourceError(self.root, f'there is no module "{module}"{self._module_hint(module)}')
        found = self._look_up(module, path, name, frozenset())
        if found is None:
            raise _no_class(path, name, self.classes(path))
        return found

    def classes(self, path: Path) -> dict[str, int]:
        """The classes written in a file, with their lines."""
        return {node.name: node.lineno for node in statements(self.tree(path).body) if isinstance(node, ast.ClassDef)}

    def methods(self, found: Found | Outside) -> frozenset[str] | None:
        """The methods a class has, its bases' included; None where a base outside the folder may bring any."""
        return self._methods(found, frozenset())

    def ancestry(self, found: Found | Outside) -> Iterator[tuple[Found | Outside, int]]:
        """The class and all it derives from, each with the line (of the folder) that names it."""
        seen: set[Found | Outside] = set()
        pending: list[tuple[Found | Outside, int]] = [(found, found.node.lineno if isinstance(found, Found) else 0)]
        while pending:
            current, line = pending.pop()
            if current in seen:
                continue
            seen.add(current)
            yield current, line
            if isinstance(current, Found):
                pending += [(base, current.node.lineno) for base in self._bases(current)]

    def _methods(self, found: Found | Outside, seen: frozenset[Found]) -> frozenset[str] | None:
        if isinstance(found, Outside):
            return found.methods
        if found in seen:
            raise SourceError(found.where, f"class {found.name} derives from itself")
        methods = _own_methods(found.node)
        for base in self._bases(found):
            brought = self._methods(base, seen | {found})
            if brought is None:
                return None
            methods |= brought
        return methods

    def _bases(self, found: Found) -> list[Found | Outside]:
        return [self._base(found, expression) for expression in found.node.bases]

    def _base(self, found: Found, expression: ast.expr) -> Found | Outside:
        if isinstance(expression, ast.Subscript):  # Generic[T]
            expression = expression.value
        words = _dotted(expression)
        if words is None:
            return Outside("", ast.unparse(expression))
        base = self._follow(found.module, found.path, words, frozenset())
        if base is not None:
            return base
        if hasattr(builtins, words[0]):
            return Outside("builtins", words[-1])
        text = ".".join(words)
        raise SourceError(
            found.where, f"class {found.name} derives from {text}, which is not defined or imported there"
        )

    def _look_up(self, module: str, path: Path, name: str, seen: frozenset[tuple[Path, str]]) -> Found | Outside | None:
        """What `name` is bound to last at the top level of a file."""
        if (path, name) in seen:
            return None
        seen |= {(path, name)}
        for node in reversed(list(statements(self.tree(path).body))):
            if isinstance(node, ast.ClassDef) and node.name == name:
                return Found(module, path, node)
            if isinstance(node, ast.Assign) and any(_is_name(target, name) for target in node.targets):
                words = _dotted(node.value)
                return self._follow(module, path, words, seen) if words else Outside("", name)
            if isinstance(node, ast.ImportFrom):
                found = self._imported(module, path, node, name, seen)
                if found is not None:
                    return found
        return None

    def _imported(
        self, module: str, path: Path, node: ast.ImportFrom, name: str, seen: frozenset[tuple[Path, str]]
    ) -> Found | Outside | None:
        source = _absolute(module, path, node)
        original = next((alias.name for alias in node.names if (alias.asname or alias.name) == name), None)
        if original is None and node.names[0].name != "*":
            return None
        file = self.module(source) if source else None
        if file is None:
            return Outside(source, original or name)
        found = self._look_up(source, file, original or name, seen)
        if found is None and original is not None and self.module(f"{source}.{original}") is None:
            raise SourceError(f"{path}:{node.lineno}", str(_no_class(file, original, self.classes(file))))
        return found

    def _follow(
        self, module: str, path: Path, words: list[str], seen: frozenset[tuple[Path, str]]
    ) -> Found | Outside | None:
        """What `a.b.C` means in a file: a name there, or an attribute of a module imported there."""
        if len(words) == 1:
            return self._look_up(module, path, words[0], seen)
        for target, rest in self._module_meant(module, path, words):
            file = self.module(target)
            if file is not None and len(rest) == 1:
                return self._look_up(target, file, rest[0], seen)
            if file is None:
                return Outside(".".join([target, *rest[:-1]]), rest[-1])
        return None

    def _module_meant(self, module: str, path: Path, words: list[str]) -> Iterator[tuple[str, list[str]]]:
        """The modules that the first words of `a.b.C` may stand for, with the words that remain."""
        for node in statements(self.tree(path).body):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    parts = [alias.asname] if alias.asname else alias.name.split(".")
                    if words[: len(parts)] == parts and len(words) > len(parts):
                        yield alias.name, words[len(parts) :]
                    elif not alias.asname and words[0] == parts[0]:
                        yield ".".join(words[:-1]), words[-1:]
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if (alias.asname or alias.name) == words[0]:
                        yield ".".join(filter(None, (_absolute(module, path, node), alias.name))), words[1:]

    def _module_hint(self, name: str) -> str:
        there = self.modules()
        close = difflib.get_close_matches(name, there, 1)
        listed = f"; the modules there are {', '.join(there)}" if there else "; there is no Python file"
        return listed + (f'; did you mean "{close[0]}"?' if close else "")


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when a body runs: into if, try and with, not into functions and classes."""
    for node in body:
        yield node
        for field in ("body", "orelse", "finalbody"):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from statements(getattr(node, field, []))
        for handler in getattr(node, "handlers", []):
            yield from statements(handler.body)


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), str(path))
    except SyntaxError as error:
        raise SourceError(f"{path}:{error.lineno or 1}", f"{error.msg}: {(error.text or '').strip()}") from error
    except ValueError as error:  # a null byte, before Python 3.12
        raise SourceError(path, str(error)) from error
    except OSError as error:
        raise SourceError(path, f"cannot be read: {error.strerror}") from error


def _no_class(path: Path, name: str, classes: dict[str, int]) -> SourceError:
    close = difflib.get_close_matches(name, classes, 1)
    listed = ", ".join(f"{other} (line {line})" for other, line in classes.items())
    there = f"its classes are {listed}" if classes else "it has no class at all"
    hint = f'; did you mean "{close[0]}"?' if close else ""
    where = f"{path}:{classes[close[0]]}" if close else path
    return SourceError(where, f'there is no class "{name}"; {there}{hint}')


def _own_methods(node: ast.ClassDef) -> frozenset[str]:
    """Names bound in the class body. A method without a body to speak of that is marked abstract does not count."""
    names: set[str] = set()
    for item in statements(node.body):
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            if not any("abstractmethod" in ast.unparse(decorator) for decorator in item.decorator_list):
                names.add(item.name)
        elif isinstance(item, ast.Assign):
            names |= {target.id for target in item.targets if isinstance(target, ast.Name)}
        elif isinstance(item, ast.AnnAssign) and item.value is not None and isinstance(item.target, ast.Name):
            names.add(item.target.id)
    return frozenset(names)


def _absolute(module: str, path: Path, node: ast.ImportFrom) -> str:
    """The module that `from ..x import y` names, as seen from the folder."""
    if not node.level:
        return node.module or ""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, *filter(None, [node.module])])


def _dotted(expression: ast.expr) -> list[str] | None:
    """`a.b.C` -> ["a", "b", "C"]; None for anything that is no chain of names."""
    if isinstance(expression, ast.Name):
        return [expression.id]
    if isinstance(expression, ast.Attribute):
        head = _dotted(expression.value)
        return [*head, expression.attr] if head else None
    return None


def _is_name(target: ast.expr, name: str) -> bool:
    return isinstance(target, ast.Name) and target.id == name
