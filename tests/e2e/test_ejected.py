"""An ejected project behaves as the one that it came from: built by the kit, and by an engine's own client alone."""

import os
import subprocess

import pytest

from cpr_kit.build import eject, image, index
from cpr_kit.build.source import Source
from cpr_kit.compat.local_model import LocalModel
from cpr_kit.config import Config
from cpr_kit.contract import ContainerSpec
from cpr_kit.engine import builder
from cpr_kit.engine.docker import DockerEngine
from cpr_kit.harness import checks
from cpr_kit.harness.endpoint import LocalEndpoint
from cpr_kit.harness.target import Target, samples_of

pytestmark = pytest.mark.engine

ORIGIN = "cpr-kit-e2e/ejected-from:latest"
EJECTED = "cpr-kit-e2e/ejected:latest"
BY_HAND = "cpr-kit-e2e/by-hand:latest"


@pytest.fixture
def docker_engine():
    engine = DockerEngine()
    yield engine
    for tag in (ORIGIN, EJECTED, BY_HAND):
        engine.remove_image(tag)


def suite(spec, engine, config, artifacts):
    """Each check of the contract suite by its name: how it went."""
    with LocalEndpoint(spec, engine, artifact_uri=artifacts, sealed=True) as endpoint:
        found = checks.run(Target.of(endpoint), samples_of(config))
    found.append(checks.listens_on_its_port(spec, engine, artifact_uri=artifacts))
    return {check.name.replace("code/", ""): check.severity for check in found}


def layers(engine, tag):
    return engine._client.images.get(tag).attrs["RootFS"]["Layers"]


def by_hand(folder, tag):
    """`docker build .`, as one without the kit would type it; only the proxies are this machine's affair."""
    client = builder.find("buildkit").command
    proxies = [word for name, value in index.proxies().items() for word in ("--build-arg", f"{name}={value}")]
    subprocess.run(
        [*client, "-t", tag, *proxies, "."], cwd=folder, env={**os.environ, "DOCKER_BUILDKIT": "1"}, check=True
    )


def test_the_same_suite_passes_and_the_layers_stay(project, tmp_path, docker_engine):
    config = Config.read(project, environ={})
    out = tmp_path / "ejected"
    files = eject.eject(Source.read(config), out)
    assert "code/entrypoint.py" in files
    mine = Config.read(out, environ={})
    artifacts = project / "model"

    origin = image.build(config, docker_engine, tag=ORIGIN)
    expected = suite(origin, docker_engine, config, artifacts)
    assert "breach" not in expected.values()
    assert "note" not in expected.values()

    spec = image.build(mine, docker_engine, tag=EJECTED)
    assert suite(spec, docker_engine, mine, mine.artifact_uri) == expected
    theirs, ours = layers(docker_engine, ORIGIN), layers(docker_engine, EJECTED)
    assert len(theirs) == len(ours)
    assert theirs[-3:-1] == ours[-3:-1]  # the code alone has a file more, the entry point, and one less, cpr.toml

    index.write(out / "index")  # as README.md says, for a machine with an index of its own
    by_hand(out, BY_HAND)
    spec = ContainerSpec.kit(BY_HAND)
    assert suite(spec, docker_engine, mine, artifacts) == expected
    assert layers(docker_engine, BY_HAND)[-1] == ours[-1]
    before = layers(docker_engine, BY_HAND)
    by_hand(out, BY_HAND)
    assert layers(docker_engine, BY_HAND) == before


def test_an_edit_of_the_ejected_entry_point_is_served(project, tmp_path, docker_engine):
    out = tmp_path / "ejected"
    eject.eject(Source.read(Config.read(project, environ={})), out)
    (out / "code" / "entrypoint.py").write_text(
        "import os\n\nfrom predictor import *\nimport predictor\nfrom cpr_kit import PredictionHandler\n"
        "from cpr_kit.runtime.server import ModelServer\n\n"
        "class Mine(PredictionHandler):\n    pass\n\n"
        "served = getattr(predictor, os.environ['PREDICTOR_CLASS'])\n"
        "print('mine starts', flush=True)\n"
        "ModelServer(Mine(os.environ['AIP_STORAGE_URI'], predictor=served)).start()\n"
    )
    model = LocalModel.from_dockerfile(out, image=EJECTED, engine=docker_engine)
    with model.deploy_to_local_endpoint() as endpoint:
        answer = endpoint.predict(request_file=project / "requests" / "two_rows.json")
        assert answer.json() == {"predictions": ["versicolor", "setosa"]}
        assert "mine starts" in endpoint.container.logs()
