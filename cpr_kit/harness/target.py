"""Whom `cpr check` asks, and with which of the project's own requests."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from cpr_kit.config import Config
from cpr_kit.contract import HEALTH_TIMEOUT_S, KIT_HEALTH_ROUTE, KIT_PREDICT_ROUTE
from cpr_kit.errors import UsageError
from cpr_kit.harness import client
from cpr_kit.harness.endpoint import REQUEST_TIMEOUT_S, LocalEndpoint

if TYPE_CHECKING:
    import requests


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One of the project's own requests, and what it expects: parsed JSON, text, or nothing."""

    name: str
    body: bytes
    content_type: str = client.JSON
    expect: Any = None

    @property
    def instances(self) -> int | None:
        """How many predictions Vertex AI's format promises for it, if it is in that format."""
        if not self.content_type.startswith(client.JSON):
            return None
        try:
            return len(orjson.loads(self.body)["instances"])
        except (ValueError, TypeError, KeyError):
            return None


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server that runs: where, and under which routes."""

    base_url: str
    predict_route: str = KIT_PREDICT_ROUTE
    health_route: str = KIT_HEALTH_ROUTE
    timeout_s: float = REQUEST_TIMEOUT_S

    @classmethod
    def of(cls, endpoint: LocalEndpoint) -> Target:
        launch = endpoint.launch
        return cls(base_url=endpoint.url, predict_route=launch.predict_route, health_route=launch.health_route)

    @classmethod
    def at(cls, url: str, *, predict_route: str | None = None, health_route: str | None = None) -> Target:
        """`http://host:port` has the kit's routes; a URL with a path names the predict route itself. Raises UsageError.

        What stands after "?" goes with each prediction, whatever its route: a key of a gateway's, say.
        """
        try:
            parts = urllib.parse.urlsplit(url)
            _ = parts.port  # it is looked at when it is asked for
        except ValueError as error:
            raise UsageError(f'"{url}" is no URL: {error}') from error
        if not parts.netloc:
            raise UsageError(f'"{url}" names no host')
        route = predict_route or (parts.path if parts.path.strip("/") else KIT_PREDICT_ROUTE)
        joint = "&" if "?" in route else "?"
        return cls(
            base_url=f"{parts.scheme}://{parts.netloc}",
            predict_route=f"{route}{joint}{parts.query}" if parts.query else route,
            health_route=health_route or KIT_HEALTH_ROUTE,
        )

    def health(self) -> requests.Response:
        return client.request("GET", self.base_url + self.health_route, timeout_s=HEALTH_TIMEOUT_S)

    def predict(self, body: bytes, content_type: str = client.JSON) -> requests.Response:
        headers = {"Content-Type": content_type}
        return client.send(self.base_url + self.predict_route, body, headers, self.timeout_s)


def samples_of(config: Config) -> tuple[Sample, ...]:
    """The [[check]] sections of a project. Raises UsageError for a file that is not there."""
    return tuple(
        Sample(
            name=check.request,
            body=_read(config.folder / check.request),
            content_type=check.content_type,
            expect=None if check.expect is None else _expected(config.folder / check.expect),
        )
        for check in config.checks
    )


def _expected(path: Path) -> Any:
    content = _read(path)
    if path.suffix.lower() != ".json":
        return content.decode(errors="replace")
    try:
        return orjson.loads(content)
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}, named in cpr.toml, cannot be read: {error.strerror}") from error
