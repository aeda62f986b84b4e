"""Bodies of TensorFlow Serving's REST API, in and out of arrays."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.model_server import json_form
from cpr_kit.model_server.signature import Signature, Tensor
from cpr_kit.model_server.status import ServingError


def tensor(name, dtype, *shape):
    kind = None if dtype == "string" else np.dtype(dtype)
    return Tensor(name=name, dtype=kind, dtype_name=dtype, shape=shape)


def signature(*inputs):
    named = {each.name: each for each in inputs}
    return Signature(name="s", method="tensorflow/serving/predict", inputs=named, outputs={}, message=None)


SINGLE = signature(tensor("x", "float32", None, 2))
TEXT = signature(tensor("bytes_inputs", "string", None))
SEVERAL = signature(tensor("n", "int32", None), tensor("t", "string", None), tensor("b", "bool", None))


SCALED = replace(signature(tensor("x", "float32", None), tensor("scale", "float32")), defaults={"scale": np.float32(2)})
WAVE = signature(tensor("w", "complex64", None))


def read(value, asked):
    return json_form.read(json.dumps(value).encode(), lambda _: asked)


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [[1, 2], [3, 4.5]]},
        {"instances": [{"x": [1, 2]}, {"x": [3, 4.5]}]},
        {"inputs": [[1, 2], [3, 4.5]]},
        {"inputs": {"x": [[1, 2], [3, 4.5]]}},
    ],
)
def test_a_single_input_needs_no_name(body):
    found = read(body, SINGLE)
    assert found.inputs["x"].tolist() == [[1, 2], [3, 4.5]]
    assert found.inputs["x"].dtype == np.float32
    assert found.in_rows == ("instances" in body)


@pytest.mark.parametrize(
    "instances", [["ab"], [{"b64": "YWI="}], [{"bytes_inputs": "ab"}], [{"bytes_inputs": {"b64": "YWI="}}]]
)
def test_text_and_bytes(instances):
    assert read({"instances": instances}, TEXT).inputs["bytes_inputs"].tolist() == [b"ab"]


def test_several_inputs_have_their_types():
    rows = read({"instances": [{"n": 1, "t": "a", "b": True}, {"n": -2, "t": "b", "b": False}]}, SEVERAL).inputs
    columns = read({"inputs": {"n": [1, -2], "t": ["a", "b"], "b": [True, False]}}, SEVERAL).inputs
    for name, kind in (("n", np.int32), ("t", object), ("b", bool)):
        assert rows[name].dtype == columns[name].dtype == kind
        assert rows[name].tolist() == columns[name].tolist()


def test_numbers_that_json_does_not_have_are_taken_and_written():
    found = json_form.read(b'{"instances": [[NaN, Infinity]]}', lambda _: SINGLE).inputs["x"]
    assert np.isnan(found[0, 0])
    assert np.isinf(found[0, 1])
    assert json_form.write({"y": found}, in_rows=True) == b'{"predictions": [[NaN, Infinity]]}'


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"instances": [1, 2]}, {"x"}),
        ({"instances": [{"x": 1}, {"x": 2}]}, {"x"}),
        ({"inputs": {"x": [1, 2]}}, {"x"}),
        ({"inputs": [1, 2]}, {"x"}),
        ({"inputs": {"x": [1, 2], "scale": 3}}, {"x", "scale"}),
    ],
)
def test_an_input_that_has_a_default_may_be_left_out(body, names):
    found = read(body, SCALED).inputs
    assert found.keys() == names
    assert found["x"].tolist() == [1, 2]


def test_true_and_false_are_no_numbers_and_are_text_in_text():
    assert read({"instances": ["true"]}, TEXT).inputs["bytes_inputs"].tolist() == [b"true"]
    mixed = {"inputs": {"n": [1, 2], "t": ["false"], "b": [True, False]}}
    assert read(mixed, SEVERAL).inputs["n"].tolist() == [1, 2]


def test_rows_that_leave_out_different_inputs_are_no_batch():
    optional = replace(SCALED, defaults={"x": np.float32(1), "scale": np.float32(2)})
    with pytest.raises(ServingError, match="element: 1 of 'instances' list. All elements must have x, or none"):
        read({"instances": [{}, {"x": 5}]}, optional)


@pytest.mark.parametrize(
    ("body", "asked", "said"),
    [
        ({"instances": [[1, 2], [3]]}, SINGLE, "input x has lists of unequal length or depth"),
        ({"instances": [[1, 2, 3]]}, SINGLE, "input x has the shape [1,3], expecting [-1,2]"),
        ({"instances": [[1, None]]}, SINGLE, "JSON Value: null Type: Null is not of expected type: float32"),
        ({"instances": [[1, 1e95]]}, SINGLE, "input x has a number that does not fit float32"),
        ({"instances": [[1, "2"]]}, SINGLE, 'JSON Value: "2" Type: String'),
        ({"instances": [[True, False]]}, SINGLE, "JSON Value: true Type: Bool"),
        (
            {"instances": [[True, 1.5]]},
            SINGLE,
            "JSON Value: true Type: Bool is not of expected type: float32 (input x)",
        ),
        ({"inputs": {"n": [2, False], "t": ["a"], "b": [True]}}, SEVERAL, "JSON Value: false Type: Bool"),
        (
            {"instances": [{"scale": 1}]},
            SCALED,
            "does not have named input: x; signature s takes scale (float32 []), wh",
        ),
        ({"instances": [{"x": 1}, {"x": 2, "scale": 3}]}, SCALED, "element: 1 of 'instances' list. All elements must"),
        ({"instances": [{"x": 1, "scale": 3}, {"x": 2}]}, SCALED, "All elements must have scale, or none"),
        ({"instances": [1.5]}, WAVE, "input w is complex64, which JSON has no form for; ask over gRPC"),
        ({"instances": [1], "inputs": [1]}, SINGLE, "either 'inputs' or 'instances', not both"),
        ({"instances": [{"b64": "not base64"}]}, TEXT, "not formatted correctly for base64 data"),
        ({"instances": [{"b64": 1}]}, TEXT, "not formatted correctly for base64 data"),
        ({"instances": [1]}, TEXT, "JSON Value: 1 Type: Number is not of expected type: string"),
        ({"instances": ["a", ["b"]]}, TEXT, "input bytes_inputs has lists of unequal length or depth"),
        ({"instances": [{"n": 1.5, "t": "a", "b": True}]}, SEVERAL, "JSON Value: 1.5 Type: Number is not of expected"),
        ({"instances": [{"n": 1 << 40, "t": "a", "b": True}]}, SEVERAL, "input n has a number that does not fit int32"),
        ({"instances": [{"n": 1, "t": "a", "b": 1}]}, SEVERAL, "is not of expected type: bool (input b)"),
        ({"instances": [{"n": 1, "t": "a"}]}, SEVERAL, "element: 0 of 'instances' list. JSON object: does not have"),
        ({"instances": [[1, "a", True]]}, SEVERAL, "Expecting an object with the named inputs; signature s takes"),
        ({"inputs": [1]}, SEVERAL, "Failed to process 'inputs'. Expecting an object"),
        ({"inputs": {"n": [1], "t": ["a"], "b": [True], "z": 1}}, SEVERAL, "has an unknown input: z"),
    ],
)
def test_faults_are_named(body, asked, said):
    with pytest.raises(ServingError) as raised:
        read(body, asked)
    assert said in str(raised.value)
    assert raised.value.status_code == 400


@pytest.mark.parametrize(
    ("content", "asked", "said"),
    [
        (b'["\\ud800"]', TEXT, '"\\ud800" holds half a character'),
        (b"[" * 40 + b'"a"' + b"]" * 40, TEXT, "input bytes_inputs has lists that are nested too deeply"),
        (b"[" * 600 + b'"a"' + b"]" * 600, TEXT, "nested too deeply"),
        ("[1]".encode("utf-16"), SINGLE, "JSON Parse error: Invalid encoding in string. at offset: 14"),
        (b"[1" + b"0" * 5000 + b"]", SINGLE, "JSON Parse error: Number too big"),
        (b"[1" + b"0" * 400 + b"]", SINGLE, "input x has a number that does not fit float32"),
        (b'[{"n": 1' + b"0" * 30 + b', "t": "a", "b": true}]', SEVERAL, "input n has a number that does not fit int32"),
        (
            b'[{"n": 9223372036854775808, "t": "a", "b": true}, {"n": -1, "t": "a", "b": true}]',
            SEVERAL,
            "input n has a number that does not fit int32",
        ),
    ],
)
def test_what_no_tensor_holds_is_the_callers_fault(content, asked, said):
    with pytest.raises(ServingError) as raised:
        json_form.read(b'{"instances": ' + content + b"}", lambda _: asked)
    assert said in str(raised.value)
    assert raised.value.status_code == 400


def test_a_whole_number_beyond_64_bits_is_still_a_float():
    content = b'{"inputs": [[1' + b"0" * 30 + b", 0.5]]}"
    assert json_form.read(content, lambda _: SINGLE).inputs["x"][0].tolist() == pytest.approx([1e30, 0.5])


@given(st.binary(max_size=40) | st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda each: st.lists(each) | st.dictionaries(st.sampled_from(["x", "b64", "n", "t", "b"]), each), max_leaves=12).map(lambda value: json.dumps({"instances": value}).encode()))  # fmt: skip
def test_any_body_is_read_or_is_the_callers_fault(body):
    for asked in (SINGLE, TEXT, SEVERAL):
        try:
            found = json_form.read(body, lambda _, asked=asked: asked)
        except ServingError as error:
            assert error.status_code == 400
        else:
            assert found.inputs.keys() == asked.inputs.keys()


def written(outputs, **how):
    return json.loads(json_form.write(outputs, **how))


def test_answers_in_rows_and_in_columns():
    several = {"p": np.array([[0.5, 0.25], [1, 0]], "float32"), "id": np.array([2, 3])}
    assert written(several, in_rows=True) == {"predictions": [{"p": [0.5, 0.25], "id": 2}, {"p": [1, 0], "id": 3}]}
    assert written(several, in_rows=False) == {"outputs": {"p": [[0.5, 0.25], [1, 0]], "id": [2, 3]}}
    single = {"p": several["p"]}
    assert written(single, in_rows=True) == {"predictions": [[0.5, 0.25], [1, 0]]}
    assert written(single, in_rows=False) == {"outputs": [[0.5, 0.25], [1, 0]]}


def test_text_is_text_and_what_is_named_bytes_is_base64():
    value = np.array([b"ab", "ä".encode()], dtype=object)
    assert written({"label": value}, in_rows=True) == {"predictions": ["ab", "ä"]}
    assert written({"image_bytes": value[:1]}, in_rows=True) == {"predictions": [{"b64": "YWI="}]}
    with pytest.raises(ServingError, match="no UTF-8") as raised:
        json_form.write({"label": np.array([b"\xff"], dtype=object)}, in_rows=True)
    assert raised.value.status_code == 500


@pytest.mark.parametrize("in_rows", [True, False])
def test_complex_outputs_have_no_form_in_json(in_rows):
    with pytest.raises(
        ServingError, match="output y is complex64, which JSON has no form for; ask over gRPC"
    ) as raised:
        json_form.write({"y": np.ones((2, 1), "complex64")}, in_rows=in_rows)
    assert raised.value.status_code == 400


def test_outputs_without_a_common_batch_size_are_asked_for_in_columns():
    outputs = {"a": np.zeros((2, 1)), "b": np.float32(1).reshape(())}
    with pytest.raises(ServingError, match="ask in columns"):
        json_form.write(outputs, in_rows=True)
    assert written(outputs, in_rows=False) == {"outputs": {"a": [[0], [0]], "b": 1}}
