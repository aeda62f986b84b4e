"""The files of an image, by either engine, with nothing of it run."""

from __future__ import annotations

import io
import tarfile

import pytest
from contexts import write_context
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.engine import archive
from cpr_kit.engine.protocol import Build
from cpr_kit.errors import LackingError

TAG = "cpr-kit-tests/files:1"
DOCKERFILE = "FROM scratch\nCOPY kit /opt/kit/\n"


def test_the_files_that_are_wanted_come_with_their_paths(engine, tmp_path):
    context = write_context(tmp_path / "context")
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "kit" / "link").symlink_to("tiny.py")
    engine.build(Build(context=context, tag=TAG), lambda _: None)
    try:
        found = dict(engine.files(TAG, lambda path: path.startswith("opt/kit/")))
        again = dict(engine.files(TAG, lambda path: path.startswith("opt/kit/")))
        some = list(engine.files(TAG, lambda path: path.endswith("/METADATA") and "tiny" in path))
        none = list(engine.files(TAG, lambda _: False))
    finally:
        engine.remove_image(TAG)
    assert found == again
    assert all(isinstance(content, bytes) for content in found.values())
    assert none == []
    if engine.name == "process":
        assert found["opt/kit/tiny.py"] == b"VALUE = 1\n"
        assert [path for path, _ in some] == ["opt/kit/tiny-1.0.dist-info/METADATA"]
    else:
        assert set(found) == {"opt/kit/tiny-1.0-py3-none-any.whl"}


def test_there_are_no_files_of_no_image(engine):
    with pytest.raises(LackingError, match="cpr-kit-tests/none:1"):
        list(engine.files("cpr-kit-tests/none:1", lambda _: True))


NAMES = st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}){0,2}\.f", fullmatch=True)


@given(st.dictionaries(NAMES, st.binary(max_size=3000), max_size=6), st.integers(1, 5000))
def test_an_archive_is_read_whatever_its_chunks(files, size):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    data = buffer.getvalue()
    chunks = (data[start : start + size] for start in range(0, len(data), size))
    assert dict(archive.files(chunks, lambda _: True)) == files
