"""A tar archive that comes in chunks, read as it comes."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable, Iterator


def files(chunks: Iterable[bytes], wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """The regular files whose path, without a leading slash, is `wanted`."""
    with tarfile.open(fileobj=_Stream(chunks), mode="r|") as archive:  # type: ignore[call-overload]
        for member in archive:
            name = member.name.removeprefix("./").lstrip("/")
            if member.isreg() and wanted(name):
                content = archive.extractfile(member)
                assert content is not None
                yield name, content.read()


class _Stream:
    """What tarfile reads from."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def read(self, size: int) -> bytes:
        """`size` bytes; fewer at the end alone."""
        parts = [self._rest]
        have = len(self._rest)
        while have < size and (chunk := next(self._chunks, b"")):
            parts.append(chunk)
            have += len(chunk)
        data = b"".join(parts)
        self._rest = data[size:]
        return data[:size]
