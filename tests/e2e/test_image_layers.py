"""What a change of the code costs: nothing is installed again."""

import pytest

from cpr_kit.build import image
from cpr_kit.config import Config
from cpr_kit.engine import builder
from cpr_kit.engine.docker import DockerEngine
from cpr_kit.engine.progress import Steps
from cpr_kit.errors import ConfigError
from cpr_kit.harness.endpoint import LocalEndpoint

TAG = "cpr-kit-e2e/layers:latest"


@pytest.fixture(params=["buildkit", "classic"])
def docker_engine(request):
    engine = DockerEngine(builder=request.param)
    try:
        builder.find(request.param)
    except ConfigError as error:
        pytest.skip(str(error))
    yield engine
    engine.remove_image(TAG)


def build(project, engine):
    """The specification, and the steps of the build."""
    steps, seen = Steps(), []
    spec = image.build(Config.read(project), engine, tag=TAG, output=lambda line: seen.append(steps.feed(line)))
    return spec, {str(step): step for step in seen if step}.values()


@pytest.mark.engine
def test_an_edited_line_installs_nothing_and_changes_the_answer(project, docker_engine):
    first, _ = build(project, docker_engine)
    first = docker_engine.image(first.image_uri).id
    predictor = project / "predictor.py"
    predictor.write_text(predictor.read_text().replace("for row in rows]", "for row in -rows]"))

    spec, steps = build(project, docker_engine)

    docker_engine.remove_image(first)  # the name went to the second one
    installs = [step for step in steps if "install.sh" in step.title and "install.sh code" not in step.title]
    assert installs
    assert [str(step) for step in installs if not step.cached] == []
    with LocalEndpoint(spec, docker_engine, artifact_uri=project / "model") as endpoint:
        answer = endpoint.predict(request_file=project / "requests" / "two_rows.json").json()
    assert answer == {"predictions": ["setosa", "setosa"]}
