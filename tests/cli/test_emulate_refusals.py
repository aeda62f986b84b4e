"""`cpr emulate` where it cannot start: exit code, what is wrong, what to do, and no traceback."""

import os
import subprocess
import sys

import pytest

from cpr_kit import emulate as emulated
from cpr_kit.errors import ConfigError, UsageError


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


@pytest.mark.parametrize("option", ["--fault", "--set", "--project", "--state"])
def test_an_option_without_its_value(emulate, option):
    code, said = emulate(option)
    assert (code, f"Option '{option}' requires an argument" in said) == (2, True)


def run(*arguments, **changes):
    command = [sys.executable, "-m", "cpr_kit", "emulate", *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, **changes}, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_a_command_that_is_not_executable(tmp_path):
    program = tmp_path / "deploy.py"
    program.touch(0o644)
    code, said = run("--", program)
    assert (code, f"{program} is not executable; run: chmod +x" in said) == (2, True)
    code, said = run("--", f"{tmp_path}/")
    assert (code, "is a folder" in said) == (2, True)


@pytest.fixture
def lacking(tmp_path):
    """An environment whose Python finds no module of this name."""

    def make(name):
        (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.modules[{name!r}] = None\n")
        return {"PYTHONPATH": str(tmp_path), "CPR_CACHE": str(tmp_path / "cache")}

    return make


@pytest.mark.parametrize("arguments", [("--", "true"), ("--env",), ("--stop",)])
def test_without_the_extra(lacking, arguments):
    code, said = run(*arguments, **lacking("cryptography"))
    assert (code, 'pip install "cpr-kit[emulator]"' in said, "(cryptography" in said) == (3, True, True)


def test_a_program_without_the_extra(lacking):
    code = "import cpr_kit\nwith cpr_kit.emulate(): pass"
    environ = {**os.environ, **lacking("cryptography")}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=120)
    assert done.stderr.splitlines()[-1].startswith("cpr_kit.errors.MissingExtra: a library of the emulator's")


def test_a_program_gives_plain_words(tmp_path):
    state = tmp_path / "nb.db"
    with emulated(state=str(state), engine="process", faults="predict:status=503", project="mine-1") as emulator:
        assert emulator.environment["GOOGLE_CLOUD_PROJECT"] == "mine-1"
    assert state.exists()


@pytest.mark.parametrize(
    ("options", "error"),
    [({"engine": "nonsense"}, ConfigError), ({"project": "Bad Project"}, UsageError), ({"faults": "x"}, UsageError)],
)
def test_a_programs_wrong_words(options, error):
    with pytest.raises(error, match=str(next(iter(options.values())))), emulated(**{"engine": "process", **options}):
        pass
