"""Manifests and blobs of one repository, by the OCI Distribution Specification: what is there, read, written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin

from cpr_kit.deploy.registry.names import Name
from cpr_kit.deploy.registry.transport import TRANSIENT, Dropped, Transport
from cpr_kit.errors import RegistryError

if TYPE_CHECKING:
    import requests

INDEXES = ("application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.oci.image.index.v1+json")
MANIFESTS = ("application/vnd.docker.distribution.manifest.v2+json", "application/vnd.oci.image.manifest.v1+json")
_ACCEPT = {"Accept": ", ".join((*MANIFESTS, *INDEXES))}
_OK, _CREATED, _ACCEPTED, _PARTIAL, _NOT_FOUND = 200, 201, 202, 206, 404
_PIECE = 1 << 20
_ATTEMPTS = 4
_PAUSE_S = 0.5
_C = TypeVar("_C", bound="Client")


@dataclass(frozen=True)
class Manifest:
    """As the registry holds it, byte for byte: its digest is its name."""

    media_type: str
    body: bytes

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.body).hexdigest()}"

    @property
    def content(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEXES


class Client:
    """One repository of a registry. Raises RegistryError from all methods; `Dropped` where trying again may help."""

    def __init__(self, name: Name, *, write: bool = False, also: Name | None = None) -> None:
        self.name = name
        self._transport = Transport(name, actions="pull,push" if write else "pull", also=also)

    def __enter__(self: _C) -> _C:
        return self

    def __exit__(self, *_: object) -> None:
        self._transport.close()

    def manifest(self, version: str) -> Manifest | None:
        """By tag or digest; None where the registry has none, or no such repository."""
        response = self._transport.send("GET", f"manifests/{version}", headers=_ACCEPT)
        if response.status_code == _NOT_FOUND:
            return None
        if response.status_code != _OK:
            raise self._transport.refusal(response, f"give {self.name.at(version)}")
        media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        found = Manifest(media_type, response.content)
        if media_type not in (*MANIFESTS, *INDEXES):
            raise RegistryError(
                f"{self.name.at(version)} is a manifest of the kind {media_type or '(none)'}",
                "push the image again with a current docker; Vertex AI takes Docker's version 2 and OCI images",
            )
        expected = version if version.startswith("sha256:") else response.headers.get("Docker-Content-Digest")
        if expected not in (None, found.digest):
            raise RegistryError(
                f"{self.name.at(version)} arrived as {found.digest}, but is {expected}", "run this again"
            )
        return found

    def put_manifest(self, manifest: Manifest, version: str) -> None:
        """Under a tag, or under its own digest alone."""
        headers = {"Content-Type": manifest.media_type}
        response = self._transport.send("PUT", f"manifests/{version}", data=manifest.body, headers=headers)
        if response.status_code not in (_OK, _CREATED):
            raise self._transport.refusal(response, f"take {self.name.at(version)}")

    def has_blob(self, digest: str) -> bool:
        response = self._transport.send("HEAD", f"blobs/{digest}", allow_redirects=True)
        if response.status_code in (_OK, _NOT_FOUND):
            return response.status_code == _OK
        raise self._transport.refusal(response, f"say whether it has {digest}")

    def blob(self, digest: str, size: int) -> Iterator[bytes]:
        """In pieces. A connection that breaks is taken up where it broke."""
        done, failures = 0, 0
        while done < size:
            before = done
            try:
                for piece in self._pieces(digest, done):
                    done += len(piece)
                    yield piece
            except Dropped:
                failures = 1 if done > before else failures + 1
                if failures == _ATTEMPTS:
                    raise
                time.sleep(_PAUSE_S * 2 ** (failures - 1))
            else:
                if done != size:
                    raise RegistryError(f"{digest} has {done} bytes at {self.name.host}, not {size}", "push it again")

    def _pieces(self, digest: str, start: int) -> Iterator[bytes]:
        import requests

        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._transport.send("GET", f"blobs/{digest}", headers=headers, stream=True) as response:
            if response.status_code not in (_OK, _PARTIAL):
                raise self._transport.refusal(response, f"give {digest}")
            skipped = start if response.status_code == _OK else 0  # of a registry that knows no ranges
            try:
                for piece in response.iter_content(_PIECE):
                    wanted = piece[skipped:]
                    skipped -= len(piece) - len(wanted)
                    if wanted:
                        yield wanted
            except requests.RequestException as error:
                raise Dropped(self._transport.unreachable(error)) from error

    def small_blob(self, digest: str, size: int) -> bytes:
        """A configuration; checked against its digest."""
        body = b"".join(self.blob(digest, size))
        if f"sha256:{hashlib.sha256(body).hexdigest()}" != digest:
            raise RegistryError(f"{digest} of {self.name.path} arrived as something else", "run this again")
        return body

    def start(self, mount: str | None = None, source: Name | None = None) -> str | None:
        """Begin an upload: its URL. None where the registry took the blob `mount` over from `source`."""
        params = {"mount": mount, "from": source.repository} if mount and source else None
        response = self._transport.send("POST", "blobs/uploads/", params=params, headers={"Content-Length": "0"})
        if response.status_code == _CREATED and params:
            return None
        if response.status_code != _ACCEPTED:
            raise self._transport.refusal(response, f"take images for {self.name.path}")
        return self._next(response)

    def may_write(self) -> requests.Response | None:
        """Begin an upload and give it up: None where that is allowed, else what the registry answered."""
        response = self._transport.send("POST", "blobs/uploads/", headers={"Content-Length": "0"})
        if response.status_code != _ACCEPTED:
            return response
        with contextlib.suppress(RegistryError):  # the registry clears away what nobody goes on with
            self._transport.send("DELETE", self._next(response))
        return None

    def refusal(self, response: requests.Response, doing: str) -> RegistryError:
        return self._transport.refusal(response, doing)

    def put_blob(
        self, digest: str, size: int, body: Callable[[], Iterator[bytes]], *, location: str | None = None
    ) -> None:
        """Send a blob; `body` gives it anew for each attempt. `location` is an upload that was begun already."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._send(digest, size, body, location or str(self.start()))
            except Dropped:
                location = None
                if attempt == _ATTEMPTS:
                    raise
                time.sleep(_PAUSE_S * 2 ** (attempt - 1))
                if self.has_blob(digest):  # it arrived, and the answer was lost
                    return
            else:
                return

    def _send(self, digest: str, size: int, body: Callable[[], Iterator[bytes]], location: str) -> None:
        """One PATCH in one stream and the PUT that ends it, as docker sends it: every registry knows that way."""
        headers = {"Content-Type": "application/octet-stream"}
        sent = self._transport.send("PATCH", location, data=_Body(size, body), headers=headers)
        if sent.status_code in TRANSIENT:
            raise Dropped(self._transport.refusal(sent, f"take {digest}"))
        if sent.status_code not in (_ACCEPTED, _CREATED):
            raise self._transport.refusal(sent, f"take {digest}")
        response = self._transport.send(
            "PUT", self._next(sent), params={"digest": digest}, headers={"Content-Length": "0"}
        )
        if response.status_code == _NOT_FOUND:  # the PUT was repeated after an answer was lost, or the upload is gone
            raise Dropped(self._transport.refusal(response, f"take {digest}"))
        if response.status_code != _CREATED:
            raise self._transport.refusal(response, f"take {digest}")

    def _next(self, response: requests.Response) -> str:
        location = response.headers.get("Location")
        if not location:
            raise RegistryError(f"{self.name.host} began an upload, but said not where", "look at that registry's log")
        return urljoin(str(response.url), location)


class _Body:
    """A body of known length that requests can send, and send again from its start."""

    def __init__(self, size: int, pieces: Callable[[], Iterator[bytes]]) -> None:
        self.len = size
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces()
