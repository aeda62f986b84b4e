"""A project on one of Vertex AI's prebuilt images: the plan, and the deployment of a stand-in under its name."""

from dataclasses import replace

import pytest
from dep_project import write
from dep_world import emulator, engine, project, write_context  # noqa: F401

from cpr_kit.contract import ContainerSpec
from cpr_kit.deploy import api
from cpr_kit.engine.protocol import Build
from cpr_kit.errors import ConfigError, SpecError
from cpr_kit.prebuilt import tf_serving

IMAGE = "us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-6:latest"


@pytest.fixture
def config(tmp_path, project, emulator):  # noqa: F811
    """Nothing but the image, the folder of artifacts and where it goes."""

    def make(*files, name=IMAGE, more="", regions=("us-central1",)):
        folder = tmp_path / "iris"
        read = write(folder, project, regions=regions, more=f'staging = "gs://dep-prebuilt-{{region}}/m"\n{more}')
        text = (folder / "cpr.toml").read_text().replace(read.image.name, name)
        (folder / "cpr.toml").write_text(f'[model]\nartifacts = "model"\n{text}')
        (folder / "model").mkdir(exist_ok=True)
        for file in files:
            (folder / "model" / file).write_text("weights")
        return type(read).read(folder, environ={})

    return make


@pytest.fixture
def buckets(emulator):  # noqa: F811
    from google.cloud import storage

    client = storage.Client(project="dep-prebuilt")
    for region in ("us-central1", "europe-west4", "southamerica-east1"):
        if not client.lookup_bucket(f"dep-prebuilt-{region}"):
            client.create_bucket(f"dep-prebuilt-{region}", location=region)


def test_the_plan_needs_no_image_here_no_port_and_no_routes(config, engine, buckets):  # noqa: F811
    plan = api.plan(config("model.joblib"), engine=engine)
    (region,) = plan.regions
    assert [step.action for step in region.steps if step.action != "push"] == [step.action for step in region.steps]
    assert (region.steps[0].action, region.steps[0].name) == ("keep", IMAGE)
    assert not [warning for warning in region.warnings if "tag" in warning or "EXPOSE" in warning]
    assert any("2026-10-14" in warning for warning in region.warnings)


def test_each_region_has_the_image_of_its_nearest_host(config, engine, buckets):  # noqa: F811
    plan = api.plan(config("model.pkl", regions=("europe-west4", "southamerica-east1")), engine=engine)
    assert [region.steps[0].name.partition("-")[0] for region in plan.regions] == ["europe", "us"]


def test_a_folder_without_the_file_that_the_image_loads_is_refused_before_any_call(config, engine):  # noqa: F811
    with pytest.raises(ConfigError, match=r"it has iris\.joblib, and the image loads model\.joblib or model\.pkl"):
        api.plan(config("iris.joblib"), engine=engine)


def test_a_prebuilt_image_that_there_is_not_is_refused_with_those_like_it(config, engine):  # noqa: F811
    with pytest.raises(ConfigError, match=r"did you mean .*sklearn-cpu\.1-6"):
        api.plan(config("model.pkl", name=IMAGE.replace("1-6", "1-66")), engine=engine)


def test_a7_3_a_tensorflow_serving_that_would_not_get_healthy_is_refused_before_any_call(config, engine):  # noqa: F811
    name = "us-central1-docker.pkg.dev/dep-tests/serving/tf_serving:cpu"
    spec = replace(tf_serving.spec("flowers", image=name), ports=(8501,))
    with pytest.raises(SpecError) as error:
        api.plan(config("saved_model.pb", name=name), spec=spec, engine=engine)
    assert "--rest_api_port is 8080, and Vertex AI asks 8501" in str(error.value)
    assert "has saved_model.pb itself" in str(error.value)


def test_up_and_again_with_a_stand_in_under_the_images_name(config, engine, buckets, tmp_path):  # noqa: F811
    from pathlib import Path

    context = write_context(tmp_path / "context")
    (context / "code" / "server.py").write_text((Path(__file__).parent / "dep_server.py").read_text())
    (context / "code" / "kind.txt").write_text("one")
    engine.build(Build(context=context, tag=IMAGE), lambda _: None)
    try:
        project_ = config("model.joblib")
        (done,) = api.up(project_, engine=engine).checked().done.values()
        assert (done.changed, done.version) == (True, "iris@1")
        (again,) = api.up(project_, engine=engine).checked().done.values()
        assert not again.changed
        from google.cloud import aiplatform

        model = aiplatform.Model(model_name="iris", project=project_.deploy.project, location="us-central1")
        message = model.gca_resource.container_spec
        assert ContainerSpec(image_uri=IMAGE) == ContainerSpec(
            image_uri=message.image_uri,
            ports=tuple(port.container_port for port in message.ports),
            predict_route=message.predict_route or None,
            health_route=message.health_route or None,
        )
        api.down(project_)
    finally:
        engine.remove_image(IMAGE)
