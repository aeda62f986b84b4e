"""`cpr predict` of an endpoint, as a user calls it, against the emulator: all four kinds, and each way to name one."""

import json
import os
import subprocess
import sys

import pytest
from dep_endpoints import ADDRESS, PROJECT, endpoint_of, vertex_plane  # noqa: F401

REGION = "us-central1"
SETS = ("CPR_", "AIP_", "GOOGLE_", "CLOUDSDK_")
ORDER = {"instances": [{"do": "answer", "text": '{"predictions": ["a", 2.5]}'}]}
ANSWER = ["a", 2.5]


@pytest.fixture
def cpr(vertex_plane, tmp_path):  # noqa: F811
    """cpr("predict", ...) runs the command in an empty folder with order.json in it."""
    (tmp_path / "order.json").write_text(json.dumps(ORDER))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SETS) or name == "CPR_CACHE"}
    kept |= vertex_plane.emulator.environment
    del kept["GOOGLE_CLOUD_PROJECT"]  # the emulator's, for programs that name none

    def run(*arguments, stdin=None, **changes):
        return subprocess.run(
            [sys.executable, "-m", "cpr_kit", "predict", *map(str, arguments)],
            cwd=tmp_path, env={**kept, **changes}, input=stdin, capture_output=True, timeout=200,
        )  # fmt: skip

    run.folder = tmp_path
    return run


def name(vertex_plane, kind):  # noqa: F811
    return f"projects/{PROJECT}/locations/{REGION}/endpoints/{endpoint_of(vertex_plane, kind).id}"


def deploys(folder, **fields):
    lines = [f"{key} = {json.dumps(value)}" for key, value in fields.items()]
    (folder / "cpr.toml").write_text("\n".join(["[deploy]", *lines]))


@pytest.mark.parametrize("kind", ["public", "dedicated", "psc", "psa"])
def test_the_call_is_the_same_for_each_kind(vertex_plane, cpr, kind):  # noqa: F811
    more = ("--override", ADDRESS) if kind == "psc" else ()
    done = cpr(name(vertex_plane, kind), "--json", "order.json", *more)
    assert (done.returncode, json.loads(done.stdout)["predictions"]) == (0, ANSWER), done.stderr
    assert f"deployed model {endpoint_of(vertex_plane, kind).deployed[0].id} answered in " in done.stderr.decode()
    raw = cpr(name(vertex_plane, kind), "--raw", "-", "-H", "content-type: image/png", *more, stdin=b"\x00\xff\x01")
    assert (raw.returncode, raw.stdout) == (0, b"\x01\xff\x00\n"), raw.stderr


def test_an_endpoint_by_its_id_and_by_its_display_name(vertex_plane, cpr):  # noqa: F811
    endpoint = endpoint_of(vertex_plane, "dedicated")
    found = cpr(endpoint.id, "--region", REGION, "--project", PROJECT, "--json", "order.json")
    assert found.returncode == 0, found.stderr
    vertex_plane.use("rest")
    vertex_plane.new(endpoint_id="iris").update(display_name="the one")
    named = cpr("the one", "--region", REGION, "--json", "order.json", GOOGLE_CLOUD_PROJECT=PROJECT)
    assert json.loads(named.stdout)["predictions"] == ANSWER, named.stderr


def test_the_endpoint_of_a_project_s_cpr_toml(vertex_plane, cpr):  # noqa: F811
    endpoint = endpoint_of(vertex_plane, "public")
    deploys(cpr.folder, project=PROJECT, regions=[REGION, "europe-west4"], endpoint=endpoint.id)
    done = cpr("--endpoint", "--json", "order.json")
    assert json.loads(done.stdout)["predictions"] == ANSWER, done.stderr
    assert (
        "us-central1 is asked, the first of us-central1, europe-west4; --region names another" in done.stderr.decode()
    )
    other = cpr(".", "--region", "europe-west4", "--json", "order.json")
    assert other.returncode == 1
    assert f'has no endpoint "{endpoint.id}" in europe-west4; it has there: none' in other.stderr.decode()


def test_a_model_s_error_is_the_exit_code(vertex_plane, cpr):  # noqa: F811
    order = json.dumps({"instances": [{"do": "answer", "status": 503, "text": "the queue is full"}]})
    done = cpr(name(vertex_plane, "public"), "--json", "-", stdin=order.encode())
    assert done.returncode == 4
    assert json.loads(done.stdout)["error"]["message"] == "the queue is full"
    assert "the model answered 503: the queue is full" in done.stderr.decode()


def test_an_address_where_nobody_is(vertex_plane, cpr):  # noqa: F811
    nobody = "http://127.0.0.1:9"
    done = cpr(name(vertex_plane, "psc"), "--json", "order.json", "--override", nobody)
    assert (done.returncode, done.stdout) == (3, b"")
    assert "could not be reached" in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("projects/p/locations/us-central1",), 2, "write projects/PROJECT/locations/REGION/endpoints/ENDPOINT"),
        (("projects/p/locations/us-central1/endpoints/1", "--region", "europe-west4"), 2, "names us-central1, and"),
        (("projects/p/locations/mars/endpoints/1",), 2, "no region of Vertex AI"),
        (("iris", "--endpoint"), 2, "name its region: --region us-central1"),
        (("iris", "--region", REGION), 2, "name its project: --project, GOOGLE_CLOUD_PROJECT, or"),
        (("iris", "--project", "p", "--region", "us-centrall1"), 2, "did you mean us-central1"),
        (("nope", "--project", PROJECT, "--region", REGION), 1, 'has no endpoint "nope" in us-central1; it has there:'),
        (("http://127.0.0.1:1", "--region", REGION), 2, "is a URL"),
        ((f"projects/{PROJECT}/locations/{REGION}/endpoints/1", "-e", "A=B"), 2, "--env are for what is started here"),
    ],
)
def test_what_cannot_be_asked(cpr, arguments, code, words):
    done = cpr(*arguments, "--json", "order.json")
    assert (done.returncode, done.stdout) == (code, b""), done.stderr
    assert words in done.stderr.decode()


def test_a_cpr_toml_that_does_not_say_where(cpr):
    deploys(cpr.folder, regions=[REGION])
    done = cpr("--endpoint", "--json", "order.json")
    assert done.returncode == 2
    assert "cpr.toml lacks what tells the endpoint to ask: project, endpoint" in done.stderr.decode()


@pytest.mark.parametrize("kind", ["public", "psc"])
def test_an_override_that_is_lacking_or_too_much(vertex_plane, cpr, kind):  # noqa: F811
    more, words = (("--override", ADDRESS), "takes no override") if kind == "public" else ((), "--override 10.0.0.5")
    done = cpr(name(vertex_plane, kind), "--json", "order.json", *more)
    assert (done.returncode, done.stdout) == (2, b"")
    assert words in done.stderr.decode()
