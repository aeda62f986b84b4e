"""Rows from the user's files."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.convert import rows
from cpr_kit.errors import UsageError


def write(folder, name, content):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "1,2\n3,4\n"),
        ("a.csv", "x,y\r\n1,2\r\n\r\n3,4"),
        ("a.csv", '\ufeff"x","y, z"\n1,2\n3,4\n'),
        ("a.json", "[[1,2],[3,4]]"),
        ("a.json", '{"instances": [[1,2],[3,4]]}'),
    ],
)
def test_each_form(tmp_path, name, content):
    assert rows.read(write(tmp_path, name, content)).tolist() == [[1, 2], [3, 4]]


def test_gaps_become_nan(tmp_path):
    for name, content in (("a.csv", "1,\nNaN,4\n"), ("a.json", "[[1,null],[null,4]]")):
        found = rows.read(write(tmp_path, name, content))
        assert np.isnan(found).tolist() == [[False, True], [True, False]]


def test_npy(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[1, 2]], dtype=np.int32))
    assert rows.read(tmp_path / "a.npy").tolist() == [[1, 2]]


def test_pickled_npy_is_never_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[1, None]], dtype=object), allow_pickle=True)
    with pytest.raises(UsageError, match="a.npy holds no rows of numbers"):
        rows.read(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "x,y\n1,2\n3,red\n", 'a.csv line 3, column 2 is "red", which is no number'),
        ("a.csv", "1,2\n3\n", "one length"),
        ("a.csv", "", "shape"),
        ("a.csv", "x,y\n", "shape"),
        ("a.csv", b"\xff\xfe", "no rows"),
        ("a.json", "{", "no rows"),
        ("a.json", '{"rows": []}', "no rows"),
        ("a.json", "[1, 2]", "shape"),
        ("a.npy", b"", "no rows"),
        ("a.txt", "1", "must end in one of .csv, .npy, .json"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, content, message):
    with pytest.raises(UsageError, match=message):
        rows.read(write(tmp_path, name, content))


@given(st.lists(st.lists(st.floats(allow_infinity=False), min_size=2, max_size=2), min_size=1, max_size=5))
def test_all_forms_say_the_same(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("rows")
    expected = np.array(values)
    np.save(folder / "a.npy", expected)
    write(folder, "a.csv", "\n".join(",".join(map(repr, row)) for row in values))
    write(folder, "a.json", json.dumps([[None if x != x else x for x in row] for row in values]))
    for suffix in rows.SUFFIXES:
        assert np.array_equal(rows.read(folder / f"a{suffix}"), expected, equal_nan=True)
