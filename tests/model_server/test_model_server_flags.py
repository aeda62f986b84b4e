"""tensorflow_model_server's command line."""

import subprocess
import sys

import pytest

from cpr_kit.errors import UsageError
from cpr_kit.model_server import flags

TUTORIAL = (
    "--model_name=example_20260101000000",
    "--model_base_path=gs://bucket/model",
    "--rest_api_port=8080",
    "--port=8500",
    "--file_system_poll_wait_seconds=31540000",
)


def test_the_tutorials_arguments():
    found = flags.parse(TUTORIAL)
    assert found == flags.Flags(
        model_name="example_20260101000000",
        model_base_path="gs://bucket/model",
        rest_api_port=8080,
        port=8500,
        file_system_poll_wait_seconds=31540000,
    )
    assert not found.compiles
    assert not found.compresses


def test_a_later_flag_wins():
    assert flags.parse([*TUTORIAL, "--model_name=other"]).model_name == "other"


@pytest.mark.parametrize(
    ("given", "compiles", "compresses"),
    [
        (["--allow_precompilation=true"], True, False),
        (["--allow_precompilation"], True, False),
        (["--allow_precompilation=TRUE", "--allow_precision_affecting_optimizations=1"], True, True),
        (["--allow_compression=true"], False, True),
        (["--allow_precompilation=true", "--allow_compression=true", "--disable_optimizer"], False, False),
        (["--allow_precompilation=false"], False, False),
    ],
)
def test_the_optimized_runtimes_flags(given, compiles, compresses):
    found = flags.parse([*TUTORIAL, *given])
    assert (found.compiles, found.compresses) == (compiles, compresses)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--model_nam=x", "unknown argument: --model_nam=x"),
        ("model", "unknown argument: model"),
        ("--port=http", "Couldn't interpret value http for flag port."),
        ("--port=--5", "Couldn't interpret value --5 for flag port."),
        ("--rest_api_port=99999", "--rest_api_port is 99999: a TCP port is 0 to 65535"),
        ("--port=-1", "--port is -1: a TCP port is 0 to 65535"),
        ("--port", "Couldn't interpret value  for flag port."),
        ("--enable_batching=yes", "Couldn't interpret value yes for flag enable_batching."),
    ],
)
def test_what_is_no_flag(given, said):
    with pytest.raises(UsageError) as raised:
        flags.parse([*TUTORIAL, given])
    assert str(raised.value) == said


def test_what_is_missing():
    with pytest.raises(UsageError, match="--model_base_path is missing"):
        flags.parse(["--rest_api_port=8080"])
    with pytest.raises(UsageError, match="both 0"):
        flags.parse(["--model_base_path=/m", "--port=0"])


def test_the_program_shows_its_flags_and_ends_with_255():
    done = subprocess.run(
        [sys.executable, "-m", "cpr_kit.model_server", "--none"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 255
    first, usage, *_ = done.stdout.splitlines()
    assert (first, usage) == ("unknown argument: --none", "usage: tensorflow_model_server")
    for flag in ("model_name", "rest_api_port", "enable_batching", "allow_precompilation"):
        assert f"\t--{flag}=" in done.stdout


def test_without_tensorflow_it_says_where_there_is_one():
    code = "import sys; sys.modules['tensorflow'] = None\nfrom cpr_kit.model_server.server import main\nsys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "--model_base_path=/none"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 255
    assert "tensorflow is not installed here; this server runs in the image of containers/tf_serving" in done.stdout
