"""A Dockerfile as a plan of an image: its stages, what each variable holds where, and what the image is left with."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field

from cpr_kit.build.dockerfile import Dockerfile, Instruction
from cpr_kit.build.expansion import Values, expanded


@dataclass(frozen=True, kw_only=True)
class Step:
    """An instruction with what is known before it: variables, the folder it works in, the user it works as."""

    instruction: Instruction
    values: Values
    folder: str | None
    user: str | None

    def expanded(self, text: str) -> str | None:
        return expanded(text, self.values, self.instruction.escape)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """From one FROM to the next. `image` is the base's name, None where it cannot be known; `parent` a stage."""

    number: int
    start: Instruction
    name: str | None = None
    image: str | None = None
    platform: str | None = None
    parent: Stage | None = None
    steps: tuple[Step, ...] = ()
    after: Step | None = None
    """What is known once all steps are done; its instruction is the last."""

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)


@dataclass(frozen=True, kw_only=True)
class Assigned:
    """A variable that the image keeps: its value, and the instruction and line that gave it."""

    value: str | None
    instruction: Instruction
    line: int


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The image that comes out last, and the stages that it is made from."""

    stages: tuple[Stage, ...]
    before: tuple[Instruction, ...] = ()
    """The instructions above the first FROM."""

    @property
    def final(self) -> Stage:
        return self.stages[-1]

    @property
    def lineage(self) -> tuple[Stage, ...]:
        """The stages whose layers the image has, the oldest first."""
        line: list[Stage] = []
        stage: Stage | None = self.final
        while stage is not None:
            line.insert(0, stage)
            stage = stage.parent
        return tuple(line)

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(step for stage in self.lineage for step in stage)

    @property
    def reached(self) -> tuple[Stage, ...]:
        """The lineage, and all stages that files are copied from."""
        seen: dict[int, Stage] = {}
        pending = list(self.lineage)
        while pending:
            stage = pending.pop()
            if stage.number in seen:
                continue
            seen[stage.number] = stage
            origins = [self.origin(step, stage) for step in stage]
            pending += [other for other in (stage.parent, *origins) if other is not None]
        return tuple(seen[number] for number in sorted(seen))

    def origin(self, step: Step, stage: Stage) -> Stage | None:
        """The stage that a COPY --from takes files of; None for the context, and for an image."""
        named = step.instruction.flag("from") if step.instruction.keyword == "COPY" else None
        return None if named is None else _stage(self.stages[: stage.number], step.expanded(named) or "")

    @property
    def base(self) -> str | None:
        """The image that the lineage starts from."""
        return self.lineage[0].image

    @property
    def entrypoint(self) -> Instruction | None:
        return self._last("ENTRYPOINT")

    @property
    def cmd(self) -> Instruction | None:
        """CMD, unless it stands in an earlier stage than the ENTRYPOINT, which forgets it."""
        entry, cmd = self._last("ENTRYPOINT"), self._last("CMD")
        if entry is not None and cmd is not None and cmd.line < entry.line:
            return cmd if self._stage_of(cmd) == self._stage_of(entry) else None
        return cmd

    @property
    def env(self) -> dict[str, Assigned]:
        kept = {}
        for step in self.steps:
            if step.instruction.keyword == "ENV":
                for pair in step.instruction.pairs:
                    value = step.expanded(pair.value or "")
                    kept[pair.name] = Assigned(value=value, instruction=step.instruction, line=pair.line)
        return kept

    @property
    def user(self) -> Step | None:
        """The last USER; None where the base decides."""
        return next((step for step in reversed(self.steps) if step.instruction.keyword == "USER"), None)

    @property
    def folder(self) -> str | None:
        """The folder that the container starts in, where this file says it."""
        return self.final.after.folder if self.final.after else None

    def _last(self, keyword: str) -> Instruction | None:
        found = [step.instruction for step in self.steps if step.instruction.keyword == keyword]
        return found[-1] if found else None

    def _stage_of(self, instruction: Instruction) -> int:
        return max(stage.number for stage in self.lineage if stage.start.line <= instruction.line)


def plan(dockerfile: Dockerfile) -> Recipe | None:
    """None for a file without a FROM."""
    before: list[Instruction] = []
    stages: list[Stage] = []
    body: list[Instruction] = []
    start: Instruction | None = None
    for instruction in dockerfile.instructions:
        if instruction.keyword != "FROM":
            (before if start is None else body).append(instruction)
            continue
        if start is not None:
            stages.append(_made(start, body, stages, before))
        start, body = instruction, []
    if start is None:
        return None
    stages.append(_made(start, body, stages, before))
    return Recipe(stages=tuple(stages), before=tuple(before))


@dataclass
class _Scope:
    """What holds while a stage is read from top to bottom."""

    defaults: Values
    values: dict[str, str | None] = field(default_factory=dict)
    env: set[str] = field(default_factory=set)
    folder: str | None = None
    user: str | None = None

    def step(self, instruction: Instruction) -> Step:
        return Step(instruction=instruction, values=dict(self.values), folder=self.folder, user=self.user)

    def apply(self, step: Step) -> None:
        instruction = step.instruction
        if instruction.keyword == "ENV":
            for pair in instruction.pairs:
                self.values[pair.name] = step.expanded(pair.value or "")
                self.env.add(pair.name)
        elif instruction.keyword == "ARG":
            for pair in instruction.pairs:
                default = self.defaults.get(pair.name) if pair.value is None else step.expanded(pair.value)
                if pair.name not in self.env:
                    self.values[pair.name] = default
        elif instruction.keyword == "WORKDIR":
            self.folder = _below(self.folder, step.expanded(instruction.text))
        elif instruction.keyword == "USER":
            self.user = step.expanded(instruction.text)


def _below(folder: str | None, named: str | None) -> str | None:
    if named is None or (folder is None and not named.startswith("/")):
        return None
    return posixpath.normpath(posixpath.join(folder or "/", named))


def _made(start: Instruction, body: list[Instruction], earlier: list[Stage], before: list[Instruction]) -> Stage:
    defaults: dict[str, str | None] = {}
    for instruction in before:
        if instruction.keyword == "ARG":
            defaults |= {
                pair.name: None if pair.value is None else expanded(pair.value, defaults, start.escape)
                for pair in instruction.pairs
            }
    words = [word.text for word in start.words]
    image = expanded(words[0], defaults, start.escape) if words else None
    parent = _stage(earlier, image or "", by_number=False)
    scope = _Scope(defaults, folder="/" if image == "scratch" else None)
    if parent is not None and parent.after is not None:
        scope = _Scope(
            defaults, dict(parent.after.values), set(parent.after.values), parent.after.folder, parent.after.user
        )
    steps = []
    for instruction in body:
        step = scope.step(instruction)
        scope.apply(step)
        steps.append(step)
    platform = start.flag("platform")
    return Stage(
        number=len(earlier),
        start=start,
        name=words[2].lower() if len(words) == 3 and words[1].upper() == "AS" else None,  # noqa: PLR2004
        image=image,
        platform=platform and (expanded(platform, defaults, start.escape) or platform),
        parent=parent,
        steps=tuple(steps),
        after=scope.step(body[-1] if body else start),
    )


def _stage(stages: list[Stage] | tuple[Stage, ...], name: str, *, by_number: bool = True) -> Stage | None:
    """A stage by its name, or its number where COPY --from says one; of two with a name the later."""
    for stage in reversed(stages):
        if stage.name == name.lower() or (by_number and str(stage.number) == name):
            return stage
    return None
