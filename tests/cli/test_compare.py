"""`cpr compare`, as a user calls it: URLs and folders, the exit code, each form of the result, what is refused."""

import json
import sys
from pathlib import Path

import pytest

# The servers with a known difference belong to the comparisons' own tests.
sys.path.insert(0, str(Path(__file__).parent.parent / "compare"))

from cmp_servers import serving

from cpr_kit.cli.compare import command

ROWS = [[number / 10, 1 - number / 10] for number in range(11)]


def as_it_is(row):
    return row


def coarse(row):
    """Wrong in one row alone."""
    return row if row != ROWS[6] else [0.45, 0.55]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    return path


def test_two_urls_that_agree(cpr, file):
    with serving(as_it_is, as_it_is) as (one, other):
        done = cpr("compare", one.url, other.url, "--requests", file, "--rates", "50", "--seconds", "0.2")
    assert done.returncode == 0, done.stderr
    assert "11 requests, 11 rows, 22 numbers  found" in done.stdout
    assert "50/s p99" in done.stdout
    assert done.stdout.rstrip().splitlines()[-4] == "A and B agree within what is allowed:"
    assert "A: 11 requests for the differences" in done.stderr


def test_a_broken_one_fails_with_its_worst_row_in_each_form(cpr, file, tmp_path):
    with serving(as_it_is, coarse) as (one, other):

        def compare(*more):
            return cpr("compare", one.url, other.url, "--requests", file, *more)

        text = compare("--picture", tmp_path / "it.svg")
        markdown = compare("--format", "markdown", "--flips", "off")
        as_json = compare("--json", "--worst", "1")
        allowed = compare("--tolerance", "0.2", "--mean-tolerance", "0.02", "--flips", "10 %")
        relative = compare("--tolerance", "0.3", "--mean-tolerance", "0.03", "--flips", "10%", "--relative")
    assert [each.returncode for each in (text, markdown, as_json, allowed, relative)] == [1, 1, 1, 0, 0]
    assert "line 7 0.15 [0] 0.6 [1] 0.55 $.predictions[0], another class" in " ".join(text.stdout.split())
    assert "1 of 11 rows have another class (9.09 %), allowed 0.5 %" in text.stdout
    assert (tmp_path / "it.svg").read_text().startswith("<svg ")
    assert markdown.stdout.startswith("**A and B do not agree:**\n\n- the largest difference is 0.15, allowed 0.01\n")
    assert "another class" not in markdown.stdout
    facts = json.loads(as_json.stdout)
    assert (facts["passed"], [each["where"] for each in facts["worst"]]) == (False, ["line 7"])
    assert (facts["worst"][0]["a"], facts["worst"][0]["b"]) == (ROWS[6], [0.45, 0.55])


def test_two_folders_are_built_started_and_removed(cpr, doubles, project, file):
    file.write_text("1\n2\n")
    other = project(factor=3)
    done = cpr("compare", doubles, other, "--requests", file, "--engine", "process", "--json")
    assert done.returncode == 1, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["a"]["kind"], facts["differences"]["max_absolute"], facts["notes"]) == ("container", 2, [])
    assert [(each["where"], each["a"], each["b"]) for each in facts["worst"]] == [("line 2", 4, 6), ("line 1", 2, 3)]
    assert facts["a"]["start_s"] > 0


def test_a_variable_of_one_side_alone(cpr, project, file):
    file.write_text("1\n")
    folder = project(factor="float(__import__('os').environ.get('FACTOR', '2'))")
    with serving(lambda row: 5.0 * row) as (server,):
        arguments = (folder, server.url, "--requests", file, "--engine", "process", "--env-a", "FACTOR=5")
        done = cpr("compare", *arguments, "--env-b", "FACTOR=7")
        assert (done.returncode, done.stdout) == (2, "")
        assert "--env-b is for what is started here, and http" in done.stderr
        agreed = cpr("compare", *arguments)
        assert agreed.returncode == 0, agreed.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--flips", "half"), '--flips is "half"; it is a share of the rows such as 0.5%, or "off"'),
        (("--flips", "101%"), '--flips is "101%"'),
        (("--rates", "5;20"), '--rates is "5;20"; it is requests a second with commas between'),
        (("--rates", "0"), "a rate of 0 requests a second cannot be"),
        (("--tolerance", "-1"), "the tolerance is -1; it is 0 or more"),
        (("--worst", "-1"), "--worst is -1; it is 0 or more"),
        (("--rows", "0"), "0 instances a request cannot be"),
        (("--picture", "it.png"), "the picture is drawn as SVG; write --picture it.svg"),
        (("--picture", "nowhere/it.svg"), "the folder of the picture nowhere/it.svg is not there"),
    ],
)
def test_what_is_refused_before_anybody_is_asked(cpr, file, arguments, words):
    with serving(as_it_is) as (server,):
        done = cpr("compare", server.url, server.url, "--requests", file, *arguments, cwd=file.parent)
        assert server.seen == []
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_bad_lines_and_a_side_that_is_down(cpr, file):
    with serving(as_it_is) as (server,):
        down = cpr("compare", server.url, "http://127.0.0.1:9", "--requests", file, "--json")
        assert down.returncode == 3
        assert json.loads(down.stdout)["error"]["message"].startswith("B, http://127.0.0.1:9, does not answer: ")
        server.seen.clear()
        file.write_text("[1]\n[2\n")
        bad = cpr("compare", server.url, server.url, "--requests", file)
        assert (bad.returncode, server.seen) == (2, [])
        assert "rows.jsonl has 1 bad line, and nothing was asked: line 2: no JSON" in bad.stderr


def test_every_option_of_one_side_is_there_for_both():
    names = {name for option in command.params for name in option.opts}
    assert {name[:-2] for name in names if name.endswith("-a")} == {name[:-2] for name in names if name.endswith("-b")}
