"""The model under its base path: the newest numbered version serves, and a newer one takes its place.

TensorFlow Serving's file system source with its default policy, "latest 1".
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cpr_kit.errors import CprError, StartError
from cpr_kit.model_server.servable import SAVED_MODEL, Servable
from cpr_kit.model_server.status import ServingError
from cpr_kit.runtime import artifacts

logger = logging.getLogger(__name__)

_LONGEST_WAIT_S = 3600
"""Whoever starts a server with a longer interval than this means that it is not to look again."""

_RETRIES = 5
"""As TensorFlow Serving's --max_num_load_retries has it."""


@dataclass(frozen=True, kw_only=True)
class State:
    """One version's line in the status document. `error` is why it could not be loaded."""

    version: int
    state: str
    error: str = ""


class Model:
    """`find` gives the version that is asked for; `follow` looks for newer ones until `close`."""

    def __init__(
        self,
        name: str,
        base_path: str,
        load: Callable[[Path, int], Servable],
        *,
        interval_s: float = 1.0,
        unversioned: bool = False,
    ) -> None:
        self.name = name
        self._base_path = base_path
        self._load = load
        self._interval_s = interval_s
        self._unversioned = unversioned
        self._states: dict[int, State] = {}
        self._failures: Counter[int] = Counter()
        self._serves: Servable | None = None
        self._closed = threading.Event()

    def start(self) -> None:
        """Returns once a version serves. Raises StartError when the one there fails, or none can come any more."""
        while not self._closed.is_set():
            version = self._newest()
            if version is not None:
                self._take(*version)
                return
            reason = (
                f"No versions of servable {self.name} found under base path {self._base_path}. Did you forget to name "
                "your leaf directory as a number (eg. '/1/')?"
            )
            if not self._looks_again():
                raise StartError(reason, f"move saved_model.pb and what lies beside it into {self._base_path}/1/")
            logger.warning("%s", reason)
            self._closed.wait(self._interval_s)

    def follow(self) -> None:
        """Look for newer versions from now on, where there may be some."""
        if self._looks_again():
            threading.Thread(target=self._follow, name="versions", daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        if self._serves is not None:
            self._serves.close()

    def find(self, name: str, version: int | None = None) -> Servable:
        """Raises ServingError where it does not serve."""
        serves = self._serves
        if name == self.name and serves is not None and version in (None, serves.version):
            return serves
        asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        raise ServingError("NOT_FOUND", f"Servable not found for request: {asked}")

    def states(self, name: str, version: int | None = None) -> list[State]:
        """The newest version first. Raises ServingError for a model, or a version, that was never here."""
        found = [state for number, state in sorted(self._states.items(), reverse=True) if version in (None, number)]
        if name == self.name and found:
            return found
        what = "any versions" if version is None else f"version {version}"
        raise ServingError("NOT_FOUND", f"Could not find {what} of model {name}")

    def _looks_again(self) -> bool:
        """A gs:// path is read once: what the kit's reader downloaded does not change."""
        return 0 < self._interval_s <= _LONGEST_WAIT_S and not self._base_path.startswith(artifacts.SCHEME)

    def _newest(self) -> tuple[int, Path] | None:
        if not self._base_path.startswith(artifacts.SCHEME) and not Path(self._base_path).is_dir():
            logger.warning("Could not find base path %s for servable %s", self._base_path, self.name)
            return None
        folder = artifacts.fetch(self._base_path)
        if self._unversioned and (folder / SAVED_MODEL).is_file():
            return 1, folder
        names = [path for path in folder.iterdir() if path.is_dir() and path.name.isascii() and path.name.isdecimal()]
        newest = max(names, key=lambda path: int(path.name), default=None)
        return None if newest is None else (int(newest.name), newest)

    def _take(self, version: int, folder: Path) -> None:
        """Load the version, let it serve, and then unload the one before."""
        self._states[version] = State(version=version, state="LOADING")
        try:
            servable = self._load(folder, version)
        except CprError as error:
            self._failures[version] += 1
            self._states[version] = State(version=version, state="END", error=str(error))
            raise
        before, self._serves = self._serves, servable
        self._states[version] = State(version=version, state="AVAILABLE")
        logger.info("Successfully loaded servable version {name: %s version: %d}", self.name, version)
        if before is not None:
            before.close()
            self._states[before.version] = State(version=before.version, state="END")
            logger.info("unloaded servable version {name: %s version: %d}", self.name, before.version)

    def _is_due(self, version: int) -> bool:
        """A version may be looked at while its files are still being copied."""
        return version not in self._states or 0 < self._failures[version] <= _RETRIES

    def _follow(self) -> None:
        while not self._closed.wait(self._interval_s):
            try:
                found = self._newest()
                if found is not None and self._is_due(found[0]):
                    self._take(*found)
            except Exception:  # the version before goes on serving
                logger.exception("the newest version of %s cannot be loaded", self.name)
