import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from cpr_kit.errors import MissingField, RequestError
from cpr_kit.runtime.serializer import DefaultSerializer, accepts, dumps

JSON = "application/json"
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(plain)
def test_json_comes_back_as_it_went(value):
    assert DefaultSerializer.deserialize(DefaultSerializer.serialize(value, None), JSON) == value


@given(
    npst.arrays(
        npst.scalar_dtypes().filter(lambda d: d.kind in "biuf" and d.itemsize <= 8), npst.array_shapes(max_side=4)
    )
)
def test_any_numeric_array_is_its_list(array):
    array = np.where(np.isfinite(array), array, 0).astype(array.dtype)
    back = np.asarray(DefaultSerializer.deserialize(dumps({"a": array.T}), JSON)["a"])
    assert back.shape == array.T.shape
    assert np.allclose(back.astype(float), array.T.astype(float))


@given(st.binary())
def test_any_body_is_json_or_the_callers_mistake(body):
    try:
        DefaultSerializer.deserialize(body, JSON)
    except RequestError as error:
        assert error.status_code == 400


def test_the_message_about_broken_json_does_not_echo_the_body():
    with pytest.raises(RequestError) as error:
        DefaultSerializer.deserialize(b'{"secret": hunter2}', JSON)
    assert "hunter2" not in str(error.value)


def test_a_missing_field_is_a_key_error_and_a_request_error():
    body = DefaultSerializer.deserialize(b"{}", JSON)
    with pytest.raises(KeyError) as error:
        body["instances"]
    assert isinstance(error.value, MissingField)
    assert body.get("instances") is None
    assert str(error.value) == 'the request has no "instances"'


def test_a_value_without_json_form_is_named():
    with pytest.raises(TypeError, match="builtins.object"):
        try:
            dumps({"a": object()})
        except TypeError as error:
            raise error.__cause__ or error


@pytest.mark.parametrize(
    ("header", "answer"),
    [
        (None, True),
        ("", True),
        ("*/*", True),
        ("application/*", True),
        ("text/html, application/json;q=0.9", True),
        ("application/json; charset=utf-8", True),
        ("APPLICATION/JSON", True),
        ("text/html", False),
        ("application/json;q=0, */*", False),
        ("application/json;q=x", False),
        ("*/*;q=0.1", True),
    ],
)
def test_accept_headers(header, answer):
    assert accepts(header, JSON) is answer


@given(st.text())
def test_any_accept_header_has_an_answer(header):
    assert accepts(header, JSON) in (True, False)


def test_text_is_read_as_bytes_are():
    assert DefaultSerializer.deserialize('{"instances": ["é"]}', JSON) == {"instances": ["é"]}


def test_a_type_that_cannot_be_shown_is_not():
    for read in (
        lambda: DefaultSerializer.deserialize(b"{}", "text/\x1b[31m"),
        lambda: DefaultSerializer.serialize({}, "text/\x1b[31m"),
    ):
        with pytest.raises(RequestError) as error:
            read()
        assert error.value.status_code in (406, 415)
        assert "\x1b" not in str(error.value)
