"""What the tests of deployments share: Vertex AI on the process engine, images of good and bad versions, a target."""

import sys
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

# The image contexts that both engines build belong to the engines' tests.
sys.path.insert(0, str(Path(__file__).parent.parent / "engine"))

from contexts import write_context

from cpr_kit.contract import ContainerSpec
from cpr_kit.deploy.vertex.calls import Patience
from cpr_kit.deploy.target import CheckRequest, Target
from cpr_kit.deploy_config import CanaryRules
from cpr_kit.deploy.vertex.client import Vertex
from cpr_kit.emulator.program import emulate
from cpr_kit.engine.choose import choose
from cpr_kit.engine.protocol import Build

REGION = "us-central1"
KINDS = ("one", "two", "wrong", "slow", "failing", "crashing", "broken")
PATIENCE = Patience(total_s=30.0, first_s=0.05, longest_s=0.5, poll_s=0.02, longest_poll_s=0.2)
CHECK = CheckRequest(
    name="two rows", body=b'{"instances": [[1, 2], [3, 4]]}', expected=b'{"predictions": [3, 7]}'
)  # fmt: skip
RULES = CanaryRules(requests=30, latency_slack_ms=10_000.0, timeout_s=60.0)
FEW = replace(RULES, requests=10)  # for tests of how a run ends, and not of how a version is judged


def image(kind, region=REGION):
    return f"{region}-docker.pkg.dev/dep-tests/serving/iris:{kind}"


def build(engine, folder, kind):
    context = write_context(folder)
    (context / "code" / "server.py").write_text((Path(__file__).parent / "dep_server.py").read_text())
    (context / "code" / "kind.txt").write_text(kind)
    engine.build(Build(context=context, tag=image(kind)), lambda _: None)


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    """With all images: made before the environment is changed, for within package indexes are out of reach."""
    made = choose("process").engine
    for kind in KINDS:
        build(made, tmp_path_factory.mktemp(kind) / "context", kind)
    return made


@pytest.fixture(scope="module")
def emulator(engine):
    with emulate(engine=engine) as running:
        yield running


@pytest.fixture
def project():
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def vertex(emulator, project):
    return Vertex(project, REGION, patience=PATIENCE)


@pytest.fixture
def target(project):
    return target_of(project, "one")


def target_of(project, kind, region=REGION, **fields):
    name = image(kind, region)
    target = Target(
        project=project,
        region=region,
        endpoint="iris",
        model="iris",
        image=name,
        spec=ContainerSpec.kit(name),
        checks=(CHECK,),
        canary=RULES,
    )
    return replace(target, **fields)
