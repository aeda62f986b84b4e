"""Warm-up files: what is in them, byte for byte as files that TensorFlow Serving's own messages parsed.

The golden files were replayed by models/replay.py through TensorFlow 2.21 and tensorflow-serving-api 2.21.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit import tfrecord
from cpr_kit.errors import UsageError
from cpr_kit.savedmodel import batching, example, messages, reader, tensors, warmup
from cpr_kit.savedmodel.signatures import Tensor

MODELS = Path(__file__).parent / "models"
ROWS = [
    {"island": "DREAM", "culmen_length_mm": 36.6, "culmen_depth_mm": 18.4, "flipper_length_mm": 184.0,
     "body_mass_g": 3475.0, "sex": "FEMALE"},
    {"island": "BISCOE", "culmen_length_mm": 50, "culmen_depth_mm": 15.3, "flipper_length_mm": 220,
     "body_mass_g": 5550, "sex": {"b64": "TUFMRQ=="}},
]  # fmt: skip
NARROW = [{"a": 1.00390625, "b": 65504.0}, {"a": -3.0, "b": 0.1}, {"a": 3.0e38, "b": 1e-7}]


@pytest.fixture
def model(tmp_path):
    def copy(name):
        return Path(shutil.copytree(MODELS / name, tmp_path / name))

    return copy


def requests(path):
    with path.open("rb") as file:
        logs = [messages.new("PredictionLog") for _ in range(warmup.count(path))]
        for log, record in zip(logs, tfrecord.records(file), strict=True):
            log.ParseFromString(record)
    return [log.predict_log.request for log in logs]


@pytest.mark.parametrize(
    ("golden", "name", "rows", "sizes", "signature"),
    [
        ("penguins.warmup", "penguins", ROWS, (1, 8, 32), "predict"),
        ("shapes.narrow.warmup", "shapes", NARROW, (), "narrow"),
        ("shapes.columns.warmup", "shapes", [{"inputs": {"x": [[[1, 2, 3], [4, 5, 6]]], "scale": 2}}], (), "serving_default"),
        ("image.warmup", "image", [{"bytes_inputs": {"b64": example.JPEG}}], (1, 3), "serving_default"),
    ],
)  # fmt: skip
def test_a_file_equals_the_one_that_tensorflow_serving_read(model, golden, name, rows, sizes, signature):
    path = warmup.write(model(name), rows, sizes, signature)
    assert path.relative_to(reader.read(path.parents[1]).path).as_posix() == "assets.extra/tf_serving_warmup_requests"
    assert path.read_bytes() == (MODELS / golden).read_bytes()
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert reader.read(path.parents[1]).has_warmup


def test_each_batch_size_has_a_record_of_the_rows_in_turn(model):
    found = requests(warmup.write(model("penguins"), [{"instances": ROWS}], (3, 1, 3), "predict"))
    assert [list(each.inputs["island"].string_val) for each in found] == [[b"DREAM", b"BISCOE", b"DREAM"], [b"DREAM"]]
    assert list(found[0].inputs["sex"].string_val) == [b"FEMALE", b"MALE", b"FEMALE"]
    mass = np.frombuffer(found[0].inputs["body_mass_g"].tensor_content, "<f4")
    assert mass.tolist() == [3475.0, 5550.0, 3475.0]
    assert {(each.model_spec.name, each.model_spec.signature_name) for each in found} == {("default", "predict")}


def test_a_whole_float_is_an_integer_in_a_tensor(model):
    rows = {"inputs": {"ids": [[1.0, 2, 3.0, -4.0]] * 2, "mask": [[True] * 4] * 2}}
    (found,) = requests(warmup.write(model("shapes"), [rows], (), "fixed"))
    assert np.frombuffer(found.inputs["ids"].tensor_content, "<i8").tolist() == [1, 2, 3, -4] * 2


def test_a_second_write_takes_the_place_of_the_first(model):
    folder = model("penguins")
    warmup.write(folder, ROWS, (1, 2), "predict")
    path = warmup.write(folder, ROWS, (4,), "predict")
    assert [each.inputs["sex"].tensor_shape.dim[0].size for each in requests(path)] == [4]


@pytest.mark.parametrize(
    ("name", "rows", "sizes", "signature", "reason"),
    [
        ("penguins", ROWS, (1,), "predct", '(is "predict" meant?)'),
        ("penguins", ROWS, (1,), "serving_default", "does not take these requests as a batch of 1:"),
        ("penguins", [], (1,), "predict", "there is no request to warm up with"),
        ("penguins", ROWS, (0,), "predict", "0 is no batch size"),
        ("penguins", ROWS, tuple(range(1, 1002)), "predict", "1001 records, and TensorFlow Serving takes 1 to 1000"),
        ("penguins", [{"signature_name": "predict", "instances": ROWS}], (1,), "serving_default", 'is for "predict"'),
        ("penguins", [{"instances": 1}], (), "predict", '"instances" must be a list'),
        ("shapes", [{"ids": [0] * 4, "mask": [True] * 4}], (2, 8), "fixed", "takes 2 instances a request; there are 8"),
        ("shapes", [{"inputs": {"x": [], "scale": 1}}], (2,), "serving_default", "batch sizes are for instances"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is_left(model, name, rows, sizes, signature, reason):
    folder = model(name)
    with pytest.raises(UsageError) as caught:
        warmup.write(folder, rows, sizes, signature)
    assert reason in str(caught.value)
    assert not list(folder.rglob("assets.extra"))


def test_a_folder_that_cannot_be_written_is_named(model):
    folder = model("image")
    (folder / "assets.extra").write_text("in the way")
    with pytest.raises(UsageError, match=r"tf_serving_warmup_requests cannot be written"):
        warmup.write(folder, [{"b64": ""}])


@pytest.mark.parametrize("size", [10**6, 10**30])
def test_a_batch_that_no_message_holds_is_refused_before_it_is_made(model, size):
    with pytest.raises(UsageError, match=f"a batch of {size:,} instances cannot be written; give at most 100,000"):
        warmup.write(model("penguins"), ROWS * 10, [size], "predict")


def test_requests_are_lines_or_one_value(tmp_path):
    file = tmp_path / "requests"
    for text, wanted in [
        ('{"a": 1}\n\n[2]\n', [{"a": 1}, [2]]),
        ('{\n"instances": [1]\n}', [{"instances": [1]}]),
        ("", []),
    ]:
        file.write_text(text)
        assert warmup.read_requests(file) == wanted
    file.write_text('\ufeff{"a": 1}\n[2]\n', encoding="utf-8")  # as some editors save it
    assert warmup.read_requests(file) == [{"a": 1}, [2]]
    file.write_text('{"a": 1}\n[1, 2 3]\n')
    with pytest.raises(UsageError, match="line 2 is not JSON: Expecting ',' delimiter at column 7$"):
        warmup.read_requests(file)
    file.write_bytes(b"\xff")
    with pytest.raises(UsageError, match="not UTF-8"):
        warmup.read_requests(file)


@pytest.mark.parametrize(
    ("dtype", "value", "content"),
    [
        ("int64", (1 << 53) + 1, ((1 << 53) + 1).to_bytes(8, "little")),
        ("uint64", (1 << 64) - 1, b"\xff" * 8),
        ("bool", True, b"\1"),
        ("bfloat16", 1.0, b"\x80\x3f"),
        ("bfloat16", 1.00390625, b"\x80\x3f"),  # a tie, to the even one
        ("bfloat16", float("nan"), b"\xc0\x7f"),
        ("float32", 1e300, b"\x00\x00\x80\x7f"),
    ],
)
def test_numbers_as_bytes(dtype, value, content):
    message = tensors.encode(Tensor(name="x", dtype=dtype, shape=()), value)
    assert message.tensor_content == content
    assert message.HasField("tensor_shape")


@given(st.lists(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=2, max_size=2)))
def test_integers_come_back(rows):
    message = tensors.encode(Tensor(name="x", dtype="int64", shape=(None, 2)), rows)
    back = np.frombuffer(message.tensor_content, "<i8")
    assert back.tolist() == [number for row in rows for number in row]
    assert [dim.size for dim in message.tensor_shape.dim] == ([len(rows), 2] if rows else [0])


def test_batching_parameters():
    assert batching.parameters(32, (1, 8, 32), timeout_micros=5000, threads=2, queue=100) == (
        "max_batch_size { value: 32 }\n"
        "batch_timeout_micros { value: 5000 }\n"
        "max_enqueued_batches { value: 100 }\n"
        "num_batch_threads { value: 2 }\n"
        "allowed_batch_sizes: 1\nallowed_batch_sizes: 8\nallowed_batch_sizes: 32\n"
    )
    assert batching.parameters(4) == "max_batch_size { value: 4 }\nbatch_timeout_micros { value: 0 }\n"


@pytest.mark.parametrize(
    ("largest", "sizes", "more", "reason"),
    [
        (32, (1, 8), {}, "the last allowed batch size must be the largest batch size, 32; the sizes are 1, 8"),
        (8, (1, 8, 8), {}, "must rise, and they are 1, 8, 8"),
        (8, (0, 8), {}, "an allowed batch size is 0"),
        (0, (), {}, "the largest batch size is 0"),
        (8, (), {"timeout_micros": -1}, "a batch cannot wait -1 microseconds"),
        (8, (), {"threads": 0}, "the number of threads is 0"),
        (8, (), {"queue": 0}, "the queue is 0"),
        (
            8,
            (),
            {"timeout_micros": 1 << 63},
            "batch_timeout_micros is 9223372036854775808, and TensorFlow Serving reads",
        ),
    ],
)
def test_batching_parameters_that_no_server_takes(largest, sizes, more, reason):
    with pytest.raises(UsageError) as caught:
        batching.parameters(largest, sizes, **more)
    assert reason in str(caught.value)
