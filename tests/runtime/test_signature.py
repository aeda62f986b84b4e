import dataclasses

import pytest

from cpr_kit.runtime.signature import Signature


def test_names_are_a_count_too():
    assert Signature(names=("a", "b")).features == 2
    assert Signature(names=("a", "b"), features=2).features == 2
    with pytest.raises(ValueError, match="a signature of 3 features names 2"):
        Signature(names=("a", "b"), features=3)


def test_nothing_is_checked_unless_declared():
    signature = Signature()
    assert dataclasses.astuple(signature) == (None, None, False, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        signature.features = 1
