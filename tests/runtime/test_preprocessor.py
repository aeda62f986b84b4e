import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from cpr_kit import Preprocessor, StartError
from cpr_kit.runtime import preprocessor as preprocessors


class Scaler(Preprocessor):
    def fit(self, instances):
        self.mean, self.std = instances.mean(0), instances.std(0)
        return self

    def transform(self, instances):
        return (instances - self.mean) / self.std


class Keeps(Preprocessor):
    allow_constant = True

    def fit(self, instances):
        return self

    def transform(self, instances):
        return instances


ROWS = [[1, 10], [2, 20], [3, 60]]


class Halves(Scaler):
    """Its parent learns from the first two of four columns."""

    def fit(self, instances):
        return super().fit(instances[:, :2])

    def transform(self, instances):
        return super().transform(instances[:, :2])


def test_how_many_features_were_fitted_is_known_after_loading(tmp_path):
    fitted = Scaler().fit(ROWS)
    assert preprocessors.declared(fitted).features == 2
    fitted.save(tmp_path)
    assert preprocessors.declared(Scaler.load(tmp_path)).features == 2
    assert preprocessors.declared(Halves().fit([[1, 2, 3, 4], [5, 6, 7, 9]])).features == 4
    assert preprocessors.declared(Keeps()).features is None


def test_a_state_that_was_saved_without_the_number_takes_any(tmp_path):
    saved = Scaler()
    saved.mean, saved.std = np.zeros(2), np.ones(2)
    saved.save(tmp_path)
    assert preprocessors.declared(Scaler.load(tmp_path)).features is None


def test_fit_saved_and_loaded_transforms_the_same(tmp_path):
    fitted = Scaler().fit(ROWS)
    fitted.save(tmp_path / "model")

    loaded = Scaler.load(tmp_path / "model")

    assert np.array_equal(loaded.transform(np.array(ROWS)), fitted.transform(np.array(ROWS)))


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]\w{0,8}", fullmatch=True),
        npst.arrays(npst.scalar_dtypes(), npst.array_shapes(max_side=3))
        | st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
    )
)
def test_any_plain_state_comes_back(tmp_path_factory, state):
    folder = tmp_path_factory.mktemp("model")
    saved = Keeps()
    vars(saved).update(state)
    saved.save(folder)

    loaded = vars(Keeps.load(folder))

    assert loaded.keys() == state.keys()
    for name, value in state.items():
        same = (
            np.array_equal(loaded[name], value, equal_nan=value.dtype.kind in "fcmM")
            if isinstance(value, np.ndarray)
            else loaded[name] == value
        )
        assert same


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, 5], [2, 5]], "column 1 has zero variance: all 2 rows hold 5"),
        ([[1, 2], [np.nan, 3]], "row 1, column 0 is nan"),
        ([1, 2, 3], r"shape \(3,\)"),
        ([], "shape"),
    ],
)
def test_fit_refuses_what_cannot_be_learned_from(rows, message):
    with pytest.raises(ValueError, match=message):
        Scaler().fit(rows)


def test_constant_columns_pass_where_they_are_no_mistake():
    Keeps().fit([[1, 5], [2, 5]])


@pytest.mark.parametrize("value", [object(), {1: "a"}, (1, 2), lambda: 0, np.array([object()])])
def test_state_that_only_a_pickle_could_hold_is_refused_by_name(tmp_path, value):
    saved = Keeps()
    saved.odd = value
    with pytest.raises(TypeError, match="odd"):
        saved.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_preprocessor_that_is_not_there_or_damaged_says_so(tmp_path):
    with pytest.raises(StartError, match=r"preprocessor.npz is not among.*save it there"):
        Scaler.load(tmp_path)
    (tmp_path / preprocessors.FILE).write_bytes(b"PK\x03\x04 rubbish")
    with pytest.raises(StartError, match="no saved preprocessor"):
        Scaler.load(tmp_path)


def test_an_archive_with_pickled_objects_is_never_unpickled(tmp_path):
    np.savez(tmp_path / preprocessors.FILE, mean=np.array([print], dtype=object))
    with pytest.raises(StartError, match="no saved preprocessor"):
        Scaler.load(tmp_path)


def test_the_class_is_found_again_or_asked_for(tmp_path):
    Scaler().fit(ROWS).save(tmp_path)
    assert isinstance(preprocessors.find(tmp_path), Scaler)

    gone = type("Gone", (Scaler,), {})
    gone().fit(ROWS).save(tmp_path)
    del gone
    gc.collect()
    with pytest.raises(StartError, match=r'a class Gone.*preprocessor = "module:Gone"'):
        preprocessors.find(tmp_path)
