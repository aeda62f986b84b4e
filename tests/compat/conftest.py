import sys
from pathlib import Path

import pytest

# The scripts and their engine belong to the harness's tests.
HARNESS = Path(__file__).parent.parent / "harness"
sys.path.insert(0, str(HARNESS))

from script_engine import ScriptEngine


@pytest.fixture
def scripts():
    return ScriptEngine()


@pytest.fixture
def server():
    return lambda name: str(HARNESS / "servers" / f"{name}.py")
