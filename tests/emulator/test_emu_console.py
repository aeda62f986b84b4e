from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit.emulator.console import Call, Console

NOON = datetime(2026, 11, 26, 12, 3, 4, 123456).astimezone()
DEPLOY = Call(
    time=NOON, protocol="gRPC", method="DeployModel", resource="projects/1/locations/us-central1/endpoints/123",
    milliseconds=812.4,
)  # fmt: skip


def shown(*calls, **options):
    stream = io.StringIO()
    console = Console(stream, environ={}, **options)
    for call in calls:
        console.call(call)
    return stream.getvalue()


def a_call(**options):
    return Call(**{"time": NOON, "protocol": "REST", "method": "Predict"} | options)


def test_a_call_is_one_line():
    assert shown(DEPLOY).split() == ["12:03:04.123", "gRPC", "DeployModel", "endpoints/123", "OK", "812", "ms"]
    assert shown(DEPLOY).count("\n") == 1


def test_the_columns_stand_under_each_other():
    lines = shown(
        DEPLOY, a_call(method="CreateBatchPredictionJob", resource="x" * 99, milliseconds=3.14159), a_call(status="404")
    ).splitlines()
    assert {line.index(" ms") for line in lines} == {len(lines[0]) - 3}
    assert "3.1 ms" in lines[1]


def test_an_errors_first_line_stands_behind_it():
    line = shown(a_call(status="NOT_FOUND", message="\nThe Endpoint 1 is not found.\nsecond\n"))
    assert line.endswith(" ms  The Endpoint 1 is not found.\n")
    assert "NOT_FOUND" in line
    assert len(shown(a_call(message="x" * 10_000))) < 500


def test_a_fault_is_marked():
    assert shown(a_call(status="503", fault="Predict:status=503")).endswith("[fault Predict:status=503]\n")


def test_long_names_lose_their_middle():
    line = shown(a_call(resource="projects/1/locations/r/models/" + "a" * 100 + "@17"))
    assert re.search(r"models/a+…a+@17 ", line)
    assert "gs://bucket/object" in shown(a_call(resource="gs://bucket/object"))


def test_names_cannot_move_the_cursor_or_turn_the_letters_round():
    line = shown(a_call(method="a\x1b[2Jb", resource="c\nd\re\u202ef", status="g\x07", message="h\x9bi", fault="\x00"))
    assert "\\x1b[2J" in line
    assert "c\\nd\\re\\u202ef" in line
    assert line.removesuffix("\n").isprintable()


def test_json_is_one_object_a_line():
    lines = shown(DEPLOY, a_call(status="503", message="one\ntwo\x1b", fault="f"), as_json=True).splitlines()
    first, second = map(json.loads, lines)
    moment = NOON.astimezone(timezone.utc)
    assert first == {
        "time": f"{moment:%Y-%m-%dT%H:%M:%S}.123Z", "protocol": "gRPC", "method": "DeployModel",
        "resource": DEPLOY.resource, "status": "OK", "ms": 812.4,
    }  # fmt: skip
    assert (second["message"], second["fault"]) == ("one\ntwo\x1b", "f")
    assert all(line.isascii() and line.isprintable() for line in lines)


def test_the_time_is_this_machines():
    elsewhere = NOON.astimezone(timezone(timedelta(hours=-9)))
    assert shown(a_call(time=elsewhere)).startswith("12:03:04.123")


def test_notes_are_lines_of_their_own():
    stream = io.StringIO()
    Console(stream, environ={}).note("replica 1 is ready\nsecond \x1b[2J")
    assert stream.getvalue() == "replica 1 is ready\nsecond \\x1b[2J\n"
    stream = io.StringIO()
    Console(stream, as_json=True, environ={}).note("ready\n")
    assert json.loads(stream.getvalue())["note"] == "ready\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def on_a_terminal(call, environ, **options):
    stream = Terminal()
    Console(stream, environ=environ, **options).call(call)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("status", "colour"),
    [("OK", 32), ("200", 32), ("NOT_FOUND", 33), ("429", 33), ("CANCELLED", 33), ("UNAVAILABLE", 31), ("503", 31)],
)
def test_a_terminal_gets_colours(status, colour):
    call = a_call(status=status)
    assert f"\x1b[{colour}m{status}" in on_a_terminal(call, {})
    plain = re.sub(r"\x1b\[\d+m", "", on_a_terminal(call, {}))
    assert plain == on_a_terminal(call, {"NO_COLOR": "1"}) == shown(call)
    assert on_a_terminal(call, {"NO_COLOR": ""}) == on_a_terminal(call, {})
    assert "\x1b" not in on_a_terminal(call, {}, as_json=True)


def test_a_pseudo_terminal_is_a_terminal():
    controller, terminal = os.openpty()
    try:
        with os.fdopen(terminal, "w") as stream:
            Console(stream, environ={}).call(DEPLOY)
            assert b"\x1b[32mOK" in os.read(controller, 1000)
    finally:
        os.close(controller)


def test_a_terminal_that_went_away_is_no_error():
    closed = io.StringIO()
    console = Console(closed, environ={})
    closed.close()
    console.call(DEPLOY)
    console.note("x")
    Console(closed, environ={}).call(DEPLOY)

    read, write = os.pipe()
    os.close(read)
    with open(write, "wb", buffering=0) as raw:
        stream = io.TextIOWrapper(raw, write_through=True)
        Console(stream, environ={}).call(DEPLOY)
        stream.detach()


def test_a_program_whose_stderr_is_closed_goes_on():
    code = (
        "import os, sys; from datetime import datetime, timezone; from cpr_kit.emulator.console import *; os.close(2);"
        "Console().call(Call(time=datetime.now(timezone.utc), protocol='REST', method='x')); print('on')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "on\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_that_lacks_a_letter_gets_its_number(encoding):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    Console(stream, environ={}).call(a_call(resource="modèle-模"))
    expected = {"ascii": "mod\\xe8le-\\u6a21", "latin-1": "modèle-\\u6a21", "utf-8": "modèle-模"}[encoding]
    assert expected in raw.getvalue().decode(encoding)


@given(st.tuples(*[st.text(st.characters(codec=None), max_size=50)] * 6), st.floats(0, 1e9), st.booleans())
def test_whatever_the_names_it_is_one_line_and_no_error(texts, milliseconds, as_json):
    names = dict(zip(("protocol", "method", "resource", "status", "message", "fault"), texts, strict=True))
    line = shown(Call(time=NOON, milliseconds=milliseconds, **names), as_json=as_json)
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    if as_json:
        assert {"fault": "", "message": "", **json.loads(line)}["message"] == names["message"]


class LetterByLetter(io.StringIO):
    """Gives other threads their turn between any two letters."""

    def write(self, text):
        return sum(super(LetterByLetter, self).write(letter) for letter in text)


@pytest.fixture
def threads_take_turns():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_lines_of_several_threads_do_not_mix(threads_take_turns):
    stream = LetterByLetter()
    console = Console(stream, environ={})
    start = threading.Barrier(4)

    def work(number):
        start.wait()
        for _ in range(50):
            console.call(a_call(method=str(number) * 20, message=str(number) * 200))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 200
    assert all(re.fullmatch(r"12:03:04.123  REST  (\d)\1{19} .* ms  \1{200}", line) for line in lines)
