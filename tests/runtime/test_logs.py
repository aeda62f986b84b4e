import datetime
import json
import logging
import os
import pty
import subprocess
import sys
import textwrap

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpr_kit.runtime import trace
from cpr_kit.runtime.logs import CloudFormatter

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.just("\ud800\n"),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.tuples(st.text()), inner),
    max_leaves=5,
)


class CannotBeShown:
    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __str__


def record(message="m", args=(), level=logging.INFO, **extra):
    made = logging.LogRecord("author", level, "/f.py", 1, message, args, None)
    vars(made).update(extra)
    return made


def read(line):
    """orjson is the strictest reader at hand: no NaN, no lone surrogates."""
    assert line.splitlines() == [line]
    assert line.isascii()
    return orjson.loads(line)


def run(code, **environ):
    """What a process of its own writes to (stdout, stderr), after logs.configure()."""
    code = "import logging\nfrom cpr_kit.runtime import logs\nlogs.configure()\n" + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True,
        env={"PATH": os.environ["PATH"], **environ},
    )  # fmt: skip
    return done.stdout, done.stderr


def test_a_line_has_the_fields_that_cloud_logging_reads():
    now = datetime.datetime.now(datetime.timezone.utc)
    line = read(CloudFormatter("p").format(record("a %s", ("b",), logging.WARNING, rows=3)))

    assert abs(datetime.datetime.fromisoformat(line.pop("time").replace("Z", "+00:00")) - now).total_seconds() < 60
    assert line == {
        "severity": "WARNING",
        "message": "a b",
        "logger": "author",
        "rows": 3,
        "logging.googleapis.com/labels": {"pid": str(os.getpid())},
    }


@pytest.mark.parametrize(
    ("level", "severity"),
    [(0, "DEFAULT"), (10, "DEBUG"), (25, "INFO"), (30, "WARNING"), (40, "ERROR"), (50, "CRITICAL"), (99, "CRITICAL")],
)
def test_levels_are_cloud_loggings_severities(level, severity):
    assert read(CloudFormatter().format(record(level=level)))["severity"] == severity


def test_a_line_during_a_request_carries_its_trace():
    token = trace.current.set(trace.Trace("id-1", "a" * 32, "b" * 16, True))
    try:
        line = read(CloudFormatter("my-project").format(record()))
        bare = read(CloudFormatter().format(record()))
    finally:
        trace.current.reset(token)

    assert line["request_id"] == "id-1"
    assert line["logging.googleapis.com/trace"] == f"projects/my-project/traces/{'a' * 32}"
    assert line["logging.googleapis.com/spanId"] == "b" * 16
    assert line["logging.googleapis.com/trace_sampled"] is True
    assert bare["logging.googleapis.com/trace"] == "a" * 32
    assert "request_id" not in read(CloudFormatter("my-project").format(record()))


def test_a_traceback_is_in_the_message_for_error_reporting():
    try:
        raise ValueError("no weights")
    except ValueError as error:
        line = read(CloudFormatter().format(record("failed", exc_info=(ValueError, error, error.__traceback__))))

    assert line["message"].startswith("failed\nTraceback (most recent call last):\n")
    assert line["message"].endswith("ValueError: no weights")
    assert "exc_info" not in line


def test_extra_never_replaces_what_is_the_logs_own():
    special = {"severity": "DEBUG", "time": "never", "logger": "x", "logging.googleapis.com/labels": {"a": "b"}}
    line = read(CloudFormatter().format(record(level=logging.ERROR, **special)))

    assert (line["severity"], line["logger"]) == ("ERROR", "author")
    assert line["logging.googleapis.com/labels"] == {"pid": str(os.getpid())}
    assert line["time"] != "never"


@settings(max_examples=50, deadline=None)
@given(st.text(), st.dictionaries(st.text(min_size=1), ANY, max_size=3))
def test_any_record_is_one_line_of_json(message, extra):
    standard = set(vars(record()))
    given = {key: value for key, value in extra.items() if key not in standard}
    line = read(CloudFormatter().format(record(message, **given)))
    assert line["message"] == message.encode("utf-8", "replace").decode()


@pytest.mark.parametrize(
    "made",
    [
        record("%d and %d", ("one",)),
        record("%s", (CannotBeShown(),)),
        record(CannotBeShown()),
        record(extra=CannotBeShown(), other={CannotBeShown(): [CannotBeShown()]}),
        record(exc_info=True),
        record(exc_info=(ValueError, None, None)),
        record(created=float("nan")),
        record(created=1e300),
        record(**{f"k{number}": number for number in range(5000)}),
        record(huge=[["x" * 1000] * 100] * 100, number=10**5000 if sys.version_info < (3, 11) else 2**64),
    ],
)
def test_records_that_are_broken_are_one_line_too(made):
    line = CloudFormatter().format(made)
    assert {"severity", "message", "time"} <= read(line).keys()
    assert len(line) < 400_000


def test_numbers_that_json_does_not_have_are_text():
    line = read(CloudFormatter().format(record(a=float("nan"), b=[float("-inf")], c=2**64, d=0.5)))
    assert (line["a"], line["b"], line["c"], line["d"]) == ("nan", ["-inf"], str(2**64), 0.5)


def test_extra_that_holds_itself_is_cut():
    loop = []
    loop.append(loop)
    assert read(CloudFormatter().format(record(loop=loop)))["loop"]


def test_a_long_message_keeps_its_start_and_its_end():
    message = read(CloudFormatter().format(record("first " + "x" * 1_000_000 + " last")))["message"]
    assert message.startswith("first ")
    assert message.endswith(" last")
    assert "characters left out" in message
    assert len(message) < 33_000


def test_errors_are_on_standard_error_and_the_rest_on_standard_output():
    out, err = run("""
        print("printed")
        logging.info("i")
        logging.getLogger("author").warning("w")
        logging.error("e")
        logging.getLogger("cpr_kit").info("kit i")
        logging.getLogger("cpr_kit").error("kit e")
        import warnings; warnings.warn("old", DeprecationWarning)
    """, AIP_PROJECT_NUMBER="123")  # fmt: skip

    printed, *lines = out.splitlines()
    lines = [json.loads(line) for line in lines]
    assert printed == "printed"
    assert [line["message"] for line in lines[:3]] == ["i", "w", "kit i"]
    assert [line["severity"] for line in lines] == ["INFO", "WARNING", "INFO", "WARNING"]
    assert "DeprecationWarning: old" in lines[3]["message"]
    assert [json.loads(line)["message"] for line in err.splitlines()] == ["e", "kit e"]


def test_the_text_format_is_asked_for():
    out, err = run("logging.info('i'); logging.error('e')", CPR_SERVE_LOG_FORMAT="text")
    assert out.endswith(" INFO i\n")
    assert err.endswith(" ERROR e\n")


def test_a_terminal_gets_text_and_a_bad_format_counts_as_none():
    leader, follower = pty.openpty()
    code = "import logging; from cpr_kit.runtime import logs; logs.configure(); logging.info('seen')"
    environ = {"PATH": os.environ["PATH"], "CPR_SERVE_LOG_FORMAT": "xml"}
    subprocess.run([sys.executable, "-c", code], stdout=follower, env=environ, check=True, timeout=60)
    os.close(follower)
    assert os.read(leader, 1000).decode().strip().endswith(" INFO seen")
    os.close(leader)

    assert json.loads(run("logging.info('seen')", CPR_SERVE_LOG_FORMAT="xml")[0])["message"] == "seen"


def test_a_dictconfig_of_the_authors_leaves_the_kits_log_alone():
    out, err = run("""
        import logging.config, sys
        logging.config.dictConfig({
            "version": 1,
            "formatters": {"own": {"format": "own: %(message)s"}},
            "handlers": {"own": {"class": "logging.StreamHandler", "stream": sys.stdout, "formatter": "own"}},
            "root": {"level": "ERROR", "handlers": ["own"]},
        })
        logs.revive()
        logging.error("the author's")
        logging.getLogger("cpr_kit").info("the kit's")
        logging.getLogger("cpr_kit").error("cannot start: x | y")
    """)

    own, kits = out.splitlines()
    assert own == "own: the author's"
    assert json.loads(kits)["message"] == "the kit's"
    assert json.loads(err)["message"] == "cannot start: x | y"


def test_an_exception_in_a_thread_is_one_record():
    out, err = run("""
        import threading
        def raises(): raise ValueError("in a thread")
        def exits(): raise SystemExit
        for target in (raises, exits):
            thread = threading.Thread(target=target, name="author's"); thread.start(); thread.join()
    """)
    line = json.loads(err)
    assert line["severity"] == "ERROR"
    assert line["message"].startswith("the thread author's ended by an exception\nTraceback")
    assert out == ""


def test_a_process_without_a_standard_output_still_logs_its_errors():
    code = "import sys; sys.stdout = None; from cpr_kit.runtime import logs; logs.configure(); import logging; logging.error('e'); logging.info('i')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stderr)["message"] == "e"


def test_an_encoding_that_lacks_the_letters_is_no_matter():
    out, err = run("logging.info('é 漢')", PYTHONIOENCODING="ascii")
    assert (json.loads(out)["message"], err) == ("é 漢", "")


@pytest.mark.parametrize("environment", [{"AIP_HTTP_PORT": "eighty"}, {"CPR_SERVE_LOG_FORMAT": "xml"}])
def test_in_json_the_last_line_of_a_failed_start_says_why(serve, environment):
    code, last = serve("answers:Doubles", **{"CPR_SERVE_LOG_FORMAT": "json", **environment}).end()

    name, value = next(iter(environment.items()))
    line = json.loads(last)
    assert (code, line["severity"]) == (1, "ERROR")
    assert line["message"].startswith(f'cannot start: {name} is "{value}" | ')


def test_in_json_a_load_that_fails_is_a_traceback_and_then_the_reason(serve):
    server = serve("fails:LoadRaises", CPR_SERVE_LOG_FORMAT="json")

    code, last = server.end()

    assert code == 1
    assert json.loads(last)["message"].startswith("cannot start: LoadRaises could not be loaded: ValueError")
    before = json.loads(server.stderr().splitlines()[-2])
    assert "Traceback (most recent call last):\n" in before["message"]


def test_a_good_request_makes_no_record(serve):
    server = serve("answers:Doubles").ready()
    before = server.stdout()
    for _ in range(20):
        assert server.predict({"instances": [1]}).status_code == 200
    assert (server.stdout(), server.stderr()) == (before, "")
