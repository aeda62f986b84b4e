"""`cpr compare` of endpoints, against the emulator: every kind, each way to name one, and a folder beside one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "deploy"))
sys.path.insert(0, str(Path(__file__).parent.parent / "compare"))

from cmp_servers import serving
from dep_endpoints import ADDRESS, PROJECT, endpoint_of, vertex_plane  # noqa: F401

from cpr_kit.compare import api
from cpr_kit.deploy.predict.asking import Asker
from cpr_kit.errors import DeclinedError

REGION = "us-central1"
SETS = ("CPR_", "AIP_", "GOOGLE_", "CLOUDSDK_")
BODIES = [{"instances": [{"do": "answer", "text": f'{{"predictions": [[0.{n}, 0.5]]}}'}]} for n in (1, 9)]


@pytest.fixture
def compare(vertex_plane, tmp_path):  # noqa: F811
    """compare(A, B, ...) runs the command in an empty folder with bodies.jsonl in it."""
    (tmp_path / "bodies.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in BODIES))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SETS) or name == "CPR_CACHE"}
    kept |= vertex_plane.emulator.environment

    def run(*arguments):
        command = [sys.executable, "-m", "cpr_kit", "compare", *arguments, "--requests", "bodies.jsonl", "--json"]
        return subprocess.run(command, cwd=tmp_path, env=kept, capture_output=True, text=True, timeout=200)

    run.folder = tmp_path
    return run


def name(vertex_plane, kind):  # noqa: F811
    return f"projects/{PROJECT}/locations/{REGION}/endpoints/{endpoint_of(vertex_plane, kind).id}"


@pytest.mark.parametrize("kinds", [("public", "psc"), ("dedicated", "psa")])
def test_endpoints_of_two_kinds(vertex_plane, compare, kinds):  # noqa: F811
    names = [name(vertex_plane, each) for each in kinds]
    more = ("--override-b", ADDRESS) if "psc" in kinds else ()
    done = compare(*names, *more, "--rates", "20", "--seconds", "0.2")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert [facts[side]["name"] for side in "ab"] == names
    assert (facts["a"]["kind"], facts["differences"]["numbers"], facts["differences"]["classes"]) == ("endpoint", 4, 2)
    assert [each["errors"] for each in facts["loads"]] == [0, 0]


def test_a_folder_s_endpoint_beside_one_by_its_id(vertex_plane, compare):  # noqa: F811
    deploy = {"project": PROJECT, "regions": [REGION], "endpoint": endpoint_of(vertex_plane, "public").id}
    lines = [f"{key} = {json.dumps(value)}" for key, value in deploy.items()]
    (compare.folder / "cpr.toml").write_text("\n".join(["[deploy]", *lines]))
    named = (endpoint_of(vertex_plane, "dedicated").id, "--region", REGION, "--project", PROJECT)
    done = compare(".", *named, "--endpoint-a")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert [facts[side]["name"] for side in "ab"] == [name(vertex_plane, kind) for kind in ("public", "dedicated")]


def test_from_python_and_with_an_error_of_both(vertex_plane):  # noqa: F811
    body = {"instances": [{"do": "answer", "status": 503, "text": "the queue is full"}]}
    shared = name(vertex_plane, "public")
    with Asker(endpoint_of(vertex_plane, "psc"), PROJECT, REGION, override=ADDRESS) as asker:
        found = api.compare(shared, asker, [*BODIES, body], rates=[50], seconds=0.1)
    assert (found.passed, found.figures.rows, found.figures.max_absolute) == (False, 2, 0)
    assert [(each.side, each.where, each.status, each.message) for each in found.failures[:2]] == [
        ("A", "request 3", 503, "the queue is full"),
        ("B", "request 3", 503, "the queue is full"),
    ]
    with pytest.raises(DeclinedError, match='has no endpoint "1" in us-central1'):
        api.compare(shared, f"projects/{PROJECT}/locations/{REGION}/endpoints/1", BODIES)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nope", "--region", REGION, "--project", PROJECT), 1, 'has no endpoint \\"nope\\" in us-central1'),
        (("projects/p/locations/us-central1",), 2, "write projects/PROJECT/locations/REGION/endpoints/ENDPOINT"),
        ((f"projects/{PROJECT}/locations/{REGION}/endpoints/1", "--env-b", "X=1"), 2, "--env-b is for what is started"),
        (("http://127.0.0.1:9", "--override-b", ADDRESS), 2, "is a URL"),
    ],
)
def test_what_is_no_endpoint(compare, arguments, code, words):
    with serving(lambda _: [0.5, 0.5]) as (server,):
        done = compare(server.url, *arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stdout
