from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from cpr_kit.engine.progress import TAIL, Steps

CLASSIC = """\
Step 1/3 : FROM python:3.11-slim
 ---> c6d1fb5ec857
Step 2/3 : RUN echo hello
 ---> Using cache
 ---> 846a1259c0a8
Step 3/3 : RUN echo line1; false
 ---> Running in cdb52e2131dd
\x1b[91mline1\x1b[0m
The command '/bin/sh -c echo line1; false' returned a non-zero code: 1
"""
BUILDKIT = """\
#3 [internal] load metadata for docker.io/library/python:3.11-slim
#3 sha256:fec50dac
#3 DONE 0.0s

#5 [requirements 2/2] RUN pip install numpy
#5 sha256:abd2
#5 CACHED

#7 [stage-1 3/4] RUN echo line1; false
#7 sha256:6ca1
#8 [other 1/1] RUN sleep 9
#7 0.207 line1
#8 0.300 still here
#7 ERROR: executor failed running [/bin/sh -c echo line1; false]: exit code: 1
#8 CANCELED
------
 > [stage-1 3/4] RUN echo line1; false:
#7 0.207 line1
------
executor failed running [/bin/sh -c echo line1; false]: exit code: 1
"""


def fed(text: str) -> tuple[Steps, list[str]]:
    steps = Steps()
    return steps, [str(step) for step in map(steps.feed, text.splitlines()) if step]


def test_the_classic_builder_is_at_one_step_after_another():
    steps, seen = fed(CLASSIC)
    assert list(dict.fromkeys(seen)) == [
        "step 1/3: FROM python:3.11-slim",
        "step 2/3: RUN echo hello",
        "step 3/3: RUN echo line1; false",
    ]
    error = steps.error()
    assert error.step == "step 3/3: RUN echo line1; false"
    assert error.tail == (
        "line1",
        "The command '/bin/sh -c echo line1; false' returned a non-zero code: 1",
    )


def test_a_step_from_the_cache_is_marked_by_either_builder():
    for text in ("Step 2/3 : RUN x\n ---> Using cache\n", "#5 [2/3] RUN x\n#5 CACHED\n"):
        steps, _ = fed(text)
        assert steps.current.cached
        assert (steps.current.number, steps.current.total, steps.current.title) == (2, 3, "RUN x")
        assert list(steps.current.tail) == []


def test_of_buildkits_parallel_steps_the_one_with_the_error_failed():
    steps, seen = fed(BUILDKIT)
    assert "step 2/2 of requirements: RUN pip install numpy" in seen
    error = steps.error()
    assert error.step == "step 3/4 of stage-1: RUN echo line1; false"
    assert error.tail == ("line1", "executor failed running [/bin/sh -c echo line1; false]: exit code: 1")


def test_without_any_step_the_error_says_so():
    assert "the start of the build" in str(Steps().error())


LINES = st.one_of(
    st.text(),
    st.from_regex(r"#\d+ (\[(\w+ )?\d+/\d+\] .*|\d\.\d+ .*|ERROR.*|DONE.*|CACHED|.*)", fullmatch=True),
    st.from_regex(r"Step \d+/\d+ : .*", fullmatch=True),
    st.just("------"),
)


@settings(deadline=None)
@given(st.lists(LINES, max_size=100))
def test_any_lines_are_taken_and_last_lines_are_bounded(lines):
    steps = Steps()
    for line in lines:
        step = steps.feed(line)
        assert step is None or len(step.tail) <= TAIL
        str(step)
    error = steps.error()
    assert len(error.tail) <= TAIL + 1
    assert error.step or steps.failed.title == ""


@settings(deadline=None)
@given(st.lists(st.text("abc", min_size=1), max_size=50))
def test_the_last_lines_of_a_step_are_kept_in_order(lines):
    steps = Steps()
    steps.feed("#7 [2/3] RUN x")
    for line in lines:
        steps.feed(f"#7 0.5 {line}")
    assert list(steps.current.tail) == lines[-TAIL:]
