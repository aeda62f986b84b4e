import sys
from pathlib import Path

import pytest

# The image contexts that both real engines build belong to the engines' tests.
sys.path.insert(0, str(Path(__file__).parent.parent / "engine"))

from contexts import write_context
from script_engine import ScriptEngine

from cpr_kit.contract import ContainerSpec
from cpr_kit.engine.protocol import Build
from cpr_kit.harness.endpoint import LocalEndpoint

SERVERS = Path(__file__).parent / "servers"


@pytest.fixture
def scripts():
    """Fails the test when anything it started was not removed."""
    script_engine = ScriptEngine()
    yield script_engine
    left = script_engine.left_running()
    for container in left:
        container.remove(grace_s=0)
    assert not left


@pytest.fixture
def spec():
    """A specification that serves one of the scripts in servers/ by its name."""

    def make(name, **fields):
        return ContainerSpec.kit(str(SERVERS / f"{name}.py"), **fields)

    return make


@pytest.fixture(scope="session")
def servers_image(engine, tmp_path_factory):
    """All of servers/ as an image of a real engine."""
    context = write_context(tmp_path_factory.mktemp("servers") / "context")
    for script in SERVERS.glob("*.py"):
        (context / "code" / script.name).write_text(script.read_text())
    tag = "cpr-kit-tests/harness:1"
    yield engine.build(Build(context=context, tag=tag), lambda _: None)
    engine.remove_image(tag)


@pytest.fixture
def serve(engine, servers_image):
    """Makes an endpoint for a script on a real engine."""

    def make(name, **options):
        command = ("python", f"{name}.py")
        return LocalEndpoint(ContainerSpec.kit(servers_image.reference, command=command), engine, **options)

    return make
