"""A container of a Docker Engine."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cpr_kit.engine.reaper import reaper
from cpr_kit.errors import ContainerError

_NOT_FOUND = 404
_GONE = (_NOT_FOUND, 409)
"""What the engine says of a container that somebody else removed, or is removing."""
_COMMAND_NOT_FOUND = 127


class DockerContainer:
    """A container of a DockerEngine."""

    def __init__(self, container: Any, host_port: int, session: str) -> None:
        self._container = container
        self._host_port = host_port
        self._session = session
        self._removed = False
        self._removing = threading.Lock()
        self._last_logs = ""
        self._last_exit_code: int | None = None
        self._last_out_of_memory = False

    @property
    def id(self) -> str:
        return str(self._container.id)

    @property
    def host_port(self) -> int:
        return self._host_port

    def status(self) -> str:
        state = self._state()
        if state is None or state["Status"] == "removing":
            return "removed"
        return "running" if state["Status"] in ("running", "paused", "restarting") else "exited"

    def out_of_memory(self) -> bool:
        state = self._state()
        if state is not None:
            self._last_out_of_memory = bool(state["OOMKilled"])
        return self._last_out_of_memory

    def exit_code(self) -> int | None:
        state = self._state()
        if state is not None and state["Status"] in ("exited", "dead"):
            self._last_exit_code = int(state["ExitCode"])
        return self._last_exit_code

    def logs(self) -> str:
        import docker

        if not self._removed:
            try:
                self._last_logs = self._container.logs().decode("utf-8", "replace")
            except docker.errors.APIError as exc:
                if exc.status_code not in _GONE:
                    raise
        return self._last_logs

    def follow(self) -> Iterator[str]:
        import docker

        if self._removed:
            yield from self._last_logs.splitlines()
            return
        pending = b""
        try:
            for chunk in self._container.logs(stream=True, follow=True):
                *lines, pending = (pending + chunk).split(b"\n")
                yield from (line.decode("utf-8", "replace") for line in lines)
        except docker.errors.APIError as exc:
            if exc.status_code not in _GONE:
                raise
        if pending:
            yield pending.decode("utf-8", "replace")

    def exec(self, command: Sequence[str], timeout_s: float) -> int:
        """On a time-out the command goes on inside: Docker's API has no way to end it."""
        import docker

        api = self._container.client.api
        try:
            identity = api.exec_create(self.id, list(command))["Id"]
            api.exec_start(identity, detach=True)
        except docker.errors.APIError as exc:
            if exc.status_code == _NOT_FOUND or "not running" in str(exc):
                raise ContainerError(f"{command[0]} cannot run: the container has ended", self.logs()) from exc
            return _COMMAND_NOT_FOUND
        deadline = time.monotonic() + timeout_s
        while (state := self._inspected(identity, command))["Running"] or state["ExitCode"] is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{' '.join(command)} did not end within {timeout_s:g} s")
            time.sleep(0.01)
        return int(state["ExitCode"])

    def _inspected(self, identity: str, command: Sequence[str]) -> Mapping[str, Any]:
        import docker

        try:
            found: Mapping[str, Any] = self._container.client.api.exec_inspect(identity)
        except docker.errors.NotFound as exc:
            raise ContainerError(f"{command[0]} cannot end: the container was removed", self.logs()) from exc
        return found

    def kill(self) -> None:
        import docker

        # A conflict: it does not run.
        with contextlib.suppress(docker.errors.APIError):
            self._container.kill()

    def restart(self) -> None:
        import docker

        with self._removing:  # or it could start after its removal began
            if self._removed:
                raise ContainerError("the container cannot start again: it was removed", self._last_logs)
            try:
                self._container.restart()
            except docker.errors.APIError as exc:
                what = f"the container did not start again: {exc.explanation or exc}"
                raise ContainerError(what, self.logs()) from exc
            self._last_exit_code = None

    def remove(self, grace_s: float = 10.0) -> None:
        with self._removing:
            if not self._removed:
                self._remove(grace_s)
                self._removed = True
                reaper().unregister("container", self._session)

    def _remove(self, grace_s: float) -> None:
        import docker

        try:
            self._container.stop(timeout=math.ceil(grace_s))
            self.exit_code()
            self.out_of_memory()
            self.logs()
            self._container.remove(force=True, v=True)
        except docker.errors.APIError as exc:
            if exc.status_code == _NOT_FOUND or "already in progress" in str(exc):
                return
            raise ContainerError(f"the container {self.id[:12]} cannot be removed: {exc.explanation or exc}") from exc

    def _state(self) -> Mapping[str, Any] | None:
        import docker

        if self._removed:
            return None
        try:
            self._container.reload()
        except docker.errors.NotFound:
            return None
        state: Mapping[str, Any] = self._container.attrs["State"]
        return state
