"""`cpr emulate` where it cannot start: exit code, what is wrong, what to do, and no traceback."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("google.cloud.aiplatform_v1")


@pytest.fixture
def emulate(tmp_path):
    def run(*arguments, **changes):
        ours = ("CPR_", "AIP_", "GOOGLE_", "CLOUDSDK_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        done = subprocess.run(
            [sys.executable, "-m", "cpr_kit", "emulate", "--engine", "process", *map(str, arguments), "--", "true"],
            env={**kept, "CPR_CACHE": str(tmp_path / "cache"), **changes},
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    return run


def test_settings_out_of_their_range(emulate):
    code, said = emulate("--set", "max_replicas=0")
    assert (code, "max_replicas must be from 1 to 1000, not 0" in said) == (2, True)


def test_a_project_that_is_none(emulate):
    code, said = emulate("--project", "Bad Project")
    assert (code, '--project "Bad Project"' in said) == (2, True)
    code, said = emulate(GOOGLE_CLOUD_PROJECT="Bad/Project")
    assert (code, 'GOOGLE_CLOUD_PROJECT "Bad/Project"' in said) == (2, True)
    assert emulate("--project", "good-project", GOOGLE_CLOUD_PROJECT="Bad/Project")[0] == 0


def test_a_state_that_cannot_be(emulate, tmp_path):
    code, said = emulate("--state", tmp_path / "nope" / "x.db")
    assert (code, "give --state another file" in said) == (2, True)
    assert not (tmp_path / "nope").exists()


def test_a_storage_that_cannot_be(emulate, tmp_path):
    (tmp_path / "s.db.storage").touch()
    code, said = emulate("--state", tmp_path / "s.db")
    assert (code, "s.db.storage" in said) == (2, True)


def test_a_cache_that_cannot_be(emulate, tmp_path):
    (tmp_path / "file").touch()
    code, said = emulate(CPR_CACHE=str(tmp_path / "file" / "cache"))
    assert (code, "set CPR_CACHE" in said) == (3, True)
