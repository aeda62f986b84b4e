"""What `cpr push` and `cpr mirror` print, and the record of it that stays on this machine."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpr_kit.cli import terminal
from cpr_kit.errors import CprError, RegistryError

if TYPE_CHECKING:
    from cpr_kit.deploy.registry.remote import Remote

RECORD = "pushed.json"


@dataclass
class Pushed:
    """One image at several registries. A failure at one keeps nobody from the others; it is raised at the end."""

    image: str
    there: list[tuple[Remote, bool]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def add(self, reference: str, send: Callable[[], Remote], *, last: bool = False) -> None:
        """`send` brings the image to `reference`. A failure is raised at once where nothing else can follow: `last`."""
        from cpr_kit.deploy.registry.remote import remote

        try:
            before = remote(reference)
            after = send()
        except CprError as error:
            if last:
                raise
            self.failures.append(str(error))
            return
        self.there.append((after, before is None or before.digest != after.digest))

    def show(self, *, as_json: bool) -> None:
        """Raises RegistryError where one of the registries failed."""
        if self.failures:
            done = ", ".join(remote.reference for remote, _ in self.there) or "none"
            cause, _, remedy = self.failures[0].partition(" | ")
            more = [f"; also: {failure.partition(' | ')[0]}" for failure in self.failures[1:]]
            raise RegistryError(f"{cause}{''.join(more)} (done: {done})", remedy or "mend it, and run this again")
        terminal.result(self.facts(), "\n".join(self._lines()), as_json=as_json)

    def facts(self) -> dict[str, Any]:
        first, _ = self.there[0]
        return {
            "image": self.image,
            "reference": first.reference,
            "digest": first.digest,
            "platforms": list(first.platforms),
            "size": first.size,
            "pushed": any(sent for _, sent in self.there),
            "references": [{"reference": remote.reference, "pushed": sent} for remote, sent in self.there],
        }

    def record(self) -> None:
        """For people, who ask later what they pushed: no command reads it, and without it nothing is lost."""
        from cpr_kit.engine.store import Store

        path = Store.default().root / RECORD
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            known = _read(path)
            for remote, _ in self.there:
                known[remote.reference] = {
                    "digest": remote.digest,
                    "image": self.image,
                    "platforms": list(remote.platforms),
                    "size": remote.size,
                    "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                }
            draft = path.with_suffix(".draft")
            draft.write_text(json.dumps(known, indent=1) + "\n", "utf-8")
            draft.replace(path)
        except OSError as error:
            terminal.note(f"warning: what was pushed is not noted in {path}: {error.strerror}")

    def _lines(self) -> Iterator[str]:
        from cpr_kit.deploy.registry.progress import megabytes

        for remote, sent in self.there:
            size = f", {megabytes(remote.size)}" if remote.size else ""
            yield f"{remote.reference}  {'pushed' if sent else 'was there'}: {remote.digest}{size}"


def _read(path: Path) -> dict[str, Any]:
    with contextlib.suppress(FileNotFoundError, ValueError):
        found = json.loads(path.read_text("utf-8"))
        if isinstance(found, dict):
            return found
    return {}
