"""An image from one registry to another by its digest: no engine, no unpacking, and the same digest there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cpr_kit.deploy.registry.client import Client, Manifest
from cpr_kit.deploy.registry.names import Name, asked_at, stays_in_engine
from cpr_kit.deploy.registry.progress import Progress, megabytes
from cpr_kit.deploy.registry.push import push
from cpr_kit.deploy.registry.remote import Remote, described
from cpr_kit.deploy.vertex.calls import Report, silent
from cpr_kit.engine.protocol import Engine
from cpr_kit.errors import RegistryError


def mirror(source: str, target: str, report: Report = silent, *, engine: Engine | None = None) -> Remote:
    """Copy what `target` lacks of `source`; what is at `target` then, under the source's tag where it names none.

    An index is copied with all that it lists. What was copied before the connection broke is not copied again.
    `engine` is asked only under `cpr emulate` without a registry, where images stay in it.
    """
    Name.parse(source)
    if stays_in_engine(target):
        return push(engine or _engine(), target, source=source, report=report)
    there = asked_at(source)
    here = _versioned(asked_at(target), there)
    named = str(_versioned(Name.parse(target), there))
    with Client(there) as reader, Client(here, write=True, also=_neighbour(there, here)) as writer:
        manifest = reader.manifest(there.version)
        if manifest is None:
            raise RegistryError(f"{there.host} has no {source}", "look at the name and the tag, or push it first")
        if here.digest and here.digest != manifest.digest:
            raise RegistryError(f"{source} is {manifest.digest}, not {here.digest}", "leave the target's digest away")
        present = writer.manifest(here.version)
        if present is not None and present.digest == manifest.digest:
            report(f"{named} is there already: {manifest.digest}")
            return described(writer, manifest, named)
        report(f"copying {source} to {named}: {manifest.digest}")
        copied = _Copy(reader, writer, report)
        copied.image(manifest, here.version)
        report(f"{named}: {copied.sent} blobs copied ({megabytes(copied.size)}), {copied.kept} were there already")
        arrived = writer.manifest(here.version)
        if arrived is None or arrived.digest != manifest.digest:
            raise RegistryError(
                f"{manifest.digest} was copied to {named}, but {arrived.digest if arrived else 'nothing'} is there",
                "somebody else pushed the same name at the same time; copy it again",
            )
        return described(writer, manifest, named)


def _engine() -> Engine:
    from cpr_kit.engine.choose import choose

    return choose().engine


def _versioned(target: Name, source: Name) -> Name:
    """With the source's tag where the target names none; by the digest alone where the source has none either."""
    return target if target.tag or target.digest else target.at(source.tag or source.digest or "latest")


def _neighbour(source: Name, target: Name) -> Name | None:
    """The source, where one registry has both: it can take a blob over by itself."""
    return source if source.host == target.host and source.repository != target.repository else None


class _Copy:
    """Blobs first, then the manifests that name them, an index last: nothing ever points at what is missing."""

    def __init__(self, reader: Client, writer: Client, report: Report) -> None:
        self._reader = reader
        self._writer = writer
        self._report = report
        self._neighbour = _neighbour(reader.name, writer.name)
        self._done: set[str] = set()
        self.sent = self.kept = self.size = 0

    def image(self, manifest: Manifest, version: str) -> None:
        content = manifest.content
        for child in content.get("manifests", ()):
            self._child(child)
        for blob in (content.get("config"), *content.get("layers", ())):
            # Layers with URLs are fetched from there, and no registry takes them (Windows' base layers).
            if blob is not None and not blob.get("urls"):
                self._blob(blob)
        self._writer.put_manifest(manifest, version)

    def _child(self, child: Mapping[str, Any]) -> None:
        digest = str(child["digest"])
        if self._writer.manifest(digest) is not None:
            return
        found = self._reader.manifest(digest)
        if found is None:
            raise RegistryError(
                f"{self._reader.name} lists {digest}, but {self._reader.name.host} does not have it",
                "push the image again",
            )
        self.image(found, digest)

    def _blob(self, blob: Mapping[str, Any]) -> None:
        digest, size = str(blob["digest"]), int(blob["size"])
        if digest in self._done:
            return
        self._done.add(digest)
        if self._writer.has_blob(digest):
            self.kept += 1
            return
        location = self._writer.start(digest, self._neighbour)
        if location is None:  # the registry took it over from its other repository
            self.kept += 1
            return
        self.sent += 1
        self.size += size
        progress = Progress(self._report, f"copying {digest[7:19]}", size)

        def pieces() -> Iterator[bytes]:
            for piece in self._reader.blob(digest, size):
                yield piece
                progress.add(len(piece))

        self._writer.put_blob(digest, size, pieces, location=location)
