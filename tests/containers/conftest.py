from __future__ import annotations

import sys

import pytest
import tf_world


@pytest.fixture(scope="module", autouse=True)
def sdk_settings():
    """What modules before have told aiplatform.init, such as a transport, is not these ones': the SDK keeps it."""
    initializer = sys.modules.get("google.cloud.aiplatform.initializer")
    if initializer is not None:
        vars(initializer.global_config).update(vars(type(initializer.global_config)()))


@pytest.fixture(scope="session")
def tf_image():
    """The stand-in for TensorFlow Serving: tests that use it are marked `engine`."""
    return tf_world.build()


@pytest.fixture(scope="session")
def tf_models(tf_image, tmp_path_factory):
    """The folder of penguins/, colours/, cold/ and warm/."""
    return tf_world.make_models(tmp_path_factory.mktemp("tf-models"))
