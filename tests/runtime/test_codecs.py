"""Every format through one suite: what comes back is what went, and no body does anything but a 4xx."""

import csv
import io
import json
import pickle

import msgpack
import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from cpr_kit.errors import RequestError
from cpr_kit.runtime import instances
from cpr_kit.runtime.codecs import table
from cpr_kit.runtime.codecs.codec import MAX_DEPTH, Body
from cpr_kit.runtime.codecs.table import CODECS, Wants, decode, encode

JSON, LINES, CSV, NPY = "application/json", "application/jsonl", "text/csv", "application/x-npy"
MSGPACK, ARROW = "application/msgpack", "application/vnd.apache.arrow.stream"
TYPES = [name for codec in CODECS for name in codec.types]
# What a predictor answers is what its caller may send: `encode` of one is `decode` of the other.
AS_OBJECT = {JSON, MSGPACK, "application/x-msgpack"}
LISTS, ARRAY = Wants(), Wants(array=True)

finite = st.floats(allow_nan=False, allow_infinity=False)
matrices = npst.arrays(np.float64, npst.array_shapes(min_dims=2, max_dims=2, max_side=5), elements=finite)


def body_of(rows, kind):
    value = {"instances": rows} if kind in AS_OBJECT else rows
    return encode(value, kind)[0]


def refusal(body, kind, wants=LISTS):
    with pytest.raises(RequestError) as error:
        decode(body, kind, wants)
    return error.value.status_code, str(error.value)


@pytest.mark.parametrize("kind", TYPES)
@given(matrix=matrices)
def test_numbers_come_back_from_every_format_as_they_went(kind, matrix):
    for rows in (matrix, matrix.tolist()):
        body = body_of(rows, kind)
        array = decode(body, kind, ARRAY)["instances"]
        assert isinstance(array, np.ndarray)
        assert array.dtype == np.float64
        assert array.flags.writeable
        assert array.shape == matrix.shape
        assert np.array_equal(array, matrix)
        lists = decode(body, kind, LISTS)["instances"]
        assert type(lists) is list
        assert lists == matrix.tolist()


@pytest.mark.parametrize("kind", sorted(set(TYPES) - {NPY}))
@given(
    rows=st.integers(1, 4).flatmap(
        lambda width: st.lists(
            st.tuples(
                # A field of CSV has no type, so this text is none that reads as a number or as null there.
                st.text("abcdeé \n\r,\"'é", min_size=1).map(lambda text: f"x{text}x"),
                st.integers(-(2**53), 2**53),
                *[finite] * width,
            ).map(list),
            min_size=1,
            max_size=4,
        )
    )
)
def test_rows_with_text_come_back_from_every_format_that_has_text(kind, rows):
    for wants in (LISTS, ARRAY):
        assert decode(body_of(rows, kind), kind, wants)["instances"] == rows


@given(
    npst.arrays(
        npst.scalar_dtypes().filter(lambda dtype: dtype.kind in "biuf" and dtype.itemsize <= 8),
        npst.array_shapes(max_dims=8, max_side=3),
    ),
    st.sampled_from([(1, 0), (2, 0), (3, 0)]),
    st.booleans(),
)
def test_npy_of_numpys_own_making_is_read(array, version, fortran):
    file = io.BytesIO()
    array = np.asfortranarray(array) if fortran else array
    np.lib.format.write_array(file, array, version=version, allow_pickle=False)
    read = decode(file.getvalue(), NPY, ARRAY)["instances"]
    assert read.shape == array.shape
    assert np.array_equal(read, array.astype(float) if array.ndim == 2 else array, equal_nan=True)


@given(npst.arrays(np.float64, npst.array_shapes(max_dims=3, max_side=4), elements=finite))
def test_npy_answers_are_what_numpy_loads(array):
    content, kind = encode({"predictions": array}, NPY)
    assert kind == NPY
    assert np.array_equal(np.load(io.BytesIO(content), allow_pickle=False), array)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a request was unpickled",))


def npy(descr, shape, data=b"", *, magic=b"\x93NUMPY\x01\x00", fortran="False"):
    header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return magic + len(header).to_bytes(2, "little") + header + data


def saved(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize("wants", [LISTS, ARRAY])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (saved(np.array([[Bomb()]], dtype=object)), "objects, structures and text are not read"),
        (npy("'|O'", "(1, 1)", pickle.dumps(Bomb())), "objects, structures and text"),
        (pickle.dumps(Bomb()), "no .npy file"),
        (saved(np.zeros(2, dtype=[("a", "f8"), ("b", "O")])), "objects, structures and text"),
        (saved(np.array(["text"])), "objects, structures and text"),
        (npy("'<f8'", "(1, 4)", b"\0" * 31), "asks for 32 bytes; 31 are there"),
        (npy("'<f8'", "(1, 4)", b"\0" * 33), "asks for 32 bytes; 33 are there"),
        (npy("'<f8'", "(1000000, 1000000)"), "asks for 8000000000000 bytes; 0 are there"),
        (npy("'<f8'", f"({'9' * 30},)"), "no list of sizes"),
        (npy("'<f8'", "(-1,)"), "does not describe"),
        (npy("'<f8'", f"({'1, ' * 9})", b"\0" * 8), "has 9 dimensions; at most 8"),
        (npy("'<f8'", "()", b"\0" * 8), "no dimension"),
        (npy("'<f8'", "(1,)", b"\0" * 8, magic=b"\x93NUMPY\x09\x00"), "no .npy file of version"),
        (npy("'<f8'", "__import__('os').abort()", b"\0" * 8), "does not describe"),
        (npy("'<f8'", "(" * 50, b"\0" * 8), "does not describe"),
        (npy("'<f8'", "(1,)", b"\0" * 8, fortran="'False'"), "does not describe"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "cut off"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "cut off"),
        (b"\x93NUMPY", "no .npy file"),
        (b"", "no .npy file"),
    ],
)
def test_npy_that_is_no_plain_array_is_refused(wants, body, message):
    status, said = refusal(body, NPY, wants)
    assert status == 400
    assert message in said


@given(st.binary(max_size=200), st.integers(0, 300))
def test_no_change_of_an_npy_body_gets_past(noise, place):
    body = bytearray(saved(np.arange(8.0).reshape(2, 4)))
    body[place : place + len(noise)] = noise
    with_errors_of_the_caller(bytes(body), NPY)


@pytest.mark.parametrize(
    ("body", "header", "rows"),
    [
        (b"1,2\n3,4\n", "", [[1, 2], [3, 4]]),
        (b"1,2\r\n3,4.5", "", [[1, 2], [3, 4.5]]),
        (b"a,b\n1,2\n", "", [[1, 2]]),
        (b"a,b\n1,2\n", "; header=absent", [["a", "b"], [1, 2]]),
        (b"1,2\n3,4\n", "; header=present", [[3, 4]]),
        (b'a,"b"\n1,2\n', "", [[1, 2]]),
        (b"a,2\n3,4\n", "", [["a", 2], [3, 4]]),
        (b"red,x\nblue,y\n", "", [["red", "x"], ["blue", "y"]]),
        (b"red\nblue\n", "; header=present", [["blue"]]),
        (b'"a ""b"", c",1\n', "", [['a "b", c', 1]]),
        (b'"two\nlines",1\n', "", [["two\nlines", 1]]),
        (b"\xef\xbb\xbf1,2\n", "", [[1, 2]]),
        (b"1,,x\n", "", [[1, None, "x"]]),
        (b",1\n,2\n", "", [[None, 1], [None, 2]]),
        (b"1,\n2,\n", "", [[1, None], [2, None]]),
        (b"\n1,2\n\n3,4\n\n", "", [[1, 2], [3, 4]]),
        (b"+1, -2.5e3,.5,7.\n", "", [[1, -2500.0, 0.5, 7.0]]),
        (b"nan,inf,1_000,0x10\n", "", [["nan", "inf", "1_000", "0x10"]]),
        (b"-,+,.,1-2\n", "", [["-", "+", ".", "1-2"]]),
        ("\u0661,\u0662\n".encode(), "", [["\u0661", "\u0662"]]),
        (b"12345678901234567890\n", "", [[12345678901234567890]]),
        (b"12345678901234567890,x\n", "", [[12345678901234567890, "x"]]),
        (b"99999999999999999999,x\n", "", [[1e20, "x"]]),
        (b"99999999999999999999\n", "", [[1e20]]),
    ],
)
def test_csv_is_read(body, header, rows):
    read = decode(body, f"text/csv{header}", LISTS)["instances"]
    assert read == rows
    assert [list(map(type, row)) for row in read] == [list(map(type, row)) for row in rows]


@pytest.mark.parametrize(
    ("body", "message", "wants"),
    [
        (b"1,2\n3\n", "line 2 has 1 columns; 2 are wanted", LISTS),
        (b"a,b\n1,2,3\n4,5,6\n", "line 2 has 3 columns; 2 are wanted", LISTS),
        (b"a,b\n1,2\n\n3,4,5\n", "line 4 has 3 columns; 2 are wanted", LISTS),
        (b'a,b\n1,"2\n3,4\n', "line 3 is no CSV", LISTS),
        (b'1,"2"3\n', "line 1 is no CSV", LISTS),
        (b"1,2\n3,four\n", "line 2 column 2 is text; the lines before have a number", ARRAY),
        (b"x,1\ny,2\n3,4\n", "line 3 column 1 is a number; the lines before have text", ARRAY),
        (b"1,2\n3,1e999\n", "line 2 column 2 is a number beyond", ARRAY),
        (b"1,2\n3,\xff\n", "not UTF-8: byte 6", LISTS),
        (b"", "no row", LISTS),
        (b"\n\n", "no row", LISTS),
        (b"a,b\n", "no row", Wants(array=True)),
        (b"x" * 200_000, "line 1 is no CSV", LISTS),
    ],
)
def test_wrong_csv_names_line_and_column(body, message, wants):
    kind = "text/csv; header=present" if body == b"a,b\n" else CSV
    status, said = refusal(body, kind, wants)
    assert status == 400
    assert message in said
    assert "four" not in said


@given(st.lists(st.lists(st.sampled_from(["1", "-2.5", "0", "1e3", "7", "-0", "123456789"]), min_size=1), min_size=1))
def test_csv_of_nothing_but_numbers_is_read_as_the_csv_module_reads_it(rows):
    """There is a shorter way for such bodies; ragged ones must not get through it."""
    body = "\n".join(map(",".join, rows)).encode()
    if len({len(row) for row in rows}) > 1:
        refusal(body, CSV, LISTS)
        refusal(body, CSV, ARRAY)
        return
    wanted = [[float(value) for value in row] for row in csv.reader(io.StringIO(body.decode()))]
    assert decode(body, CSV, LISTS)["instances"] == wanted
    assert decode(body, CSV, ARRAY)["instances"].tolist() == wanted


@pytest.mark.parametrize("kind", [CSV, ARROW])
def test_named_columns_are_put_in_the_models_order(kind):
    columns = {"b": [2.0, 4.0], "a": [1.0, 3.0]}
    body = b"b,a\n2,1\n4,3\n" if kind == CSV else arrow(pa.table(columns))
    names = ("a", "b")
    assert decode(body, kind, Wants(array=True, names=names))["instances"].tolist() == [[1, 2], [3, 4]]
    assert decode(body, kind, Wants(names=names))["instances"] == [[1, 2], [3, 4]]
    status, said = refusal(body, kind, Wants(names=("a", "c")))
    assert status == 400
    assert 'the columns must be "a", "c", in any order' in said


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[1]\n[2\n", "line 2: the body is not JSON"),
        (b"[1]\n\n\xff\n", "line 3: the body is not UTF-8"),
        (b"[1]\n" + b"[" * 1000, "line 2: the body is nested deeper"),
        (b" \n\n", "the body is empty"),
    ],
)
def test_wrong_json_lines_name_the_line(body, message):
    status, said = refusal(body, LINES)
    assert status == 400
    assert message in said


def test_json_lines_hold_any_value():
    body = b'{"a": 1}\r\n\n"text"\n [2]\n'
    assert decode(body, LINES, LISTS)["instances"] == [{"a": 1}, "text", [2]]


def arrow(content, **options):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, content.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(content)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (arrow(pa.table({"a": [1.0] * 999}), compression="zstd"), "compressed"),
        (arrow(pa.table({"a": [1.0] * 999}), compression="lz4"), "compressed"),
        (arrow(pa.table({"a": pa.array(["secret"] * 9).dictionary_encode()})), "more than plain record batches"),
        (arrow(pa.table({"a": pa.nulls(9)})), "column 0 holds neither"),
        (arrow(pa.table({"a": [[1.0]]})), "column 0 holds neither"),
        (arrow(pa.table({"a": pa.array([], pa.float64())})), "no row"),
        (arrow(pa.table({"a": [1.0]}))[:-60], "no readable"),
        (b"secret", "no readable"),
        (b"", "no readable"),
    ],
)
def test_arrow_that_is_not_plain_is_refused(body, message):
    status, said = refusal(body, ARROW)
    assert status == 400
    assert message in said
    assert "secret" not in said


def test_arrow_nulls_are_null_in_lists_and_nan_in_arrays():
    body = arrow(pa.table({"a": [1, None], "b": [True, False]}))
    assert decode(body, ARROW, LISTS)["instances"] == [[1, True], [None, False]]
    assert np.array_equal(decode(body, ARROW, ARRAY)["instances"], [[1, 1], [np.nan, 0]], equal_nan=True)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\x90\x90", "goes on after its end"),
        (b"\xdd\xff\xff\xff\xff", "cut off"),
        (b"\xc6\xff\xff\xff\xff", "cut off"),
        (b"\xc7\x01\x05a", "extension type 5"),
        (b"\x91" * 100 + b"\xc0", "deeper than 64"),
        (b"\x91" * 1_000_000, "not MessagePack"),
        (b"\xa1\xff", "not MessagePack"),
        (b"", "not MessagePack"),
    ],
)
def test_wrong_messagepack_is_refused(body, message):
    status, said = refusal(body, MSGPACK)
    assert status == 400
    assert message in said


def test_messagepack_holds_bytes():
    assert decode(msgpack.packb({"instances": [b"\xff\xd8"]}), MSGPACK, LISTS) == {"instances": [b"\xff\xd8"]}


IMAGES = Wants(media_types=("image/*", "application/octet-stream"))


@pytest.mark.parametrize("kind", ["image/png", "IMAGE/JPEG; q=1", "application/octet-stream"])
def test_raw_bytes_come_through_only_where_the_author_lets_them(kind):
    assert decode(bytearray(b"\xff\xd8"), kind, IMAGES) == {"instances": [b"\xff\xd8"]}
    status, said = refusal(b"\xff\xd8", kind, LISTS)
    assert status == 415
    assert "this model reads application/json, application/jsonl, text/csv, application/x-npy" in said


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (None, "the request has no Content-Type; this model reads application/json"),
        ("", "no Content-Type"),
        (" ", "no Content-Type"),
        ("text/html", 'the request has Content-Type "text/html"; this model reads'),
        ("text/\x1b[31m", "a value that is none"),
        ("x" * 5000, "a value that is none"),
        ("json", '"json"'),
        ("application/json; charset=latin-1", 'the charset "latin-1" is not read'),
        ("text/csv; charset=utf-16", "charset"),
        ("application/x-www-form-urlencoded", "form"),
        ("application/python-pickle", "pickle"),
    ],
)
def test_other_content_types_are_refused(kind, message):
    status, said = refusal(b"{}", kind)
    assert status == 415
    assert message in said
    assert len(said) < 400


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON",
        'application/json; charset="UTF-8"',
        "application/vnd.api+json;charset=utf8",
    ],
)
def test_json_under_each_of_its_names(kind):
    assert decode(b'{"instances": [[1, 2]]}', kind, LISTS) == {"instances": [[1, 2]]}
    assert decode(b'{"instances": [[1, 2]]}', kind, ARRAY)["instances"].tolist() == [[1, 2]]


@pytest.mark.parametrize(("kind", "library"), [(MSGPACK, "msgpack"), (ARROW, "pyarrow")])
def test_a_library_that_is_not_installed_is_named(kind, library, monkeypatch):
    monkeypatch.setattr(table, "_is_installed", lambda name: name != library)
    table._offers.cache_clear()
    table._chosen.cache_clear()
    try:
        status, said = refusal(b"", kind)
        assert status == 415
        assert f"needs {library}, which is not installed in this server" in said
        assert encode([1], f"{kind}, application/json;q=0.1")[1] == JSON
        assert kind not in refusal(b"", "text/html")[1]
    finally:
        monkeypatch.undo()
        table._offers.cache_clear()
        table._chosen.cache_clear()


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("text/*", CSV),
        ("text/csv, */*", CSV),
        ("text/csv;q=0.5, application/json", JSON),
        ("text/csv;q=0.5, application/x-npy;q=0.9, */*;q=0.1", NPY),
        ("application/json;q=0, */*", LINES),
        ("text/html, application/xhtml+xml, */*;q=0.8", JSON),
        ("application/x-ndjson", "application/x-ndjson"),
        ("APPLICATION/X-NPY", NPY),
        ("application/x-msgpack", "application/x-msgpack"),
    ],
)
def test_accept_chooses_the_format(accept, kind):
    assert encode({"predictions": [[1.5, 2.5]]}, accept)[1] == kind


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "image/*", "application/json;q=nan", "\x1b"])
def test_an_accept_that_takes_nothing_of_ours_is_406(accept):
    with pytest.raises(RequestError) as error:
        encode({"predictions": [1]}, accept)
    assert error.value.status_code == 406
    assert "this model answers application/json, " in str(error.value)


@pytest.mark.parametrize(
    ("value", "accept", "content"),
    [
        ({"predictions": np.array([1, 2])}, LINES, b"1\n2\n"),
        ({"predictions": [{"a": np.float32(1)}, [None, "x"]]}, LINES, b'{"a":1.0}\n[null,"x"]\n'),
        ([1, 2], LINES, b"1\n2\n"),
        ({"predictions": ["setosa", 'a "b"']}, CSV, b'setosa\r\n"a ""b"""\r\n'),
        ({"predictions": np.array([[1.5, np.nan], [3, 4]])}, CSV, b"1.5,\r\n3.0,4.0\r\n"),
        ({"predictions": np.array([1, 2])}, CSV, b"1\r\n2\r\n"),
        ({"predictions": [[1, "x"], [None, True]]}, CSV, b"1,x\r\n,true\r\n"),
        ({"predictions": np.array(["a", "b"])}, CSV, b"a\r\nb\r\n"),
        ({"predictions": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]}, CSV, b"a,b\r\n1,x\r\n2,y\r\n"),
        ({"predictions": [np.float32(0.5), np.int64(2)]}, CSV, b"0.5\r\n2\r\n"),
        ({"predictions": []}, CSV, b""),
        ({"predictions": np.float32(1)}, JSON, b'{"predictions":1.0}'),
        ({"predictions": {"a": 1}}, JSON, b'{"predictions":{"a":1}}'),
    ],
)
def test_answers_in_each_format(value, accept, content):
    assert encode(value, accept) == (content, accept)


def test_arrow_answers():
    for value, wanted in (
        ([1, 2], {"predictions": [1, 2]}),
        (np.array([[1.0, 2.0]]), {"0": [1.0], "1": [2.0]}),
        ([["x", 2]], {"0": ["x"], "1": [2]}),
        ([{"a": 1}], {"a": [1]}),
    ):
        content, _ = encode({"predictions": value}, ARROW)
        assert pa.ipc.open_stream(content).read_all().to_pydict() == wanted


def test_messagepack_answers():
    content, _ = encode({"predictions": np.array([1.5, 2]), "n": np.int64(3)}, MSGPACK)
    assert msgpack.unpackb(content) == {"predictions": [1.5, 2.0], "n": 3}


@pytest.mark.parametrize("accept", [JSON, LINES, CSV, NPY, MSGPACK, ARROW])
@pytest.mark.parametrize("value", [{"predictions": [object()]}, {"predictions": [[object()], [1, 2]]}])
def test_an_answer_without_such_a_form_is_the_servers_fault(accept, value):
    with pytest.raises(TypeError):
        encode(value, accept)


@pytest.mark.parametrize(
    ("accept", "value"),
    [
        (NPY, ["text"]), (NPY, [[1], [1, 2]]), (NPY, [None]), (CSV, [[[1]]]), (CSV, {"a": 1}), (LINES, 5), (NPY, {"a": 1}),
        (CSV, [{"a": 1}, {"b": 1}]), (CSV, [b"x"]), (ARROW, [["x"], [1]]), (ARROW, [[1], [1, 2]]),
    ],
)  # fmt: skip
def test_values_that_a_format_does_not_have(accept, value):
    with pytest.raises(TypeError):
        encode({"predictions": value}, accept)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "application/octet-stream"),
        ("*/*", "application/octet-stream"),
        ("image/png", "image/png"),
        ("image/webp, image/*", "image/webp"),
        ("application/octet-stream;q=0.1, image/png", "application/octet-stream"),
    ],
)
def test_bytes_are_answered_as_they_are(accept, kind):
    assert encode(memoryview(b"\x89PNG"), accept) == (b"\x89PNG", kind)


@pytest.mark.parametrize("accept", [JSON, "image/*", "application/x-npy", "x"])
def test_bytes_are_no_json(accept):
    with pytest.raises(RequestError) as error:
        encode(b"\x89PNG", accept)
    assert error.value.status_code == 406


def with_errors_of_the_caller(body, kind, wants=None):
    """Decode in both ways; whatever goes wrong is a RequestError, and so is what the checks find in it."""
    for want in (wants,) if wants else (LISTS, ARRAY):
        try:
            value = decode(body, kind, want)
            instances.array(instances.of(value))
        except RequestError as error:
            assert 400 <= error.status_code < 500
            assert len(str(error)) < 500


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=200)
@given(body=st.binary(max_size=300))
def test_any_bytes_are_of_the_type_or_the_callers_mistake(kind, body):
    with_errors_of_the_caller(body, kind)


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=200)
@given(
    matrix=matrices,
    place=st.integers(0, 2000),
    noise=st.binary(max_size=9)
    | st.sampled_from([b"[", b"]", b'"', b",", b"\n", b"NaN", b"1e999", b"\xff\xff\xff\xff"]),
    removed=st.integers(0, 9),
)
def test_any_damage_to_a_good_body_is_the_callers_mistake(kind, matrix, place, noise, removed):
    body = body_of(matrix, kind)
    place %= len(body)
    with_errors_of_the_caller(body[:place] + noise + body[place + removed :], kind)


@given(st.binary(max_size=50), st.none() | st.text(max_size=60) | st.sampled_from(TYPES), st.booleans())
def test_any_content_type_has_an_answer(body, kind, array):
    try:
        decode(body, kind, Wants(array=array))
    except RequestError as error:
        assert error.status_code in (400, 415)


@given(st.none() | st.text(max_size=60))
def test_any_accept_header_has_an_answer(accept):
    try:
        content, kind = encode({"predictions": [[1.0]]}, accept)
    except RequestError as error:
        assert error.status_code == 406
    else:
        assert content
        assert kind in TYPES


tokens = st.sampled_from(
    ["1", "2.5", "-0.0", "-0", "true", "null", '"a"', '"["', "[]", "{}", "[1]", '{"a":1}', "1e400", "1e-400",
     "18446744073709551615", "18446744073709551616", "-9223372036854775809", "9007199254740993", "NaN", "1.", "01", "9" * 400]
)  # fmt: skip
row_texts = st.lists(tokens, max_size=4).map(lambda values: f"[{','.join(values)}]")
rows_texts = st.lists(row_texts | tokens, max_size=4).map(lambda rows: f"[{','.join(rows)}]")
members = st.tuples(
    st.sampled_from(["instances", "inst\\u0061nces", "parameters", "é", ""]),
    rows_texts | tokens | matrices.map(lambda matrix: json.dumps(matrix.tolist())),
).map(lambda pair: f'"{pair[0]}": {pair[1]}')
json_bodies = st.lists(members, max_size=3).map(lambda found: f"{{{', '.join(found)}}}") | rows_texts | tokens


def outcome(read):
    """Everything that can be told apart, types and signs of zero included."""
    try:
        value = read()
    except RequestError as error:
        return error.status_code, str(error)
    return type(value), repr(value)


@settings(max_examples=1000)
@given(json_bodies.map(str.encode) | st.binary(max_size=40))
@example(b'{"instances": [[1, [2], []]]}')
@example(b'{"instances": [[1, 2], [3, [4], []]]}')
@example(b'{"instances": [[1, 2], [1], [1, 2, 3]]}')
@example(b'{"instances": [[0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 0]]}')
@example(b'{"instances": [5], "parameters": {"a": [1]}}')
@example(b'{"instances": [[1, 2]], "parameters": {"a": "[", "b": {"c": null}}}')
@example(b'{"instances": [[1]], "instances": [[2]]}')
@example(b'{"instances": [[1]], "parameters": {"a": 1, "a": 2}}')
@example(b'{"instances": ["ab", [1, 2]]}')
@example(b'{"instances": [[1, 2], {"a": 1, "b": 2}]}')
@example(b'\xef\xbb\xbf{"instances": [[1, 2]]}')
@example(b'{"instances": [[-0.0, -0]]}')
@example(b'{"instances": [[]]}')
def test_numbers_straight_from_the_text_are_what_the_plain_way_makes_of_them(body):
    from cpr_kit.runtime.codecs import json as codec

    decode(b"[]", JSON, ARRAY)
    fast = outcome(lambda: decode(body, JSON, ARRAY))
    checked = outcome(lambda: instances.array(instances.of(decode(body, JSON, ARRAY))))
    read, codec._thread.read = codec._thread.read, lambda _: None
    try:
        assert fast == outcome(lambda: decode(body, JSON, ARRAY))
    finally:
        codec._thread.read = read
    assert checked == outcome(lambda: instances.array(instances.of(decode(body, JSON, LISTS))))


def test_the_fast_way_is_taken():
    """The property above would hold of a reader that always declines."""
    from cpr_kit.runtime.codecs.json import ArrayReader

    reader = ArrayReader()
    for body in (b'{"instances": [[1, 2], [3, 4]]}', b'{"parameters": {"a": "x", "b": {}}, "instances": [[1.5]]}'):
        assert isinstance(reader.read(body)["instances"], np.ndarray)
    long = orjson.dumps({"instances": np.ones((50, 400)).tolist()})
    assert reader.read(long)["instances"].shape == (50, 400)
    assert reader.read(b'{"instances": [[1, [2]]]}') is None
    assert reader.read(long[:-2]) is None
    assert reader.read(long)["instances"].shape == (50, 400)


def test_a_big_body_leaves_no_memory_behind():
    from cpr_kit.runtime.codecs.json import ArrayReader

    reader = ArrayReader()
    before = reader._parse
    assert reader.read(orjson.dumps({"instances": np.full((100, 1000), 0.123456789012).tolist()})) is not None
    assert reader._parse is not before
    before = reader._parse
    reader.read(b'{"instances": [[1]]}')
    assert reader._parse is before


def test_readers_in_many_threads_do_not_meet():
    from concurrent.futures import ThreadPoolExecutor

    def ask(number):
        return [
            decode(b'{"instances": [[%d, 2]]}' % n, JSON, ARRAY)["instances"][0, 0] for n in range(number, number + 200)
        ]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(16))) == [list(range(n, n + 200)) for n in range(16)]


def test_without_simdjson_the_answers_are_the_same(monkeypatch):
    import sys

    from cpr_kit.runtime.codecs import json as codec

    monkeypatch.setitem(sys.modules, "simdjson", None)
    monkeypatch.delattr(codec._thread, "read", raising=False)
    try:
        assert decode(b'{"instances": [[1, 2]]}', JSON, ARRAY)["instances"].tolist() == [[1, 2]]
        assert codec._thread.read(b'{"instances": [[1, 2]]}') is None
    finally:
        del codec._thread.read


@pytest.mark.parametrize("wants", [LISTS, ARRAY])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[" * 1_000_000, "deeper than 64"),
        (b"[" * 1_000_000 + b"]" * 1_000_000, "deeper than 64"),
        (b'{"instances": ' * 1_000_000, "deeper than 64"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "deeper than 64"),
        (b'{"instances": [[1]], "parameters": ' + b'{"a":' * 64 + b"1" + b"}" * 65, "deeper than 64"),
        (b"[" * (MAX_DEPTH + 1), "deeper than 64"),
        (b"", "empty"),
        (b" \n", "empty"),
        (b'{"instances": [NaN]}', "line 1 column 16"),
        (b'{"instances": [Infinity]}', "line 1 column 16"),
        (b'{"instances":\n [1e400]}', "line 2 column"),
        (b'{"instances": "\xff"}', "not UTF-8: byte 15"),
        (b'{"instances": [1]', "not JSON"),
        (b'{"a": "\\ud800"}', "not JSON"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_wrong_json_names_its_place(wants, body, message):
    status, said = refusal(body, JSON, wants)
    assert status == 400
    assert message in said
    assert len(said) < 150


@pytest.mark.parametrize(
    "body",
    [
        b"[" * MAX_DEPTH + b"]" * MAX_DEPTH,
        b'["' + b"[" * 1000 + b'"]',
        b"[" + b"[]," * 1000 + b"[]]",
        b'{"instances": [[1]], "parameters": ' + b'{"a":' * 63 + b"1" + b"}" * 64,
    ],
    ids=["at the limit", "in text", "side by side", "parameters"],
)
def test_what_only_looks_deep_is_read(body):
    for wants in (LISTS, ARRAY):
        decode(body, JSON, wants)


def test_of_equal_keys_the_last_counts():
    body = b'{"instances": [[1]], "instances": [[2]]}'
    assert decode(body, JSON, LISTS) == {"instances": [[2]]}
    assert decode(body, JSON, ARRAY)["instances"].tolist() == [[2]]


def test_a_byte_order_mark_is_passed_over():
    assert decode(b"\xef\xbb\xbf[1]", JSON, LISTS) == [1]


def test_an_object_is_a_body_that_tells_what_it_lacks():
    for wants in (LISTS, ARRAY):
        body = decode(b'{"instances": [[1]]}', JSON, wants)
        assert isinstance(body, Body)
        with pytest.raises(RequestError, match='no "parameters"'):
            body["parameters"]


@settings(max_examples=300)
@given(st.text("hunter2", min_size=6, max_size=12), st.integers(0, 60), st.sampled_from(TYPES))
def test_no_message_repeats_the_body(secret, place, kind):
    body = b'{"instances": [[1, 2, {"x": 5}, "y", null], [true]]} '
    body = body[:place] + secret.encode() + body[place:]
    try:
        value = decode(body, kind, ARRAY)
        instances.array(instances.of(value))
    except RequestError as error:
        assert secret not in str(error)
