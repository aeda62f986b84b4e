"""The whole way with a container engine: an image of its own, a push to the emulated registry, real containers."""

import pytest
from dep_world import PATIENCE, REGION, build, image, target_of

from cpr_kit.deploy import apply
from cpr_kit.deploy.down import down
from cpr_kit.deploy.facts import LIVE, PREVIOUS
from cpr_kit.deploy.registry.remote import remote
from cpr_kit.deploy.rollback import rollback
from cpr_kit.deploy.vertex.client import Vertex
from cpr_kit.emulator.program import emulate
from cpr_kit.engine.choose import choose
from cpr_kit.errors import RolledBack

PROJECT = "dep-docker"


@pytest.fixture
def docker(tmp_path):
    """An engine with a good version, another good one and a bad one."""
    engine = choose("docker").engine
    kinds = ("one", "two", "wrong")
    for kind in kinds:
        build(engine, tmp_path / kind, kind)
    yield engine
    for kind in kinds:
        engine.remove_image(image(kind))


@pytest.mark.engine
@pytest.mark.heavy
def test_an_image_of_this_machine_serves_and_is_gone_again(docker):
    with emulate(engine=docker):
        vertex = Vertex(PROJECT, REGION, patience=PATIENCE)
        one, two, wrong = (target_of(PROJECT, kind) for kind in ("one", "two", "wrong"))
        planned = apply.plan(one, docker, vertex)
        assert [step.action for step in planned.steps][0] == "push"
        apply.up(one, docker, vertex, planned=planned)
        (version,) = vertex.versions("iris")
        assert version.image_uri.endswith(f"iris@{remote(one.image).digest}")
        assert not apply.up(one, docker, vertex).changed
        # Without the engine's image the registry's is meant, and it is the same one.
        assert not apply.up(one, None, vertex).changed

        apply.up(two, docker, vertex, canary_share=20)
        with pytest.raises(RolledBack, match="expected 3"):
            apply.up(wrong, docker, vertex, canary_share=20)
        aliases = {each.number: set(each.aliases) & {LIVE, PREVIOUS} for each in vertex.versions("iris")}
        assert aliases == {"1": {PREVIOUS}, "2": {LIVE}}
        assert rollback(two, vertex).version == "iris@1"
        assert [(each.number, each.traffic) for each in vertex.endpoints()[0].deployed] == [("1", 100)]
        down(two, vertex)
        assert (vertex.endpoints(), vertex.versions("iris")) == ([], [])
