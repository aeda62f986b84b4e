"""`make demo`, from training to the answer under the emulator, on a machine without a container engine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "containers" / "demo.py"


@pytest.mark.heavy
def test_the_demo_in_processes():
    environ = {**os.environ, "CPR_ENGINE": "process"}
    done = subprocess.run([sys.executable, DEMO], env=environ, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    *_, answers, expected, total = done.stdout.splitlines()
    wanted = '{"predictions": ["versicolor", "setosa"]}'
    assert answers == f"answers:  {wanted}, {wanted}"
    assert expected.endswith(wanted)
    assert "UploadModel" in done.stderr
