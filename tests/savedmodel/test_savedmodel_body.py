"""Example bodies, and what is said about bodies that a model does not take."""

import base64
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.errors import UsageError
from cpr_kit.savedmodel import body, example, reader
from cpr_kit.savedmodel.signatures import FLOATS, INTEGERS, Signature, Tensor

MODELS = Path(__file__).parent / "models"
PENGUINS = reader.read(MODELS / "penguins").signatures
SHAPES = reader.read(MODELS / "shapes").signatures
ROW = {
    "island": "DREAM", "culmen_length_mm": 36.6, "culmen_depth_mm": 18.4, "flipper_length_mm": 184.0,
    "body_mass_g": 3475.0, "sex": "FEMALE",
}  # fmt: skip


def penguins(**changes):
    row = {name: value for name, value in {**ROW, **changes}.items() if value is not ...}
    return {"signature_name": "predict", "instances": [ROW, row]}


def signature(**inputs):
    tensors = {name: Tensor(name=name, dtype=dtype, shape=shape) for name, (dtype, shape) in inputs.items()}
    return {"serving_default": Signature(name="serving_default", method="", inputs=tensors)}


def only(found):
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(
    ("signatures", "name"), [*((PENGUINS, name) for name in PENGUINS), *((SHAPES, name) for name in SHAPES)]
)
def test_an_example_of_each_signature_has_no_fault(signatures, name):
    content = example.body(signatures, name)
    assert body.check(signatures, json.dumps(content).encode()) == []


def test_a_default_signature_is_not_named_and_another_is():
    assert "signature_name" not in example.body(SHAPES)
    content = example.body(PENGUINS, "predict")
    assert content["signature_name"] == "predict"
    assert content["instances"] == [{**dict.fromkeys(ROW, 0.0), "island": "text", "sex": "text"}]
    assert example.needs_raw(content)


def test_columns_where_the_inputs_share_no_batch():
    assert example.body(SHAPES)["inputs"] == {"scale": 0.0, "x": [[[0.0] * 3] * 2]}
    unlike = signature(a=("int32", (2, 3)), b=("int32", (4,)))
    assert example.body(unlike) == {"inputs": {"a": [[0] * 3] * 2, "b": [0] * 4}}
    assert len(example.body(SHAPES, "fixed")["instances"]) == 2


def test_bytes_are_a_jpeg():
    signatures = reader.read(MODELS / "image").signatures
    data = base64.b64decode(example.body(signatures)["instances"][0]["bytes_inputs"]["b64"], validate=True)
    assert (data[:2], data[-2:]) == (b"\xff\xd8", b"\xff\xd9")
    assert b"\xff\xc0\x00\x11\x08\x00\x08\x00\x08\x03" in data  # baseline, 8 bits, 8 by 8, three colours


def test_an_example_that_cannot_be_written_is_refused():
    for signatures, reason in [
        (signature(x=("complex64", (None,))), '"x" of "serving_default" is complex64'),
        (signature(x=("float32", (1 << 40, 1 << 40))), "more than any endpoint lets through"),
    ]:
        with pytest.raises(UsageError) as caught:
            example.body(signatures)
        assert reason in str(caught.value)


def test_a5_3_an_unknown_signature_lists_the_known_ones():
    fault = only(body.faults(PENGUINS, {"signature_name": "predct", "instances": [ROW]}))
    assert fault == ('the model has no signature "predct"; it has "predict", "serving_default" (is "predict" meant?)')
    named = only(body.faults({"predict": PENGUINS["predict"]}, {"instances": [ROW]}))
    assert 'no signature "serving_default"; it has "predict"' in named
    assert 'a body without "signature_name"' in named
    assert "is 7; it must be the name" in only(body.faults(PENGUINS, {"signature_name": 7}))


def test_a5_3_the_default_signature_names_the_inputs_that_it_expects():
    fault = only(body.faults(PENGUINS, {"instances": [ROW]}))
    assert fault.startswith('instance 0 lacks "examples"; it has "island", "culmen_length_mm"')
    assert fault.endswith('signature "serving_default" takes "examples"')


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (penguins(sex=...), 'instance 1 lacks "sex"; signature "predict" takes "body_mass_g", "culmen_depth_mm"'),
        (penguins(sex=..., sexx="MALE"), 'it has "sexx", which is no input (is "sex" meant?); signature'),
        (penguins(colour=1), 'instance 1 has "colour", which is no input; signature "predict" takes'),
        (penguins(island=3), 'instance 1: "island" has 3, and a string takes text, or {"b64": "..."} for bytes'),
        (penguins(island={"b64": "*"}), "what stands under b64 is not base64"),
        (penguins(island={"b64": 1}), "what stands under b64 is not base64"),
        (penguins(island="\ud800"), "half a character"),
        (penguins(body_mass_g="3475"), 'instance 1: "body_mass_g" has "3475", and float32 takes a number'),
        (penguins(body_mass_g=None), '"body_mass_g" has null'),
        (penguins(body_mass_g=True), '"body_mass_g" has true'),
        (penguins(body_mass_g=10**400), "float32 cannot hold it"),
        (penguins(body_mass_g=[1.0]), '"body_mass_g" has the shape 1, and the model takes one value'),
        ({"signature_name": "predict", "instances": [5]}, "instance 0 is 5; it must be an object"),
        ({"signature_name": "predict", "instances": []}, '"instances" is []; it must be a list with one item or more'),
        ({"signature_name": "predict", "instances": [ROW], "inputs": {}}, "it must have one of them"),
        ({"signature_name": "predict", "instance": [ROW]}, '(is "instances" meant?)'),
        ({"signature_name": "predict"}, 'neither "instances" nor "inputs"'),
        ({"signature_name": "predict", "inputs": [1]}, '"inputs" is [1]; it must be an object'),
        ({"signature_name": "predict", "inputs": {**ROW}}, '"island" has the shape one value, and the model takes any'),
    ],
)
def test_a_fault_is_named_with_its_place_and_value(content, fault):
    found = body.faults(PENGUINS, content)
    assert any(fault in each for each in found), found


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("serving_default", {"instances": [{"x": [[0] * 3] * 2, "scale": 1}]}, '"scale" is one value for the whole'),
        ("serving_default", {"inputs": {"x": [[[0] * 3, [0]]], "scale": 1}}, "lists of unequal shapes, 1 and 3"),
        ("serving_default", {"inputs": {"x": [[[0] * 2] * 2], "scale": 1}}, "has the shape 1 x 2 x 2, and the model"),
        ("serving_default", {"inputs": {"x": [], "scale": [1]}}, '"scale" has the shape 1'),
        ("fixed", {"instances": [{"ids": [0] * 4, "mask": [True] * 4}]}, '"ids" takes 2 instances a request; there'),
        ("fixed", {"inputs": {"ids": [[0.5] * 4] * 2, "mask": [[True] * 4] * 2}}, "int64 takes a whole number"),
        ("fixed", {"inputs": {"ids": [[1.0] * 4] * 2, "mask": [[True] * 4] * 2}}, "whole number, without a point"),
        ("fixed", {"inputs": {"ids": [[1 << 63] * 4] * 2, "mask": [[0] * 4] * 2}}, "int64 holds -9223372036854775808"),
        ("fixed", {"inputs": {"ids": [[0] * 4] * 2, "mask": [[0] * 4] * 2}}, "a bool takes true or false"),
        ("pixels", {"instances": [{"pixels": [[[256] * 3]]}]}, "uint8 holds 0 to 255"),
        ("pixels", {"instances": [[[[1] * 3]], [[[1] * 3]] * 2]}, "2 x 1 x 3, and instance 0 has 1 x 1 x 3"),
    ],
)
def test_shapes_and_types(name, content, fault):
    found = body.faults(SHAPES, {"signature_name": name, **content})
    assert any(fault in each for each in found), found


def test_what_is_no_fault():
    for name, content in [
        ("pixels", {"instances": [[[[1, 2, 3]]]]}),  # one input needs no name
        ("pixels", {"inputs": [[[[1, 2, 3]]]]}),
        ("pixels", {"instances": [{"pixels": [[[1, 2, 3]]]}], "parameters": {}}),
        ("serving_default", {"inputs": {"x": [], "scale": math.inf}}),
    ]:
        assert body.faults(SHAPES, {"signature_name": name, **content}) == []
    assert body.faults(PENGUINS, {"instances": [{"b64": ""}]}) == []
    one = signature(x=("float32", None), y=("string", (None,)))
    one["serving_default"].inputs["y"] = Tensor(name="y", dtype="string", shape=(None,), optional=True)
    assert body.faults(one, {"instances": [[1, 2], [3, 4]]}) == []
    assert 'has "y", and instance 0 has not' in only(body.faults(one, {"instances": [{"x": 1}, {"x": 1, "y": "a"}]}))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"\xff", "not UTF-8"),
        (b"{", "not JSON"),
        (b"[1]", 'the body is [1]; it must be an object with "instances" or "inputs"'),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"inputs": ' + b"[" * 500 + b"]" * 500 + b"}", "nested too deeply"),
    ],
)
def test_a_body_that_is_none(content, fault):
    assert fault in only(body.check({"serving_default": SHAPES["pixels"]}, content))


def test_many_faults_are_cut_short():
    found = body.faults(PENGUINS, {"signature_name": "predict", "instances": [{}] * 50})
    assert (len(found), found[-1]) == (11, "and more")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["b64", "x", "pixels", "instances"]), inner)
    ),
    max_leaves=12,
)


@given(JSON, st.sampled_from(sorted(SHAPES)), st.sampled_from(["instances", "inputs"]))
def test_whatever_a_body_holds_it_is_judged(value, name, form):
    for each in body.faults(SHAPES, {"signature_name": name, form: value}):
        assert isinstance(each, str)
        assert each


KINDS = st.sampled_from([*FLOATS, *INTEGERS, "bool", "string"])
SIZES = st.none() | st.lists(st.none() | st.integers(1, 3), max_size=4).map(tuple)
INPUTS = st.dictionaries(st.sampled_from(["a", "b_bytes", "c"]), st.tuples(KINDS, SIZES), min_size=1)


@given(INPUTS)
def test_an_example_has_no_fault_whatever_the_signature(inputs):
    signatures = signature(**inputs)
    assert body.faults(signatures, example.body(signatures)) == []
