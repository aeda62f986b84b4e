from __future__ import annotations

import pytest
import tf_world


@pytest.fixture(scope="session")
def tf_image():
    """The stand-in for TensorFlow Serving: tests that use it are marked `engine`."""
    return tf_world.build()


@pytest.fixture(scope="session")
def tf_models(tf_image, tmp_path_factory):
    """The folder of penguins/, colours/, cold/ and warm/."""
    return tf_world.make_models(tmp_path_factory.mktemp("tf-models"))
