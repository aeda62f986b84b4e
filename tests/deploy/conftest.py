import sys

import pytest


@pytest.fixture(scope="module", autouse=True)
def sdk_settings():
    """What a module has told aiplatform.init is not the next one's: the SDK keeps it for the whole program."""
    yield
    initializer = sys.modules.get("google.cloud.aiplatform.initializer")
    if initializer is not None:
        vars(initializer.global_config).update(vars(type(initializer.global_config)()))
