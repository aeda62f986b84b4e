"""Two real servers compared from Python: differences, errors, one that is lost, rates, and what is shown of them."""

import json
import math
import re
import threading
import xml.etree.ElementTree as ElementTree

import pytest
from cmp_servers import HangUp, Raw, Status, serving

from cpr_kit.compare import api, picture, render
from cpr_kit.compare.api import Limits
from cpr_kit.contract import ContainerSpec
from cpr_kit.errors import LackingError, UsageError

ROWS = [[number / 10, number % 3] for number in range(40)]


def scores(row):
    """A softmax of two."""
    yes = 1 / (1 + math.exp(-row[0] + 1.95))
    return [1 - yes, yes]


def broken(row):
    """Right for most rows."""
    return scores(row) if row[0] != 3.5 else scores([0.2, 0])


def test_two_that_agree():
    with serving(scores, lambda row: [each + 1e-4 for each in scores(row)]) as (one, other):
        found = api.compare(one.url, other.url, ROWS)
    assert (found.passed, found.requests, found.failures, found.loads) == (True, 40, (), ())
    assert (found.figures.rows, found.figures.numbers, found.figures.classes, found.figures.flips) == (40, 80, 40, 0)
    assert found.figures.max_absolute == pytest.approx(1e-4)
    assert (found.a.kind, found.a.start_s) == ("URL", None)
    assert len(one.seen) == len(other.seen) == 41  # the first request apart
    assert one.seen[0] == other.seen[0] == json.dumps({"instances": [ROWS[0]]}, separators=(",", ":")).encode()
    assert sorted(one.seen) == sorted(other.seen)


def test_a_broken_one_is_found_with_its_worst_row():
    with serving(scores, broken) as (one, other):
        found = api.compare(one.url, other.url, ROWS, limits=Limits(mean_tolerance=1), worst=3)
    assert not found.passed
    assert found.verdict.reasons == (
        "the largest difference is 0.677, allowed 0.01",
        "1 of 40 rows have another class (2.5 %), allowed 0.5 %",
    )
    (worst,) = found.worst  # no other row differs
    assert (worst.where, worst.instance, worst.flipped) == ("request 36", 0, True)
    assert (worst.a, worst.b) == (scores([3.5]), scores([0.2]))
    text = render.text(found)
    assert re.search(
        r"request 36 +0\.677 +\[1\] 0\.8249\d* +\[0\] 0\.8519\d* +\$\.predictions\[0\], another class", text
    )


def test_answers_are_told_apart_by_their_requests_and_not_by_when_they_come():
    """The first of the four that are on their way is answered last."""
    waits = threading.Event()
    first = iter([True])

    def slow(row):
        if row == ROWS[0] and not next(first, False):  # the first request apart is not the one that is held
            assert waits.wait(30)
        elif row == ROWS[3]:
            waits.set()
        return row[0]

    with serving(lambda row: row[0], slow) as (one, other):
        found = api.compare(one.url, other.url, ROWS)
    assert (found.passed, found.figures.rows, found.figures.max_absolute) == (True, 40, 0)


def test_errors_are_named_and_no_row_of_them_is_compared():
    def fails(row):
        if row[1] == 2:
            raise Status(500, "row of kind 2")
        return row[0]

    with serving(lambda row: row[0], fails) as (one, other):
        found = api.compare(one.url, other.url, ROWS)
    assert (found.passed, found.figures.rows, len(found.failures)) == (False, 27, 13)
    assert found.verdict.reasons == ("B did not answer 13 requests rightly, the first: request 3: 500: row of kind 2",)
    text = render.text(found)
    assert re.search(r"^errors of A, of B +0, 13 +0$", text, re.M)
    assert text.count("500: row of kind 2") == 4
    assert "B: and 10 more" in text


def test_a_first_request_that_fails_counts():
    first = iter([True])

    def cold(row):
        if next(first, False):
            raise Status(503, "still loading")
        return row[0]

    with serving(lambda row: row[0], cold) as (one, other):
        found = api.compare(one.url, other.url, ROWS)
    assert (found.b.first_error, found.figures.rows) == ("503: still loading", 40)
    assert "the first request, request 1: 503: still loading" in found.verdict.reasons[0]


def test_a_warm_up_that_fails_counts():
    number = iter(range(100))

    def answer(row):
        if next(number) == 3:  # after the first request, and both rows
            raise Status(429, "too many")
        return row[0]

    with serving(lambda row: row[0], answer) as (one, other):
        found = api.compare(one.url, other.url, ROWS[:2], rates=[100], seconds=0.1, warm_up=1)
    assert found.verdict.reasons == ("B did not answer a request rightly: the warm-up, request 1: 429: too many",)


def test_one_that_nobody_serves():
    with serving(lambda row: row[0]) as (one,):
        with pytest.raises(
            LackingError,
            match=r"B, .*:9/predict, does not answer: .*closed the connection: [^()]*Connection refused; start",
        ):
            api.compare(one.url, "http://127.0.0.1:9/predict", ROWS)
        with pytest.raises(
            LackingError, match='"nothing:here" is no folder here, and the process engine has no image of that name'
        ):
            api.compare(one.url, "nothing:here", ROWS, engine=_process())
        with pytest.raises(UsageError, match="write projects/PROJECT/locations/REGION/endpoints/ENDPOINT"):
            api.compare(one.url, "projects/p/endpoints/1", ROWS)


@pytest.mark.parametrize("url", ["http://[::1", "http://127.0.0.1:http"])
def test_what_is_no_url(url):
    with pytest.raises(UsageError, match="is no URL"):
        api.compare("http://127.0.0.1:1", url, ROWS)


def test_one_that_is_lost_on_the_way_is_asked_no_more():
    asked = iter(range(1000))

    def lost(row):
        if next(asked) > 3:
            raise HangUp
        return row[0]

    with serving(lambda row: row[0], lost) as (one, other):
        found = api.compare(one.url, other.url, ROWS, rates=[10], seconds=1)
        assert len(other.seen) < len(ROWS)
    assert (found.passed, found.figures.rows, len(found.failures)) == (False, 3, 37)
    assert "no answer" in found.verdict.reasons[0]
    assert "not asked: the 5 requests before it were not answered" in found.failures[-1].message
    assert found.notes[-2:] == (
        "B was asked no more once five requests in a row were not answered",
        "not measured, since a side no longer answered: 10/s",
    )
    assert found.loads == ()


@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        (b'{"pred', {"Content-Length": "100"}, "the answer broke off, or cannot be decoded"),
        (b"abcde", {"Content-Length": "5", "Content-Encoding": "gzip"}, "the answer broke off, or cannot be decoded"),
    ],
)
def test_an_answer_that_is_no_whole_one_is_an_error_of_its_request(body, headers, words):
    def breaks(row):
        if row == ROWS[2]:
            raise Raw(body, headers)
        return scores(row)

    with serving(scores, breaks) as (one, other):
        found = api.compare(one.url, other.url, ROWS)
    assert (found.passed, found.figures.rows) == (False, len(ROWS) - 1)
    assert [(each.side, each.where, each.status) for each in found.failures] == [("B", "request 3", 0)]
    assert words in found.failures[0].message


@pytest.mark.parametrize("depth", [400, 100_000])
def test_an_answer_that_is_nested_too_deeply_is_another_form(depth):
    deep = b'{"predictions": [' + b"[" * depth + b"]" * depth + b"]}"

    def nested(row):
        raise Raw(deep, {"Content-Length": str(len(deep))})

    with serving(scores, nested) as (one, other):
        found = api.compare(one.url, other.url, ROWS[:2])
        same = api.compare(other.url, other.url, ROWS[:2])
    assert (found.passed, found.figures.unlike) == (False, 2)
    assert (same.passed, same.figures.unlike) == (False, 2)
    assert "nested too deeply" in same.worst[0].fault


def test_what_a_server_says_cannot_steer_the_terminal():
    def steers(row):
        if row == ROWS[1]:
            raise Status(500, "\x1b[2J\x9bgone")
        return {"a\x1b[31m\nb": row[0]}

    with serving(lambda row: {"a\x1b[31m\nb": 1.5}, steers) as (one, other):
        found = api.compare(one.url, other.url, ROWS[:4])
    assert found.worst
    for shown in (render.text(found), render.markdown(found)):
        assert all(char.isprintable() for char in shown.replace("\n", ""))
    assert "\nb" not in render.markdown(found)


def test_a_long_error_is_shortened_in_the_verdict():
    def page(row):
        raise Status(502, "<html>" * 1000)

    with serving(scores, page) as (one, other):
        found = api.compare(one.url, other.url, ROWS[:1])
    assert len(found.verdict.reasons[0]) < 400


def test_another_form_on_one_side():
    with serving(scores, lambda row: {"scores": scores(row)}) as (one, other):
        found = api.compare(one.url, other.url, ROWS[:2])
    assert found.verdict.reasons == (
        "2 rows are of another form, such as request 1: $.predictions[0]: A has a list, B has an object",
    )
    assert [each.fault for each in found.worst] == ["$.predictions[0]: A has a list, B has an object"] * 2


def test_nan_and_infinity_are_read_and_are_no_numbers():
    with serving(lambda row: [math.nan, math.inf, 1.0], lambda row: [math.nan, row[0] or math.inf, 1.0]) as (
        one,
        other,
    ):
        found = api.compare(one.url, other.url, [[0], [2.5]])
    assert (found.figures.rows, found.figures.unlike, found.figures.max_absolute) == (1, 1, 0)
    assert found.worst[0].fault == "$.predictions[0][1]: A has Infinity, B has 2.5"
    json.dumps(found.facts(), allow_nan=False)


@pytest.fixture(scope="module")
def measured():
    def busy(row):
        if row == ROWS[1]:
            raise Status(429, "the queue | is <full>")
        return scores(row)

    with serving(scores, busy) as (one, other):
        yield api.compare(one.url, other.url, ROWS, rows=2, rates=[40, 80], seconds=0.5, warm_up=1)


def test_each_rate_has_both_sides(measured):
    assert [(each.side, each.rate) for each in measured.loads] == [("A", 40), ("B", 40), ("A", 80), ("B", 80)]
    a, b = measured.loads[2:]
    assert (a.requests, a.errors) == (40, 0)
    assert 0 < a.p50_ms <= a.p90_ms <= a.p99_ms <= a.max_ms
    assert b.messages == {"429: the queue | is <full>": b.errors}
    assert b.errors > 0
    assert any(reason.startswith("at 80/s B did not answer ") for reason in measured.verdict.reasons)
    assert [each.where for each in measured.failures] == ["the first request, requests 1-2", "requests 1-2"]


def test_it_is_shown_as_text_markdown_json_and_picture(measured, tmp_path):
    text, markdown = render.text(measured), render.markdown(measured)
    assert re.search(r"^40/s p99 +[\d.,]+ ms +[\d.,]+ ms +\S+$", text, re.M)
    assert re.search(r"^80/s errors +0 of 40 +\d+ of 4\d", text, re.M)
    assert text.splitlines()[-4] == "A and B do not agree:"
    assert "| 40/s p50 | " in markdown
    assert all(line.count("|") == 6 for line in markdown.splitlines() if line.startswith("| where"))
    facts = json.loads(json.dumps(measured.facts(), allow_nan=False))
    assert facts["differences"]["flip_share"] == 0
    assert (facts["passed"], facts["limits"]["flips"], len(facts["loads"])) == (False, 0.005, 4)
    assert facts["loads"][0]["p50_ms"] == measured.loads[0].p50_ms
    picture.write(measured, tmp_path / "it.svg")
    root = ElementTree.parse(tmp_path / "it.svg").getroot()
    words = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"A and B do not agree", f"A: {measured.a.name}", "40/s p99", "first request"} <= set(words)


def test_the_bars_of_the_picture_are_all_rows():
    differences = [0.0, 0.0, 1e-30, 0.001, 0.0019999, 0.002, 0.01, 7.0, 1.7e308]
    found = picture.bins(differences)
    assert sum(len(each) for _, each in found) == len(differences)
    assert len(found) <= 16
    assert [edge for edge, _ in picture.bins(differences[3:8])][:3] == [0.002, 0.005, 0.01]
    assert picture.bins(differences[3:8])[0] == (0.002, [0.001, 0.0019999])
    assert picture.bins([]) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rates": [0]}, "a rate of 0 requests a second"),
        ({"rates": [math.nan]}, "a rate of nan"),
        ({"rates": [5, 1e9]}, "1e\\+09 requests a second for 10 s are more than 1,000,000 requests"),
        ({"seconds": -1}, "-1 seconds at a rate"),
        ({"warm_up": -1}, "a warm-up of -1"),
        ({"limits": Limits(tolerance=-0.1)}, "the tolerance is -0.1"),
        ({"rows": 0}, "0 instances a request"),
    ],
)
def test_what_cannot_be_measured_is_said_before_anybody_is_asked(options, words):
    with serving(scores) as (one,):
        with pytest.raises(UsageError, match=words):
            api.compare(one.url, one.url, ROWS, **options)
        assert one.seen == []


def test_requests_of_a_folder_keep_their_type(tmp_path):
    (tmp_path / "a.json").write_text('{"instances": [[1, 2]]}')
    (tmp_path / "b.txt").write_text('{"instances": [[3, 4]]}')
    with serving(scores, scores) as (one, other):
        found = api.compare(one.url, other.url, tmp_path)
        assert set(one.kinds) == {"application/json", "text/plain"}
    assert (found.passed, found.figures.rows) == (True, 2)


def test_how_an_image_is_started_makes_a_side(tmp_path):
    """The same image twice, with another variable, on a real engine."""
    engine = _process()
    image = _image(engine, tmp_path)
    try:
        sides = [ContainerSpec.kit(image, env={"STEP": step}) for step in ("0", "0.5")]
        found = api.compare(sides[0], sides[1], [[0.25], [1.0]], engine=engine, limits=Limits(flips=None))
        assert (found.a.kind, found.passed, found.figures.max_absolute) == ("container", False, 0.25)
        assert found.a.start_s > 0
        assert found.b.start_s > 0
        assert found.notes == ()
    finally:
        engine.remove_image(image)


def _process():
    from cpr_kit.engine.choose import choose

    return choose("process").engine


def _image(engine, folder):
    from cpr_kit.build.image import build
    from cpr_kit.config import Config

    (folder / "cpr.toml").write_text('[model]\npredictor = "predictor:Steps"\n')
    (folder / "predictor.py").write_text(
        "import os\n"
        "from cpr_kit import Predictor\n"
        "class Steps(Predictor):\n"
        "    def load(self, artifacts_uri):\n"
        '        self.step = float(os.environ["STEP"])\n'
        "    def predict(self, request):\n"
        '        rows = request["instances"]\n'
        '        return {"predictions": [x // self.step * self.step if self.step else x for (x,) in rows]}\n'
    )
    build(Config.read(folder), engine, tag="cmp-steps:latest")
    return "cmp-steps:latest"
