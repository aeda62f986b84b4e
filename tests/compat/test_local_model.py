import inspect

import pytest

from cpr_kit.compat.errors import DockerError
from cpr_kit.compat.local_model import LocalModel
from cpr_kit.contract import ContainerSpec, Probe
from cpr_kit.emulator.program import emulate
from cpr_kit.engine.protocol import Gpus
from cpr_kit.errors import SpecError


def test_every_argument_reaches_the_specification():
    spec = LocalModel(
        serving_container_image_uri="i",
        serving_container_predict_route="/p",
        serving_container_health_route="/h",
        serving_container_command=["c"],
        serving_container_args=["a"],
        serving_container_environment_variables={"A": 1},
        serving_container_ports=[1, 2],
        serving_container_grpc_ports=[3],
        serving_container_deployment_timeout=4,
        serving_container_shared_memory_size_mb=5,
        serving_container_startup_probe_exec=["s"],
        serving_container_startup_probe_period_seconds=6,
        serving_container_startup_probe_timeout_seconds=7,
        serving_container_health_probe_exec=["h"],
    ).spec
    assert spec == ContainerSpec(
        image_uri="i",
        predict_route="/p",
        health_route="/h",
        command=("c",),
        args=("a",),
        env={"A": "1"},
        ports=(1, 2),
        grpc_ports=(3,),
        deployment_timeout_s=4,
        shared_memory_size_mb=5,
        startup_probe=Probe(exec=("s",), period_s=6, timeout_s=7),
        health_probe=Probe(exec=("h",)),
    )


def test_a_model_without_an_image_is_a_value_error():
    model = pytest.importorskip("google.cloud.aiplatform_v1.types.model")
    with pytest.raises(ValueError, match="image uri is required"):
        LocalModel()
    with pytest.raises(ValueError, match="Image uri is required"):
        LocalModel(model.ModelContainerSpec())


def test_a_probe_without_a_command_is_a_value_error():
    with pytest.raises(ValueError, match="serving_container_health_probe_exec is missing"):
        LocalModel(serving_container_image_uri="i", serving_container_health_probe_period_seconds=3)


def test_variables_of_the_platform_are_refused():
    with pytest.raises(SpecError, match="AIP_HTTP_PORT"):
        LocalModel(serving_container_image_uri="i", serving_container_environment_variables={"AIP_HTTP_PORT": 1})


def test_googles_message_goes_in_and_comes_out_the_same():
    model = pytest.importorskip("google.cloud.aiplatform_v1.types.model")
    alive = model.Probe(http_get=model.Probe.HttpGetAction(path="/alive"), period_seconds=3)
    message = model.ModelContainerSpec(image_uri="i", predict_route="/p", liveness_probe=alive)
    local = LocalModel(message)
    assert local.serving_container_spec is message
    probe = Probe(http_path="/alive", period_s=3)
    assert local.spec == ContainerSpec(image_uri="i", predict_route="/p", liveness_probe=probe)


@pytest.fixture(scope="module")
def aiplatform():
    return pytest.importorskip("google.cloud.aiplatform")


def test_the_sdk_uploads_our_model(aiplatform, monkeypatch):
    """`Model.upload` builds its request from our model; only the call over the network is cut off.

    Under the emulator, since gRPC reads the roots that it trusts once in a program's life: a channel that this test
    made to the real hosts would have the last word for all the tests after it.
    """
    sent = {}

    class Stop(Exception):
        pass

    def upload_model(self, request, **options):
        sent["model"] = request.model
        raise Stop

    from google.auth.credentials import AnonymousCredentials

    client = aiplatform.gapic.ModelServiceClient
    monkeypatch.setattr(client, "upload_model", upload_model)
    local = LocalModel(
        serving_container_image_uri="us-docker.pkg.dev/p/r/i:1",
        serving_container_predict_route="/p",
        serving_container_environment_variables={"A": "1"},
        serving_container_ports=[8080],
    )
    with emulate(engine="process"), pytest.raises(Stop):
        aiplatform.Model.upload(
            display_name="iris",
            local_model=local,
            project="p",
            location="us-central1",
            credentials=AnonymousCredentials(),
            staging_bucket="gs://b",
        )
    container = sent["model"].container_spec
    assert container.image_uri == "us-docker.pkg.dev/p/r/i:1"
    assert container.predict_route == "/p"
    assert [(entry.name, entry.value) for entry in container.env] == [("A", "1")]
    assert [port.container_port for port in container.ports] == [8080]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", ["__init__", "build_cpr_model", "deploy_to_local_endpoint", "get_serving_container_spec"]
)
def test_upstreams_parameters_have_their_order_and_defaults(name):
    upstream = pytest.importorskip("google.cloud.aiplatform.prediction").LocalModel
    theirs = list(inspect.signature(getattr(upstream, name)).parameters.values())
    ours = list(inspect.signature(getattr(LocalModel, name)).parameters.values())
    assert [one.name for one in ours[: len(theirs)]] == [one.name for one in theirs]
    assert all(one.kind == one.KEYWORD_ONLY for one in ours[len(theirs) :])
    for one, other in zip(theirs, ours, strict=False):
        assert getattr(one.default, "__name__", one.default) == getattr(other.default, "__name__", other.default)


@pytest.mark.filterwarnings("ignore")
def test_the_endpoint_has_upstreams_methods():
    upstream = pytest.importorskip("google.cloud.aiplatform.prediction").LocalEndpoint
    from cpr_kit.harness.endpoint import LocalEndpoint

    for name in [name for name in vars(upstream) if not name.startswith("_")]:
        theirs = list(inspect.signature(getattr(upstream, name)).parameters)
        assert list(inspect.signature(getattr(LocalEndpoint, name)).parameters)[: len(theirs)] == theirs


def test_a_local_model_is_served(scripts, server):
    local = LocalModel(serving_container_image_uri=server("healthy"), engine=scripts)
    with local.deploy_to_local_endpoint(container_ready_check_interval=0.02) as endpoint:
        assert endpoint.predict(instances=[[1, 2]]).predictions == [3]


def test_artifacts_of_the_project_are_the_default_and_an_argument_wins(scripts, tmp_path):
    local = LocalModel(serving_container_image_uri="i", engine=scripts, artifact_uri=str(tmp_path))
    assert local.deploy_to_local_endpoint().options.artifact_uri == str(tmp_path)
    assert local.deploy_to_local_endpoint("gs://b/m").options.artifact_uri == "gs://b/m"


def test_a_container_that_ends_is_upstreams_docker_error(scripts, server):
    local = LocalModel(serving_container_image_uri=server("exits_at_start"), engine=scripts)
    with pytest.raises(DockerError, match=r"model\.joblib is not there"):
        local.deploy_to_local_endpoint().serve()


@pytest.mark.parametrize(
    ("arguments", "gpus"),
    [
        ({}, None),
        ({"gpu_count": 2}, Gpus(count=2, capabilities=(("utility", "compute"),))),
        ({"gpu_device_ids": ["0", "1"]}, Gpus(device_ids=("0", "1"), capabilities=(("utility", "compute"),))),
        ({"gpu_capabilities": [["gpu"]]}, Gpus(count=-1, capabilities=(("gpu",),))),
        ({"gpu_count": 1, "gpu_capabilities": [["gpu", "video"]]}, Gpus(count=1, capabilities=(("gpu", "video"),))),
    ],
)
def test_gpus_have_upstreams_defaults(arguments, gpus):
    local = LocalModel(serving_container_image_uri="i")
    assert local.deploy_to_local_endpoint(**arguments).options.gpus == gpus


def test_a_count_and_ids_of_gpus_together_are_a_value_error():
    with pytest.raises(ValueError, match="both are set"):
        LocalModel(serving_container_image_uri="i").deploy_to_local_endpoint(gpu_count=1, gpu_device_ids=["0"])


def test_a_host_port_may_be_text_as_upstreams_is():
    local = LocalModel(serving_container_image_uri="i")
    assert local.deploy_to_local_endpoint(host_port="8080").options.host_port == 8080
