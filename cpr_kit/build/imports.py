"""What the user's modules import, held against what the image will have. It warns and never refuses."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from cpr_kit.build.classes import Folder, Found, Outside
from cpr_kit.build.requirements import normalised

_DISTRIBUTIONS = {
    "Crypto": ("pycryptodome",),
    "PIL": ("pillow", "pillow-simd"),
    "attr": ("attrs",),
    "bs4": ("beautifulsoup4",),
    "cv2": ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
    "dateutil": ("python-dateutil",),
    "dotenv": ("python-dotenv",),
    "faiss": ("faiss-cpu", "faiss-gpu"),
    "google.protobuf": ("protobuf",),
    "jwt": ("pyjwt",),
    "magic": ("python-magic",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "skimage": ("scikit-image",),
    "sklearn": ("scikit-learn",),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-intel", "tf-nightly"),
    "xgboost": ("xgboost", "xgboost-cpu"),
    "yaml": ("pyyaml",),
}
"""Modules whose distribution has another name, or several."""

_KIT_BRINGS = frozenset({"cpr_kit", "cpr-kit", "fastapi"})
_ALWAYS = frozenset(
    {
        *("click", "httptools", "numpy", "orjson", "starlette", "uvicorn", "uvloop", "anyio", "pydantic"),
        "google-cloud-aiplatform",  # itself, or the kit's counterparts of what the code uses (takeover.py)
    }
)
_NEEDS = {
    "CatboostPredictor": "catboost",
    "LightgbmPredictor": "lightgbm",
    "OnnxPredictor": "onnxruntime",
    "SklearnPredictor": "sklearn",
    "XgboostPredictor": "xgboost",
}
_COMPANIONS = {"scikit-learn": frozenset({"joblib", "scipy", "threadpoolctl"})}


def unmet(
    folder: Folder,
    found: Iterable[Found | Outside | Path],
    names: Mapping[str, frozenset[str]],
    modules: frozenset[str],
) -> Iterator[str]:
    """A sentence for each import, and each framework class, that no distribution of `names` and no module brings.

    Classes with their files, or files alone.
    """
    own = sys.stdlib_module_names | modules
    brought = _closure(names)
    wanted = [want for one in found for want in _wanted(folder, one)]
    reported: set[str] = set()
    for where, module in wanted:
        distribution = _candidates(module)
        if module.partition(".")[0] in own or _in_folder(folder, module) or distribution & brought:
            continue
        if distribution.isdisjoint(reported):
            reported |= distribution
            yield (
                f"{where} needs {module}, which neither the requirements nor the kit bring; "
                f"unless the base image has it, add {min(distribution)} to the requirements"
            )


def _wanted(folder: Folder, found: Found | Outside | Path) -> Iterator[tuple[str, str]]:
    if isinstance(found, Path):
        yield from ((f"{found}:{line}", module) for line, module in imported(folder.tree(found)))
        return
    for ancestor, line in folder.ancestry(found):
        if isinstance(ancestor, Outside) and ancestor.methods is not None and ancestor.name in _NEEDS:
            where = f"{found.path}:{line}" if isinstance(found, Found) else f"{ancestor.module}:{ancestor.name}"
            yield where, _NEEDS[ancestor.name]
    if isinstance(found, Found):
        for line, module in imported(folder.tree(found.path)):
            yield f"{found.path}:{line}", module


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and module of each absolute import, but for guarded ones (try ... except ImportError, TYPE_CHECKING)."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop(0)
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield from ((node.lineno, name) for name in _modules_of(node))
        elif not _guarded(node):
            pending += ast.iter_child_nodes(node)


def _modules_of(node: ast.ImportFrom) -> list[str]:
    """`from google.cloud import storage` names google.cloud.storage; elsewhere the module before `import` is enough."""
    assert node.module is not None
    if node.module in ("google", "google.cloud"):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return [node.module]


def _guarded(node: ast.AST) -> bool:
    if isinstance(node, ast.Try):
        return any(h.type is None or "Import" in ast.unparse(h.type) for h in node.handlers)
    return isinstance(node, ast.If) and is_for_type_checkers(node)


def is_for_type_checkers(node: ast.If) -> bool:
    """`if TYPE_CHECKING:`, whatever module it is taken from."""
    return re.fullmatch(r"(\w+\.)?TYPE_CHECKING", ast.unparse(node.test)) is not None


def _in_folder(folder: Folder, module: str) -> bool:
    top = module.partition(".")[0]
    return folder.module(top) is not None or (folder.root / top).is_dir()


def _candidates(module: str) -> frozenset[str]:
    """The distributions that may bring a module."""
    parts = module.split(".")
    if parts[0] == "google" and len(parts) > 1:
        known = _DISTRIBUTIONS.get(".".join(parts[:2]))
        return frozenset(known or ["-".join(map(normalised, parts[: 3 if parts[1] == "cloud" else 2]))])
    return frozenset(_DISTRIBUTIONS.get(parts[0], [normalised(parts[0])]))


def _closure(names: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The distributions named, and those they need as far as this machine knows them."""
    brought = set(_ALWAYS)
    pending = [*names.items(), *((name, frozenset[str]()) for name in _KIT_BRINGS)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while pending:
        name, extras = pending.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        brought |= {name, *_COMPANIONS.get(name, ())}
        pending += _needs(name, extras)
    return frozenset(brought)


def _needs(name: str, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    try:
        lines = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return
    for line in lines:
        match = re.match(r"([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?", line)
        asked = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", line)
        if match and (asked is None or normalised(asked.group(1)) in extras):
            wanted = frozenset(normalised(extra) for extra in (match.group(2) or "").split(",") if extra)
            yield normalised(match.group(1)), wanted
