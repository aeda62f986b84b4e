"""One image in the repositories of several regions: pushed once, and copied by its digest to the others."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

from cpr_kit.deploy.many import Progress
from cpr_kit.deploy.observe import configured, image_digest
from cpr_kit.deploy.registry.check import check
from cpr_kit.deploy.registry.mirror import mirror
from cpr_kit.deploy.registry.names import stays_in_engine
from cpr_kit.deploy.registry.push import push
from cpr_kit.deploy.registry.remote import remote
from cpr_kit.deploy.target import Target
from cpr_kit.engine.protocol import Engine, Image
from cpr_kit.errors import CprError
from cpr_kit.prebuilt import catalogue
from cpr_kit.source_state import Built


class OneImage:
    """The image of a project, which all regions get, whatever their own names had before.

    It is the one under cpr.toml's name: what was built has that name alone.
    """

    def __init__(self, engine: Engine, targets: Sequence[Target], named: str) -> None:
        self._own = engine
        self._targets = targets
        self._source, self._image = _found(engine, [named, *(each.image for each in targets)])

    @property
    def engine(self) -> Engine:
        """The machine's own, with the image under every region's name. It is for looking, not for pushing."""
        return cast("Engine", _Named(self._own, {each.image for each in self._targets}, self._image))

    def built(self) -> Built | None:
        """What the image says of itself: the engine's, else the first registry's that has one. None: there is none."""
        if self._own.image(self._source) is not None and self._image is not None:
            return Built(labels=self._image.labels, created=self._image.created)
        for name in dict.fromkeys((self._source, *(each.image for each in self._targets))):
            with contextlib.suppress(CprError):  # who asks for the image itself says so
                if found := configured(name):
                    return found
        return None

    def digests(self) -> Iterator[tuple[str, str | None]]:
        """By region, the image's digest in its registry: "" where it is not there yet, None if that is not known."""
        for target in self._targets:
            digest = None
            with contextlib.suppress(CprError):
                digest = image_digest(target, self.engine) or ""
            yield target.region, digest

    def spread(self, regions: Collection[str], lacking: Collection[str], progress: Progress) -> dict[str, CprError]:
        """Give the image to those of these regions that lack it; what went wrong, by region."""
        failed: dict[str, CprError] = {}
        targets = [target for target in self._targets if target.region in regions]
        lacking = {target.region for target in targets if target.region in lacking or self._is_unnamed(target)}
        have = [target for target in targets if target.region not in lacking]
        for target in (each for each in targets if each.region in lacking):
            try:
                self._give(target, have, progress)
            except CprError as error:
                failed[target.region] = error
            else:
                have.append(target)
        return failed

    def _give(self, target: Target, have: Sequence[Target], progress: Progress) -> None:
        def report(line: str) -> None:
            progress(target.region, line)

        check(target.image, target.region)
        if have:
            mirror(have[0].image, target.image, report, engine=self._own)
        elif self._own.image(self._source):
            push(self._own, target.image, source=self._source, report=report)
        else:
            mirror(self._source, target.image, report, engine=self._own)

    def _is_unnamed(self, target: Target) -> bool:
        """Where images stay in the engine, the name is all that a region gets; a prebuilt image is where it is."""
        if catalogue.is_prebuilt(target.image):
            return False
        own = self._own.image(target.image) if stays_in_engine(target.image) else self._image
        return self._image is not None and (own is None or own.id != self._image.id)


class _Named:
    """An engine that has one image under some more names."""

    def __init__(self, engine: Engine, names: Collection[str], image: Image | None) -> None:
        self._engine = engine
        self._names = names
        self._image = image

    def image(self, reference: str) -> Image | None:
        if self._image is not None and reference in self._names:
            return replace(self._image, reference=reference)
        return self._engine.image(reference)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def _found(engine: Engine, names: Sequence[str]) -> tuple[str, Image | None]:
    """What the engine has, else what the first registry has that has one."""
    for name in names:
        if image := engine.image(name):
            return name, image
    for name in names if len(set(names)) > 1 else ():
        with contextlib.suppress(CprError):  # its region says so, once it is asked
            if there := remote(name):
                return name, Image(reference=name, id=there.config, platform=next(iter(there.platforms), ""))
    return names[0], None
