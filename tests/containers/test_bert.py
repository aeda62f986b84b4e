"""A9.2 and A9.5: a real BERT as it was saved, and compiled with rounded weights: compared, deployed, and asked."""

import contextlib
import json
import runpy
import sys

import bert_world
import numpy as np
import pytest
import tf_world
from click.testing import CliRunner
from google.cloud import aiplatform

from cpr_kit.cli.compare import command
from cpr_kit.compat.local_model import LocalModel
from cpr_kit.emulator.program import emulate
from cpr_kit.engine.docker import DockerEngine
from cpr_kit.prebuilt import optimized

pytestmark = [pytest.mark.engine, pytest.mark.heavy]

ADDRESS = "10.0.0.5"
TWO = bert_world.FOLDER / "requests" / "two.json"
TUTORIAL = ("This was the best movie ever", "Movie was boring")
WEATHER = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
SIMILAR = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
"""Of all-MiniLM-L6-v2, as the description of the package sentence-transformers prints it for these three."""


@pytest.fixture(scope="module")
def models(tf_image, tmp_path_factory):
    return bert_world.make_models(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def tokenizer(models):
    return bert_world.tokenizer(models / "bert" / "1" / "assets.extra" / "vocab.txt")


@pytest.fixture(scope="module")
def plain(models):
    """The model as it was saved."""
    model = LocalModel.tf_serving(models / "bert", "bert", image=tf_world.IMAGE, engine=DockerEngine())
    with model.deploy_to_local_endpoint() as endpoint:
        yield endpoint


def compared(*arguments):
    result = CliRunner().invoke(command, ["--json", *map(str, arguments)], catch_exceptions=False)
    return result.exit_code, json.loads(result.stdout)


def some(models, count):
    file = models / f"{count}.jsonl"
    file.write_text("".join((models / "held_out.jsonl").read_text().splitlines(keepends=True)[:count]))
    return file


def test_the_tokenizer_cuts_as_bert_does(tokenizer):
    ids = tokenizer.instance("A naïve, unwatchable film: 日本 2½ hours\u200b!")
    expected = "[CLS] a naive , un ##watch ##able film : 日 本 2 ##½ hours ! [SEP]".split()
    assert ids == [tokenizer.ids[piece] for piece in expected] + [0] * (48 - len(expected))
    assert tokenizer.instance("x" * 101)[:3] == [101, 100, 102]
    assert tokenizer.instance("good " * 100)[-2:] == [tokenizer.ids["good"], 102]


def test_the_embeddings_are_those_of_the_published_model(plain, tokenizer):
    asked = {"signature_name": "embed", "instances": [tokenizer.instance(each) for each in WEATHER]}
    found = np.array(plain.raw(json.dumps(asked).encode(), "application/json").json()["predictions"])
    np.testing.assert_allclose(found @ found.T, SIMILAR, atol=1e-4)


def test_the_tutorial_s_sentences_are_told_apart(plain, tokenizer):
    given = json.loads(TWO.read_text())["instances"]
    assert given == [tokenizer.instance(each) for each in TUTORIAL]
    [liked, not_liked] = plain.predict(instances=given).predictions
    assert liked[1] > 0.5
    assert not_liked[1] < 0.3
    wrong = plain.raw(json.dumps({"instances": [given[0][:9]]}).encode(), "application/json")
    assert (wrong.status_code, wrong.json()) == (
        400,
        {"error": "input input_ids has the shape [1,9], expecting [-1,48]"},
    )


def test_a9_2_compiled_and_rounded_agrees_on_500_sentences(models):
    code, found = compared(
        *(bert_world.FOLDER, bert_world.FOLDER, "--artifacts", models / "bert", "--env-b", "OPTIMIZED=true"),
        *("--requests", models / "held_out.jsonl", "--rows", 25),
    )
    assert code == 0, found
    differences = found["differences"]
    assert differences["rows"] == 500
    assert 1e-6 < differences["max_absolute"] < 1e-2
    assert differences["mean_absolute"] < 1e-3
    assert differences["flip_share"] <= 0.005


def test_a9_2_a_broken_quantization_is_refused_with_its_worst_rows(plain, models):
    url = plain.url + plain.launch.predict_route
    broken = (bert_world.FOLDER, "--artifacts-b", models / "broken")
    code, found = compared(url, *broken, "--requests", some(models, 50), "--rows", 25)
    assert code == 1, found
    assert any(reason.startswith("the largest difference is") for reason in found["reasons"])
    assert len(found["worst"]) == 5
    assert all(each["where"].startswith("line ") for each in found["worst"]), found["worst"]


@pytest.fixture(scope="module")
def vertex(tf_image):
    images = [optimized.preset(name).spec.image_uri for name in ("standard", "lossy")]
    with contextlib.ExitStack() as stack:
        for image in images:
            stack.enter_context(tf_world.tagged(image))
        yield stack.enter_context(emulate(engine="docker", project="my-project"))


@pytest.fixture
def on_vertex(vertex, monkeypatch):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["on_vertex.py", "us-central1", "my-project", *map(str, arguments)])
        runpy.run_path(str(bert_world.FOLDER / "on_vertex.py"), run_name="__main__")

    return run


def test_a9_5_two_endpoints_and_a_private_one_answer_the_same(on_vertex, models, capsys):
    on_vertex(models / "bert" / "1", TWO)
    printed = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    answers = {name: json.loads(rest) for name, rest in printed if name in ("standard", "lossy")}
    assert 1e-6 < np.abs(np.array(answers["standard"]) - answers["lossy"]).max() < 1e-2
    where = ("--region", "us-central1", "--project", "my-project", "--requests", some(models, 20), "--rows", 2)
    code, found = compared("bert-standard", "bert-lossy", *where)
    assert (code, found["differences"]["rows"]) == (0, 20), found
    assert 1e-6 < found["differences"]["max_absolute"] < 1e-2
    code, found = compared("bert-lossy", "bert-private", "--override-b", ADDRESS, *where)
    assert (code, found["differences"]["rows"]) == (0, 20), found
    assert found["differences"]["max_absolute"] < 1e-5
    on_vertex()
    assert [kind.list() for kind in (aiplatform.Endpoint, aiplatform.PrivateEndpoint, aiplatform.Model)] == [[], [], []]
