"""The classes of a folder that a model server could be given: those derived from the SDK's, or the kit's, own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from cpr_kit.build.classes import Folder, Found, Outside
from cpr_kit.contract import Reference
from cpr_kit.errors import SourceError, UsageError
from cpr_kit.migrate.calls import Named

Kind = Literal["predictor", "handler", "preprocessor"]
KINDS: tuple[Kind, ...] = ("predictor", "handler", "preprocessor")
SDK = "google.cloud.aiplatform"

_PROVIDERS = (SDK, "cpr_kit")
_BASES: dict[str, Kind] = {
    "CatboostPredictor": "predictor",
    "Handler": "handler",
    "LightgbmPredictor": "predictor",
    "OnnxPredictor": "predictor",
    "PredictionHandler": "handler",
    "Predictor": "predictor",
    "Preprocessor": "preprocessor",
    "SklearnPredictor": "predictor",
    "XgboostPredictor": "predictor",
}
_NOT_SERVED = ("test", "tests", "conftest", "setup")


@dataclass(frozen=True)
class Candidate:
    """A class of the folder, and the class of the SDK (or the kit) that it derives from in the end."""

    kind: Kind
    found: Found
    base: Outside
    above: frozenset[Found]

    @property
    def reference(self) -> Reference:
        return Reference(self.found.module, self.found.name)

    def is_named(self, named: Named) -> bool:
        """`src.predictor` may name the module `predictor`: whoever wrote it stood in another folder."""
        module = named.module
        same = not module or self.found.module == module or module.endswith(f".{self.found.module}")
        return self.found.name == named.name and (same or "." not in module)


@dataclass(frozen=True)
class Served:
    """All candidates, and one sentence for each file that could not be read."""

    candidates: tuple[Candidate, ...]
    unread: tuple[str, ...] = field(default=())

    def of(self, kind: Kind) -> list[Candidate]:
        return [each for each in self.candidates if each.kind == kind]

    def named(self, kind: Kind, named: Named) -> Candidate | None:
        return next((each for each in self.of(kind) if each.is_named(named)), None)

    def only(self, kind: Kind, folder: Folder) -> Candidate | None:
        """The one that nothing else derives from. Raises UsageError naming all where there are several."""
        every = self.of(kind)
        last = [each for each in every if not any(each.found in other.above for other in every)]
        if len(last) > 1:
            listed = ", ".join(f"{each.reference} ({_place(folder, each)})" for each in last)
            raise UsageError(
                f"several classes of {folder.root} could be the {kind}: {listed}; "
                f"choose one with --{kind} {last[0].reference}"
            )
        return last[0] if last else None


def read(folder: Folder) -> Served:
    unread: list[str] = []
    return Served(tuple(_candidates(folder, unread)), tuple(unread))


def _candidates(folder: Folder, unread: list[str]) -> Iterator[Candidate]:
    for module in folder.modules():
        if any(word in _NOT_SERVED or word.startswith("test_") for word in module.split(".")):
            continue
        path = folder.module(module)
        if path is None:
            continue
        try:
            names = folder.classes(path)
        except SourceError as error:
            unread.append(str(error))
            continue
        for name in names:
            try:
                found = folder.find(module, name)
                candidate = _candidate(found, [each for each, _ in folder.ancestry(found)])
            except SourceError as error:
                unread.append(str(error))
                continue
            if candidate:
                yield candidate


def _candidate(found: Found | Outside, ancestry: Iterable[Found | Outside]) -> Candidate | None:
    """None for a class that derives from nothing that is served."""
    ancestry = list(ancestry)
    above = frozenset(each for each in ancestry if isinstance(each, Found) and each != found)
    for each in ancestry:
        if isinstance(each, Outside) and each.name in _BASES and is_provided(each.module) and isinstance(found, Found):
            return Candidate(_BASES[each.name], found, each, above)
    return None


def is_provided(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in _PROVIDERS)


def _place(folder: Folder, candidate: Candidate) -> str:
    found = candidate.found
    return f"{found.path.relative_to(folder.root).as_posix()}:{found.node.lineno}"
