import dataclasses
import json

import pytest

from cpr_kit.config import Config
from cpr_kit.errors import UsageError
from cpr_kit.harness import checks
from cpr_kit.harness.endpoint import LocalEndpoint
from cpr_kit.harness.target import Sample, Target, samples_of

TWO_ROWS = Sample(name="two rows", body=b'{"instances": [[1, 2], [3, 4]]}', expect={"predictions": [3.0000001, 7]})


@pytest.fixture
def suite(scripts, spec):
    """Runs the suite over a script; gives the checks by name."""

    def run(name, samples=(TWO_ROWS,), timeout_s=60.0):
        with LocalEndpoint(spec(name), scripts, ready_interval_s=0.02) as served:
            target = dataclasses.replace(Target.of(served), timeout_s=timeout_s)
            return {check.name: check for check in checks.run(target, samples)}

    return run


def test_a_good_server_passes_everything_without_a_note(suite):
    results = suite("healthy")
    assert {check.severity for check in results.values()} == {"ok"}
    assert list(results) == [
        "health",
        "health method",
        "predict two rows",
        "shape two rows",
        "type two rows",
        "expected two rows",
        "health under two rows",
        "malformed JSON",
        "wrong method",
        "unknown path",
        "survival",
    ]


@pytest.mark.parametrize(
    ("server", "breaches"),
    [
        ("healthy_once", {"health", "health under two rows", "survival"}),
        ("forgets_predictions", {"shape two rows", "expected two rows"}),
        ("predictions_in_an_object", {"shape two rows", "expected two rows"}),
        ("one_prediction_too_few", {"shape two rows", "expected two rows"}),
        ("answers_text", {"shape two rows", "expected two rows"}),
        ("refuses_instances", {"predict two rows", "shape two rows", "expected two rows", "survival"}),
        ("unhealthy_while_it_predicts", {"health under two rows"}),
        (
            "dies_of_bad_requests",
            {"predict two rows", "health under two rows", "shape two rows", "expected two rows", "survival"},
        ),
    ],
)
def test_a_breach_is_named(suite, server, breaches):
    results = suite(server)
    assert {name for name, check in results.items() if not check.passed} == breaches
    assert all(check.rule and check.detail for check in results.values())


def test_what_vertex_ai_does_not_mind_is_a_note(suite):
    results = suite("refuses_with_detail", samples=())
    assert results["malformed JSON"].severity == "note"
    assert "answered 500" in results["malformed JSON"].detail
    assert results["predict"].severity == "note"
    assert all(check.passed for check in results.values())


def test_a_reply_with_another_label_is_a_note(suite):
    results = suite("answers_text")
    assert results["type two rows"].severity == "note"
    assert "text/plain" in results["type two rows"].detail


def test_a_prediction_that_never_comes_is_a_breach(suite):
    results = suite("never_answers_predictions", timeout_s=0.3)
    assert "no answer within" in results["predict two rows"].detail
    assert not results["predict two rows"].passed


def test_a_wrong_number_is_shown_with_its_place(suite):
    sample = dataclasses.replace(TWO_ROWS, expect={"predictions": [3, 7.1]})
    results = suite("healthy", samples=[sample])
    assert results["expected two rows"].detail == "$.predictions[1]: expected 7.1, got 7"


def test_a_reply_that_is_text_is_compared_as_text(suite):
    sample = Sample(name="row", body=b"1,2", content_type="text/csv", expect="versicolor\n")
    results = suite("answers_text", samples=[sample])
    assert "shape row" not in results


def test_a_server_on_another_port_than_its_variables_is_found(scripts, spec):
    assert checks.listens_on_its_port(spec("healthy"), scripts).passed
    check = checks.listens_on_its_port(spec("ignores_its_port"), scripts, ready_timeout_s=1)
    assert not check.passed
    assert "liveness check" in check.detail


def test_a_server_that_is_not_there_fails_and_does_not_raise():
    results = checks.run(Target(base_url="http://127.0.0.1:9"), [TWO_ROWS])
    assert "could not be reached" in results[0].detail
    assert not results[0].passed


def test_a_projects_own_requests_become_samples(tmp_path):
    (tmp_path / "rows.json").write_text('{"instances": [[1], [2]]}')
    (tmp_path / "expected.json").write_text('{"predictions": [1, 2]}')
    (tmp_path / "rows.csv").write_text("1\n2\n")
    (tmp_path / "cpr.toml").write_text(
        '[[check]]\nrequest = "rows.json"\nexpect = "expected.json"\n'
        '[[check]]\nrequest = "rows.csv"\ncontent_type = "text/csv"\nexpect = "rows.csv"\n'
    )
    first, second = samples_of(Config.read(tmp_path, {}))
    assert (first.instances, first.expect) == (2, {"predictions": [1, 2]})
    assert second.content_type == "text/csv"
    assert (second.instances, second.expect, second.body) == (None, "1\n2\n", b"1\n2\n")


@pytest.mark.parametrize("toml", ['request = "no.json"', 'request = "cpr.toml"\nexpect = "no.json"'])
def test_a_missing_file_of_a_check_is_named(tmp_path, toml):
    (tmp_path / "cpr.toml").write_text(f"[[check]]\n{toml}\n")
    with pytest.raises(UsageError, match=r"no\.json, named in cpr\.toml"):
        samples_of(Config.read(tmp_path, {}))


def test_an_expectation_that_is_no_json_is_named(tmp_path):
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "cpr.toml").write_text('[[check]]\nrequest = "bad.json"\nexpect = "bad.json"\n')
    with pytest.raises(UsageError, match=r"bad\.json is no JSON"):
        samples_of(Config.read(tmp_path, {}))


@pytest.mark.parametrize("body", [b"", b"[]", b'{"instances": 3}', b"null", b'{"rows": []}', json.dumps("x").encode()])
def test_a_body_without_instances_promises_no_number_of_predictions(body):
    assert Sample(name="x", body=body).instances is None
