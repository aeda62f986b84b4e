"""The readers of csv and TFRecord give back what was written, whatever it was."""

import csv
import gzip
import io
import struct

import pytest
from emu_batch_parts import example, framed
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.emulator.batch.readers import FORMATS, Source
from cpr_kit.emulator.batch.rows import InstanceConfig
from cpr_kit.emulator.batch.tfrecord import Example, b64
from cpr_kit.tfrecord import masked_crc, records

TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20)
CELL = st.one_of(st.floats(allow_nan=False, allow_infinity=False), TEXT)


def read(name, data, **config):
    source = Source(uri="gs://box/x", file=io.BytesIO(data), config=InstanceConfig(**config), fetch=dict().__getitem__)
    return list(FORMATS[name].read(source))


@given(st.integers(1, 5).flatmap(lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1)))
def test_csv_round_trip(table):
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow([f"c{n}" for n, _ in enumerate(table[0])])
    writer.writerows(table)
    rows = read("csv", text.getvalue().encode())
    assert [list(row.cells) for row in rows] == table


@given(st.lists(st.binary(max_size=200)), st.booleans())
def test_tf_record_round_trip(data, packed):
    name, content = ("tf-record-gzip", gzip.compress(framed(data))) if packed else ("tf-record", framed(data))
    assert [row.instance for row in read(name, content)] == [f'{{"b64": "{b64(record)["b64"]}"}}' for record in data]


@given(st.lists(st.binary(max_size=20), min_size=1), st.data())
def test_no_changed_byte_of_a_tf_record_file_goes_unseen(data, draw):
    content = bytearray(framed(data))
    place = draw.draw(st.integers(0, len(content) - 1))
    content[place] ^= draw.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match="TFRecord file"):
        list(records(io.BytesIO(bytes(content))))


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.one_of(
            st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1),
            st.lists(st.floats(width=32, allow_nan=False), min_size=1),
            st.lists(st.text(max_size=5).map(str.encode), min_size=1),
        ),
    ),
)
def test_examples_lose_only_what_they_are_told_to(features):
    dropped = sorted(features)[::2]
    left = Example(Example(example(features)).without(dropped)).fields
    assert left == {name: plain(values) for name, values in features.items() if name not in dropped}


def plain(values):
    values = [value.decode() if isinstance(value, bytes) else value for value in values]
    return values[0] if len(values) == 1 else values


def test_bytes_that_are_no_text_stay_base64():
    assert Example(example({"a": [b"\xff"], "b": [1, 2]})).fields == {"a": {"b64": "/w=="}, "b": [1, 2]}


def test_the_checksum_is_tensorflows():
    """Every event file of TensorBoard starts with these twelve bytes: a length of 24 and its checksum."""
    head = bytes.fromhex("1800000000000000a37f4b22")
    assert masked_crc(head[:8]) == struct.unpack("<I", head[8:])[0]
    assert framed([b"x" * 24])[:12] == head


def test_tensorflow_writes_what_we_read(tmp_path):
    tf = pytest.importorskip("tensorflow")
    path = tmp_path / "records"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in (b"one", b"", b"\x00\xff"):
            writer.write(record)
    with path.open("rb") as file:
        assert list(records(file)) == [b"one", b"", b"\x00\xff"]


def test_two_columns_of_one_name_both_reach_the_model():
    [row] = read("csv", b"a,a,b\n1,2,3\n", excluded=("b",))
    assert row.instance == "[1.0, 2.0]"
    assert row.attached == {"b": 3.0}


def test_the_header_need_not_be_quoted_nor_be_names():
    assert [row.instance for row in read("csv", b"1,2\n3,4\n")] == ["[3.0, 4.0]"]


def test_an_empty_cell_is_an_empty_string():
    assert [row.instance for row in read("csv", b'a,b\n1,\n"",2\n,3\n')] == ['[1.0, ""]', '["", 2.0]', '["", 3.0]']


def test_a_byte_order_mark_is_no_part_of_the_first_name():
    [row] = read("csv", b'\xef\xbb\xbf"a",b\n1,2\n', key="a")
    assert (row.key, row.instance) == ("1.0", "[2.0]")
