"""The calls on buckets and objects, without HTTP: each is done wholly or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from cpr_kit.emulator.storage import errors, listing, names
from cpr_kit.emulator.storage.conditions import NONE, Conditions
from cpr_kit.emulator.storage.contents import CHUNK, Contents, Digest, Draft
from cpr_kit.emulator.storage.index import Index
from cpr_kit.emulator.storage.records import BUCKET_KEEPS, Bucket, Object, merged

_COMPONENTS = 32


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One object that a call is about, and what must hold of it."""

    bucket: str
    name: str
    generation: int | None = None
    conditions: Conditions = NONE


@dataclass(frozen=True, kw_only=True)
class NewObject:
    """What a caller wants to write, and the checksums that he says it has."""

    bucket: str
    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    conditions: Conditions = NONE
    crc32c: str | None = None
    md5: str | None = None

    def verify(self, digest: Digest) -> None:
        for name, told, found in (("CRC32C", self.crc32c, digest.crc32c), ("MD5", self.md5, digest.md5)):
            if told is not None and told != found:
                raise errors.invalid(f'Provided {name} "{told}" doesn\'t match calculated {name} "{found}".')


class Objects:
    """Threads may share it."""

    def __init__(self, index: Index, contents: Contents) -> None:
        self._index = index
        self._contents = contents
        self._last = index.last_generation()

    # Buckets

    def bucket(self, name: str, conditions: Conditions = NONE, *, reading: bool = True) -> Bucket:
        found = self._index.bucket(names.check_bucket(name))
        if found is None:
            raise errors.no_bucket()
        conditions.check(found, reading=reading)
        return found

    def buckets(self, start: str, limit: int) -> list[Bucket]:
        return self._index.buckets(start, limit)

    def make_bucket(self, name: str, fields: Mapping[str, Any]) -> Bucket:
        with self._index.alone():
            if self._index.bucket(name) is not None:
                raise errors.conflict(
                    "Your previous request to create the named bucket succeeded and you already own it."
                )
            now = self._now()
            new = Bucket(name=name, generation=now, metageneration=1, updated=now, fields=merged({}, fields))
            self._index.put_bucket(new)
        return new

    def ensure_bucket(self, name: str) -> None:
        with self._index.alone():
            if self._index.bucket(name) is None:
                self.make_bucket(name, {})

    def change_bucket(self, name: str, fields: Mapping[str, Any], conditions: Conditions, *, whole: bool) -> Bucket:
        """`whole`: the fields instead of those that it has, and not over them."""
        with self._index.alone():
            old = self.bucket(name, conditions, reading=False)
            kept = {name: value for name, value in old.fields.items() if name in BUCKET_KEEPS or not whole}
            new = dataclasses.replace(
                old,
                fields=merged(kept, fields),
                metageneration=old.metageneration + 1,
                updated=self._now(),
            )
            self._index.put_bucket(new)
        return new

    def remove_bucket(self, name: str, conditions: Conditions) -> None:
        with self._index.alone():
            self.bucket(name, conditions, reading=False)
            if self._index.objects(name, b"", 1):
                raise errors.conflict("The bucket you tried to delete is not empty.")
            self._index.drop_bucket(name)

    # Objects

    def find(self, wanted: Reference, *, reading: bool = True) -> Object:
        found = self._index.named(names.check_bucket(wanted.bucket), names.check_object(wanted.name))
        if found is None or wanted.generation not in (None, found.generation):
            self.bucket(wanted.bucket)
            raise errors.no_object(wanted.bucket, wanted.name)
        wanted.conditions.check(found, reading=reading)
        return found

    def open(self, wanted: Reference, closer: contextlib.ExitStack | None = None) -> tuple[Object, BinaryIO]:
        """The object and its bytes, which stay these whatever is written meanwhile. `closer` will close the file."""
        with self._index.alone():
            found = self.find(wanted, reading=closer is None)
            file = self._contents.open(found.content)
        return found, closer.enter_context(file) if closer else file

    def page(self, bucket: str, query: listing.Query) -> listing.Page:
        with self._index.alone():
            self.bucket(bucket)
            return listing.page(query, lambda start, limit: self._index.objects(bucket, start, limit))

    def draft(self) -> Draft:
        return self._contents.draft()

    def may_put(self, new: NewObject) -> None:
        """Raise now what `put` would, before its bytes are sent."""
        names.check_object(new.name)
        with self._index.alone():
            self.bucket(new.bucket)
            new.conditions.check(self._index.named(new.bucket, new.name))

    def put(
        self,
        new: NewObject,
        draft: Draft,
        *,
        components: int | None = None,
        also: Callable[[Object], None] = lambda _: None,
    ) -> Object:
        """The draft becomes the object. `also` is done in the same step."""
        names.check_object(new.name)
        digest = draft.digest()
        new.verify(digest)
        with self._replacing() as replaced:
            key = replaced.new(self._contents.keep(draft))
            with self._index.alone():
                self.bucket(new.bucket)
                replaced.old(self._index.named(new.bucket, new.name), new.conditions)
                now = self._generation()
                found = Object(
                    bucket=new.bucket, name=new.name, generation=now, metageneration=1, created=now, updated=now,
                    content=key, size=digest.size, crc32c=digest.crc32c, md5=None if components else digest.md5,
                    components=components, fields=merged({}, new.fields),
                )  # fmt: skip
                self._index.put_object(found)
                also(found)
        return found

    def change(self, wanted: Reference, fields: Mapping[str, Any], *, whole: bool) -> Object:
        with self._index.alone():
            old = self.find(wanted, reading=False)
            new = dataclasses.replace(
                old,
                fields=merged({} if whole else old.fields, fields),
                metageneration=old.metageneration + 1,
                updated=self._now(),
            )
            self._index.put_object(new)
        return new

    def remove(self, wanted: Reference) -> None:
        with self._replacing() as replaced, self._index.alone():
            old = self.find(wanted, reading=False)
            replaced.old(old)
            self._index.drop_object(old)

    def copy(self, source: Reference, target: NewObject, *, move: bool = False) -> Object:
        """The target's fields are the source's where it has none. A copy shares the source's bytes."""
        names.check_object(target.name)
        with self._replacing() as replaced, self._index.alone():
            found = self.find(source, reading=False)
            self.bucket(target.bucket)
            replaced.old(self._index.named(target.bucket, target.name), target.conditions)
            key = replaced.new(self._contents.link(found.content))
            new = self._version(found, target.bucket, target.name, key, merged({}, target.fields) or found.fields)
            if move:
                replaced.old(found)
                self._index.drop_object(found)
            self._index.put_object(new)
        return new

    def copy_all(self, bucket: str, prefix: str, target_bucket: str, target_prefix: str) -> int:
        """All objects below one prefix to another, in one step: no change of the source comes between."""
        with self._replacing() as replaced, self._index.alone():
            found = list(self.below(bucket, prefix))
            for old in found:
                name = names.check_object(target_prefix + old.name[len(prefix) :])
                replaced.old(self._index.named(target_bucket, name))
                key = replaced.new(self._contents.link(old.content))
                self._index.put_object(self._version(old, target_bucket, name, key, old.fields))
        return len(found)

    def below(self, bucket: str, prefix: str) -> Iterator[Object]:
        """Every object whose name starts with the prefix, in order; none where there is no such bucket."""
        query = listing.Query(prefix=prefix.encode())
        while True:
            page = listing.page(query, lambda start, limit: self._index.objects(bucket, start, limit))
            yield from page.items
            if page.token is None:
                return
            query = dataclasses.replace(query, token=page.token)

    def compose(self, sources: Sequence[Reference], target: NewObject) -> Object:
        """The sources' bytes one after the other: "Composite objects"."""
        if not 1 <= len(sources) <= _COMPONENTS:
            raise errors.invalid(
                f"The number of source components provided ({len(sources)}) is not between 1 and {_COMPONENTS}."
            )
        self.may_put(target)
        with contextlib.ExitStack() as stack:
            draft = stack.enter_context(self.draft())
            with self._index.alone():
                opened = [self.open(source, stack) for source in sources]
            for _, file in opened:
                while chunk := file.read(CHUNK):
                    draft.write([chunk])
            return self.put(target, draft, components=sum(found.components or 1 for found, _ in opened))

    @contextlib.contextmanager
    def _replacing(self) -> Iterator[_Replaced]:
        """Around a step on the index: once it is done the old contents go, and the new ones if it fails."""
        replaced = _Replaced()
        try:
            yield replaced
        except BaseException:
            for key in replaced.news:
                self._contents.remove(key)
            raise
        for key in replaced.olds:
            self._contents.remove(key)

    def _version(self, old: Object, bucket: str, name: str, key: str, fields: Mapping[str, Any]) -> Object:
        """A copy of the object, as new as one that was sent."""
        now = self._generation()
        return dataclasses.replace(
            old, bucket=bucket, name=name, generation=now, metageneration=1, created=now, updated=now, content=key,
            fields=fields,
        )  # fmt: skip

    def _generation(self) -> int:
        """A version's number: the time, as the service's are, but never the same twice. Called in a step."""
        self._last = max(self._now(), self._last + 1)
        return self._last

    def _now(self) -> int:
        return time.time_ns() // 1000


class _Replaced:
    """Keys of contents that a step makes, and of those that nothing names after it."""

    def __init__(self) -> None:
        self.news: list[str] = []
        self.olds: list[str] = []

    def new(self, key: str) -> str:
        self.news.append(key)
        return key

    def old(self, found: Object | None, conditions: Conditions = NONE) -> None:
        """What is there now, if the conditions let it be replaced."""
        conditions.check(found)
        if found is not None:
            self.olds.append(found.content)
