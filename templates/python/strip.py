"""strip.py FOLDER NAME...: take what no loader reads off the shared libraries of these packages, as `strip` would.

Symbols and debug information stand behind the last segment that is loaded; uvloop and simdjson are nine tenths that.
Slim images have no binutils. Only packages are named here whose libraries have been tried without.
"""

import pathlib
import struct
import sys

_MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little endian
_SECTIONS_AT, _SEGMENTS_AT, _SECTION_COUNTS_AT, _SEGMENT_SIZE_AT = 40, 32, 60, 54


def stripped(content: bytes) -> bytes:
    """The library without sections; anything else as it is."""
    if not content.startswith(_MAGIC):
        return content
    (first,) = struct.unpack_from("<Q", content, _SEGMENTS_AT)
    size, count = struct.unpack_from("<HH", content, _SEGMENT_SIZE_AT)
    headers = (struct.unpack_from("<8xQ16xQ", content, first + number * size) for number in range(count))
    end = max(offset + length for offset, length in headers)
    kept = bytearray(content[:end])
    struct.pack_into("<Q", kept, _SECTIONS_AT, 0)
    struct.pack_into("<HH", kept, _SECTION_COUNTS_AT, 0, 0)
    return bytes(kept)


def libraries(path: pathlib.Path) -> list:
    return [path] if path.is_file() else sorted(path.rglob("*.so*")) if path.is_dir() else []


def main(folder: str, *names: str) -> None:
    for name in names:
        for library in libraries(pathlib.Path(folder, name)):
            if not library.is_symlink():
                library.write_bytes(stripped(library.read_bytes()))


if __name__ == "__main__":
    main(*sys.argv[1:])
