"""Ports where an engine cannot map them: no two emulators of this machine are told the same one."""

import socket
import subprocess
import sys

import pytest

from cpr_kit.emulator.errors import ApiError
from cpr_kit.emulator.serving import failures, launching
from cpr_kit.engine import ports
from cpr_kit.engine.choose import choose
from cpr_kit.errors import ContainerError

OTHER = """
import sys
from cpr_kit.emulator.serving import launching
from cpr_kit.engine.choose import choose
print(launching.take_port(choose("process").engine, int(sys.argv[1])), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def engine(tmp_path, monkeypatch):
    monkeypatch.setenv("CPR_CACHE", str(tmp_path / "cache"))
    return choose("process").engine


def test_two_in_one_process(engine):
    wanted = ports.free()
    first, second = launching.take_port(engine, wanted), launching.take_port(engine, wanted)
    assert first == wanted != second
    launching.give_port(engine, first)
    assert launching.take_port(engine, wanted) == wanted
    launching.give_port(engine, wanted)
    launching.give_port(engine, second)
    assert not launching._taken


def test_another_emulator_has_it_until_it_is_killed(engine):
    wanted = ports.free()
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, str(wanted)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert int(other.stdout.readline()) == wanted
        mine = launching.take_port(engine, wanted)
        launching.give_port(engine, mine)
        other.kill()
    assert mine != wanted
    assert launching.take_port(engine, wanted) == wanted
    launching.give_port(engine, wanted)


def test_one_that_somebody_listens_on(engine):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        mine = launching.take_port(engine, sock.getsockname()[1])
        launching.give_port(engine, mine)
        assert mine != sock.getsockname()[1]


def test_nowhere_to_reserve_it(engine, tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(ApiError, match="cannot be reserved in .*set CPR_CACHE"):
        launching.take_port(engine, ports.free())
    assert not launching._taken


def test_an_image_is_named_as_its_user_names_it(tmp_path):
    error = ContainerError("sha256:12ab could not be started: no such file")
    said = str(failures.explain(None, error, tmp_path / "log", names={"sha256:12ab": "mine:1"}))
    assert said.endswith("\n\nmine:1 could not be started: no such file")
