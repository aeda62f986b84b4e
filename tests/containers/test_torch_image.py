"""A pretrained network of PyTorch, asked with photographs: in its container here, then deployed on the emulator."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cpr_kit.compat.local_model import LocalModel
from cpr_kit.config import Config
from cpr_kit.emulator.program import emulate
from cpr_kit.engine.docker import DockerEngine
from cpr_kit.harness import checks
from cpr_kit.harness.target import Target, samples_of
from cpr_kit.images import b64_image

ORIGIN = Path(__file__).parents[2] / "containers" / "torch_image"
FETCHED = ("model", "photos", "wheels")
IMAGE = "us-central1-docker.pkg.dev/my-project/cpr-kit-torch/image:1"
"""It stays, with its 750 MB of PyTorch: whoever tests again builds the kit's layer and the code's alone."""

# The likeliest label of each, how likely it is, and another that must be among the five.
PHOTOS = {
    "china.jpg": ("bell cote, bell cot", 0.353, "stupa, tope"),
    "flower.jpg": ("daisy", 0.106, "bee"),
    "chelsea.png": ("Egyptian cat", 0.789, "tabby, tabby cat"),
    "coffee.png": ("espresso", 0.912, "cup"),
}
PROBABILITIES = [likely for _, likely, _ in PHOTOS.values()]


def fetch(folder, **environment):
    """fetch.py in a copy of the folder that holds nothing fetched."""
    shutil.copytree(ORIGIN, folder, ignore=shutil.ignore_patterns(*FETCHED, "__pycache__"))
    command = [sys.executable, "-B", "fetch.py"]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder, and the model that was built of it."""
    folder = tmp_path_factory.mktemp("torch") / "torch_image"
    done = fetch(folder)
    if done.returncode != 0:
        pytest.fail(f"fetch.py ended with {done.returncode}: {done.stderr}", pytrace=False)
    yield folder, LocalModel.build(folder, engine=DockerEngine(), tag=IMAGE)
    shutil.rmtree(folder)  # pytest would keep three of them, 200 MB each


@pytest.fixture(scope="module")
def instances(built):
    folder, _ = built
    return [b64_image(folder / "photos" / name) for name in PHOTOS]


@pytest.fixture(scope="module")
def local(built):
    """Its container, with a root that nothing can be written to."""
    folder, model = built
    artifacts, engine = str(folder / "model"), DockerEngine()
    with model.endpoint_class(model.spec_here(artifacts), engine, artifact_uri=artifacts, sealed=True) as endpoint:
        yield endpoint


def check(predictions):
    """They are those of the four photographs, in their order."""
    assert [answer["labels"][0] for answer in predictions] == [first for first, _, _ in PHOTOS.values()]
    assert [answer["probabilities"][0] for answer in predictions] == pytest.approx(PROBABILITIES, abs=0.005)
    for answer, (_, _, another) in zip(predictions, PHOTOS.values(), strict=True):
        assert another in answer["labels"]
        assert len(set(answer["labels"])) == len(answer["probabilities"]) == 5
        assert sorted(answer["probabilities"], reverse=True) == answer["probabilities"]
        assert 0 < sum(answer["probabilities"]) <= 1


@pytest.mark.engine
@pytest.mark.heavy
def test_photographs_get_their_labels_together_and_one_by_one(local, instances):
    together = local.predict(instances=instances).predictions
    check(together)
    check([local.predict(instances=[each]).predictions[0] for each in instances])


@pytest.mark.engine
@pytest.mark.heavy
def test_the_body_may_be_the_file(local, built):
    folder, _ = built
    kinds = {".jpg": "image/jpeg", ".png": "image/png"}
    paths = [folder / "photos" / name for name in PHOTOS]
    answers = [local.raw(path.read_bytes(), kinds[path.suffix]) for path in paths]
    assert [answer.status_code for answer in answers] == [200] * len(PHOTOS)
    check([answer.json()["predictions"][0] for answer in answers])


@pytest.mark.engine
@pytest.mark.heavy
def test_the_contract_holds_and_the_folders_own_request_is_answered(local, built):
    folder, _ = built
    found = checks.run(Target.of(local), samples_of(Config.read(folder)))
    assert [(each.name, each.detail) for each in found if each.severity == "breach"] == []


@pytest.mark.engine
@pytest.mark.heavy
def test_a_photograph_that_is_cut_short_is_named(local, instances, built):
    folder, _ = built
    short = b64_image((folder / "photos" / "china.jpg").read_bytes()[:50_000])
    answer = local.predict({"instances": [instances[0], short]})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("instance 1 cannot be decoded")
    check(local.predict(instances=instances).predictions)  # and it goes on


@pytest.mark.engine
@pytest.mark.heavy
def test_the_image_is_nobodys_and_holds_what_serving_needs(local, built):
    """No headers, since it has no compiler, nor PyTorch's own tests; and bytecode, but of sources for later Pythons."""
    import docker

    _, model = built
    code = """
import json, os, pathlib, torch
site = pathlib.Path(torch.__file__).parents[1]
left = [each for each in ("torch/include", "torch/test", "torch/bin/protoc", "sympy/core/tests") if (site / each).exists()]
folders = [path.parent for path in site.rglob("__init__.py")]
lacking = [path.name for folder in folders for path in folder.glob("*.py")
           if not (folder / "__pycache__" / f"{path.stem}.cpython-311.pyc").exists()]
print(json.dumps([os.getuid(), left, lacking]))
"""
    with contextlib.closing(docker.from_env()) as client:
        assert client.images.get(model.spec.image_uri).attrs["Config"]["User"] == "65534:65534"
        done = client.containers.get(local.container.id).exec_run(["python", "-c", code], stderr=False)
    assert json.loads(done.output) == [65534, [], ["py312_intrinsics.py"]]


@pytest.mark.engine
@pytest.mark.heavy
def test_an_edit_of_the_code_leaves_torch_where_it_is(built, tmp_path):
    import docker

    folder, model = built
    edited = tmp_path / "torch_image"
    shutil.copytree(folder, edited, copy_function=os.link)
    source = (edited / "predictor.py").read_text()
    (edited / "predictor.py").unlink()  # the link, not the file
    (edited / "predictor.py").write_text(source + "\nEDITED = True\n")
    engine, tag = DockerEngine(), f"{IMAGE}-edited"
    try:
        LocalModel.build(edited, engine=engine, tag=tag)
        with contextlib.closing(docker.from_env()) as client:
            before, after = (client.images.get(each).attrs["RootFS"]["Layers"] for each in (model.spec.image_uri, tag))
    finally:
        engine.remove_image(tag)
    assert (before[:-1], before[-1] == after[-1]) == (after[:-1], False)


@pytest.mark.engine
@pytest.mark.heavy
def test_a8_2_deployed_it_gives_a_photograph_its_five_likeliest_labels(built, instances):
    from google.cloud import aiplatform, storage

    folder, model = built
    with emulate(engine=DockerEngine()):
        aiplatform.init(project="my-project", location="us-central1")
        bucket = storage.Client(project="my-project").create_bucket("torch-image", location="us-central1")
        for path in (folder / "model").iterdir():
            bucket.blob(f"model/{path.name}").upload_from_filename(str(path))
        uploaded = aiplatform.Model.upload(
            display_name="lite0",
            artifact_uri="gs://torch-image/model",
            serving_container_image_uri=model.spec.image_uri,
            serving_container_predict_route="/predict",
            serving_container_health_route="/health",
        )
        endpoint = uploaded.deploy(machine_type="n1-standard-2")
        try:
            check(endpoint.predict(instances=instances).predictions)
            photo = (folder / "photos" / "coffee.png").read_bytes()
            raw = endpoint.raw_predict(body=photo, headers={"Content-Type": "image/png"})
        finally:
            endpoint.delete(force=True)
    assert raw.status_code == 200, raw.text
    assert raw.json()["predictions"][0]["labels"][0] == "espresso"


def test_without_the_wheel_for_cpus_it_says_where_to_get_one(tmp_path):
    (tmp_path / "empty").mkdir()
    nowhere = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "empty")}
    done = fetch(tmp_path / "torch_image", **nowhere)
    assert done.returncode == 1
    assert "pip has found no torch==2.13.0+cpu" in done.stderr
    assert "PIP_FIND_LINKS" in done.stderr


def test_fetch_gets_the_wheels_that_the_build_names():
    wheels = [Path(each).name for each in Config.read(ORIGIN).model.extra_packages]
    wanted = (ORIGIN / "fetch.py").read_text()
    for wheel in wheels:
        name, version = wheel.split("-")[:2]
        assert f'"{name.replace("_", "-")}=={version}"' in wanted
