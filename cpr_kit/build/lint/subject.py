"""What every rule looks at."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from cpr_kit.build.dockerfile import Dockerfile
from cpr_kit.build.expansion import expanded
from cpr_kit.build.lint import files, program
from cpr_kit.build.lint.files import Files
from cpr_kit.build.lint.finding import Severity
from cpr_kit.build.lint.program import Program, Serving
from cpr_kit.build.lint.servers import is_bare
from cpr_kit.build.shell import Word
from cpr_kit.build.stages import Recipe

ROOT = ("root", "0")


@dataclass(frozen=True)
class Subject:
    """A Dockerfile, the plan of its image, the folder it is built from, and the port that Vertex AI will ask."""

    dockerfile: Dockerfile
    recipe: Recipe
    files: Files | None
    port: int

    @cached_property
    def program(self) -> Program | None:
        found = program.read(self.recipe, self.files)
        return found if found is not None and found.commands else None

    @cached_property
    def serving(self) -> tuple[Serving, ...]:
        return tuple(program.serving(self.program)) if self.program is not None else ()

    @cached_property
    def environment(self) -> Mapping[str, str | None]:
        """What the image's own ENV gives the process."""
        return {name: assigned.value for name, assigned in self.recipe.env.items()}

    @property
    def severity(self) -> Severity:
        """Of what the start command does: behind the ENTRYPOINT of a base that is not known, a CMD may be anything."""
        return "breach" if self.recipe.entrypoint is not None or is_bare(self.recipe.base) else "note"

    @property
    def user(self) -> str | None:
        """The user, without a group, that the container runs as; None where the base decides, or a variable."""
        step = self.recipe.user
        named = step.expanded(step.instruction.text) if step is not None else None
        return named.partition(":")[0].strip() if named else None

    @property
    def is_unprivileged(self) -> bool:
        return self.user is not None and self.user not in ROOT

    def has(self, name: str) -> bool:
        """Whether a file of that name lies anywhere in the folder."""
        return self.files is not None and any(each.rpartition("/")[2] == name for each in self.files.names())

    def source_at(self, path: str) -> tuple[str, str] | None:
        """The file of the folder that the started process sees at `path`, and its text."""
        place = program.absolute(self.recipe, path)
        if self.files is None or place is None:
            return None
        found = files.origin(self.recipe, self.files, place)
        text = self.files.text(found[0]) if found is not None else None
        return (found[0], text) if found is not None and text is not None else None

    def tree_at(self, path: str) -> tuple[str, ast.Module] | None:
        """The Python file at `path`, parsed; None where there is none, or where it does not parse."""
        found = self.source_at(path)
        try:
            return (found[0], ast.parse(found[1])) if found is not None else None
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None

    def text_at(self, path: str) -> str:
        found = self.source_at(path)
        return found[1] if found is not None else ""

    def value(self, word: Word) -> str | None:
        """A word as the program gets it: no shell expands the exec form."""
        return word.text if word.raw is None else expanded(word.raw, self.environment)
