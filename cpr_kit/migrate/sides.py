"""The two makers of an image that are compared. Each works on a copy of the folder, and takes its images away again."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cpr_kit.build import context, image, index
from cpr_kit.build.classes import Folder, Found
from cpr_kit.build.ignore import Ignore
from cpr_kit.config import Config
from cpr_kit.contract import ContainerSpec
from cpr_kit.engine import platforms
from cpr_kit.engine.progress import Step, Steps
from cpr_kit.engine.protocol import Build, Engine, Output
from cpr_kit.engine.reaper import temporary_folder
from cpr_kit.errors import CprError, LackingError, UsageError
from cpr_kit.migrate import upstream

_PREFIX = "cpr-migrate-"
_INSTALLER = re.compile(r"\b(?:pip3?|uv|conda|mamba|apt-get|apk)\b.*\b(?:install|sync|add)\b")
_INSTALLING = re.compile(
    r"Collecting \S|Requirement already satisfied|Successfully installed|(?:Resolved|Installed) \d+ packages?"
)


@dataclass(frozen=True, kw_only=True)
class Built:
    """Seconds of a build, and whether it ran a package installer."""

    seconds: float
    installed: bool


class Watch:
    """Feed it a build's lines: `installed` says whether a step ran that was, or started, a package installer."""

    def __init__(self) -> None:
        self._steps = Steps()
        self._seen: list[Step] = []
        self._installing = False

    def feed(self, line: str) -> None:
        step = self._steps.feed(line)
        if step is None:
            return
        if not any(step is each for each in self._seen):
            self._seen.append(step)
        elif _INSTALLING.search(line):  # not its title, which a cached step has too
            self._installing = True

    @property
    def installed(self) -> bool:
        return self._installing or any(_INSTALLER.search(step.title) for step in self._seen if _ran(step))


def _ran(step: Step) -> bool:
    return not step.cached and step.title.startswith("RUN")


class Side(ABC):
    """One way to the image of `config`; `base` is the image to start from, the same for both."""

    name: str

    def __init__(self, config: Config, engine: Engine, base: str, output: Output) -> None:
        self.config = config
        self.engine = engine
        self.base = base
        self.output = output
        self.tag = f"cpr-local/compare-{uuid.uuid4().hex[:12]}:latest"
        self._made: set[str] = set()

    @property
    @abstractmethod
    def spec(self) -> ContainerSpec:
        """How the image is started."""

    @abstractmethod
    def _make(self, output: Output, *, no_cache: bool) -> float:
        """Build under `tag`; seconds."""

    def build(self, *, no_cache: bool = False) -> Built:
        watch = Watch()

        def record(line: str) -> None:
            watch.feed(line)
            self.output(line)

        former = self._made.copy()
        seconds = self._make(record, no_cache=no_cache)
        built = self.engine.image(self.tag)
        if built:
            self._made.add(built.id)
            self._remove(*(former - {built.id}))
        return Built(seconds=seconds, installed=watch.installed)

    def edit(self) -> None:
        """One more line in the file of the served class."""
        named = self.config.model.predictor or self.config.model.handler or ""
        module, _, name = named.partition(":")
        found = Folder(self.config.folder).find(module, name)
        if not isinstance(found, Found):
            raise UsageError(f"{named} has no file in the folder, so no line of it can be edited")
        with found.path.open("a", encoding="utf-8") as file:
            # Never the same twice: an engine remembers what it has built.
            file.write(f"\n# {uuid.uuid4().hex}\n")

    def close(self) -> None:
        self._remove(self.tag, *self._made)

    def _remove(self, *references: str) -> None:
        for reference in references:
            # What another image is built upon stays with that one.
            with contextlib.suppress(CprError):
                self.engine.remove_image(reference)


class Upstream(Side):
    """google-cloud-aiplatform."""

    name = "before"

    @property
    def spec(self) -> ContainerSpec:
        return ContainerSpec.kit(self.tag, env=self.config.image.env)

    def _make(self, output: Output, *, no_cache: bool) -> float:
        model, folder = self.config.model, self.config.folder
        requirements = folder / (model.requirements or "requirements.txt")
        order = upstream.Order(
            src_dir=str(folder),
            output_image_uri=self.tag,
            predictor=model.predictor,
            handler=model.handler,
            base_image=self.base,
            requirements_path=str(requirements) if model.requirements or requirements.is_file() else None,
            extra_packages=tuple(str(folder / package) for package in model.extra_packages),
            no_cache=no_cache,
            platform=self._platform(),
        )
        with temporary_folder(_PREFIX) as place:
            return upstream.build(order, place, output)

    def _platform(self) -> str | None:
        """None where the base is of that platform already: not every builder takes the word."""
        wanted, there = self.config.image.platform, self.engine.image(self.base)
        return None if there and platforms.matches(there.platform, wanted) else wanted


class Kit(Side):
    """The kit."""

    name = "after"

    @property
    def spec(self) -> ContainerSpec:
        return image.specification(self.config, self.tag)

    def _make(self, output: Output, *, no_cache: bool) -> float:
        config = replace(self.config, image=replace(self.config.image, base=self.base))
        began = time.monotonic()
        image.build(config, self.engine, tag=self.tag, no_cache=no_cache, output=output)
        return time.monotonic() - began


@contextlib.contextmanager
def opened(kind: type[Side], config: Config, engine: Engine, base: str, output: Output) -> Iterator[Side]:
    """A side with a copy of the folder to work on. Copy, images and containers are gone afterwards."""
    with temporary_folder(_PREFIX) as folder:
        side = kind(_copied(config, folder), engine, base, output)
        try:
            yield side
        finally:
            side.close()


@contextlib.contextmanager
def base(config: Config, engine: Engine, output: Output) -> Iterator[str]:
    """The image that both start from. Raises LackingError where the base image is not here.

    Where this machine has settings for pip it is one that holds them: the SDK's Dockerfile cannot be given any.
    """
    name = config.image.base
    if engine.image(name) is None:
        raise LackingError(f"the base image {name} is not here; run: docker pull {name}    or: cpr base {name}")
    if not has_settings():
        yield name
        return
    derived = f"cpr-local/compare-base-{uuid.uuid4().hex[:12]}:latest"
    with temporary_folder(_PREFIX) as folder:
        (folder / "index").mkdir()
        index.write(folder / "index")
        (folder / context.DOCKERFILE).write_text(
            f"FROM {name}\nCOPY index/ {index.TARGET}/\nENV PIP_CONFIG_FILE={index.TARGET}/{index.CONFIG}\n"
        )
        try:
            engine.build(Build(context=folder, tag=derived, platform=config.image.platform), output)
            yield derived
        finally:
            with contextlib.suppress(CprError):
                engine.remove_image(derived)


def has_settings() -> bool:
    """Whether pip is told anything on this machine that holds in a container too."""
    found = index.settings()
    return index.certificates(found) is not None or len(index.text(found, None).splitlines()) > 1


def _copied(config: Config, folder: Path) -> Config:
    """The project in another folder. Artifacts that do not go along are used where they are."""
    origin = config.folder
    context.copy(origin, folder, Ignore.read(origin))
    ignored = origin / ".dockerignore"
    if ignored.is_file():
        shutil.copyfile(ignored, folder / ignored.name)
    model = config.model
    artifacts = model.artifacts
    if artifacts and "://" not in artifacts and not _came_along(artifacts, folder):
        artifacts = str((origin / artifacts).resolve())
    requirements = model.requirements
    if requirements and not _came_along(requirements, folder):
        requirements = str((origin / requirements).resolve())
    packages = tuple(
        each if _came_along(each, folder) else str((origin / each).resolve()) for each in model.extra_packages
    )
    return replace(
        config,
        folder=folder,
        model=replace(model, artifacts=artifacts, requirements=requirements, extra_packages=packages),
    )


def _came_along(path: str, folder: Path) -> bool:
    return (folder / path).exists() and (folder / path).resolve().is_relative_to(folder.resolve())
