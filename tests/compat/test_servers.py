"""`LocalModel` of servers that others wrote, over real processes: what is started, what is refused before."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from script_engine import ScriptEngine

# The image contexts that both real engines build belong to the engines' tests.
sys.path.insert(0, str(Path(__file__).parent.parent / "engine"))

from contexts import write_context

from cpr_kit.compat.local_model import LocalModel
from cpr_kit.compat.tensorflow import TensorFlowModel
from cpr_kit.contract import ContainerSpec
from cpr_kit.emulator.program import emulate
from cpr_kit.engine.choose import choose
from cpr_kit.engine.protocol import Build
from cpr_kit.errors import ConfigError, ContainerError, LackingError, SpecError, UsageError
from cpr_kit.prebuilt import optimized, tf_serving, triton

TESTS = Path(__file__).parent.parent
SERVERS = TESTS / "harness" / "servers"
PENGUINS = TESTS / "savedmodel" / "models" / "penguins"
PREBUILT = "us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-5:latest"
PENGUIN = {
    "island": "DREAM",
    "culmen_length_mm": 36.6,
    "culmen_depth_mm": 18.4,
    "flipper_length_mm": 184.0,
    "body_mass_g": 3475.0,
    "sex": "FEMALE",
}


class Programs(ScriptEngine):
    """Scripts in place of the servers that an image would have; arguments and environment are as they are given."""

    def run(self, run):
        return super().run(replace(run, command=(sys.executable, run.image)))


@pytest.fixture
def programs():
    engine = Programs()
    yield engine
    left = engine.left_running()
    for container in left:
        container.remove(grace_s=0)
    assert not left


def script(name):
    return str(SERVERS / f"{name}.py")


@pytest.fixture
def penguins(programs):
    """The model on something that reports what it was sent."""
    return TensorFlowModel(
        ContainerSpec.kit(script("reports_request")), engine=programs, artifact_uri=str(PENGUINS / "1")
    )


def test_the_prebuilt_images_specification_is_exactly_the_tutorials():
    model = LocalModel.tensorflow(PENGUINS / "1", version="2-5")
    assert model.spec == ContainerSpec(image_uri=PREBUILT)
    assert model.artifact_uri == str(PENGUINS / "1")
    europe = LocalModel.tensorflow("gs://b/model", "2.5", "gpu", region="europe-west4")
    assert europe.spec.image_uri == "europe-docker.pkg.dev/vertex-ai/prediction/tf2-gpu.2-5:latest"


def test_a_folder_that_the_prebuilt_image_cannot_load_is_refused():
    with pytest.raises(ConfigError, match=r"the model is in its folder 1, .*: name .*/penguins/1"):
        LocalModel.tensorflow(PENGUINS, version="2-5")


def test_the_prebuilt_image_has_to_be_here_or_another_named(programs):
    model = LocalModel.tensorflow(PENGUINS / "1", version="2-5", engine=programs)
    with pytest.raises(LackingError, match=r'image="tensorflow/serving:2\.5\.4"'):
        model.deploy_to_local_endpoint()


def test_a_run_here_takes_another_image_under_the_prebuilt_ones_routes(programs):
    model = LocalModel.tensorflow(PENGUINS / "1", version="2-5", image=script("reports_request"), engine=programs)
    with model.deploy_to_local_endpoint() as endpoint:
        response = endpoint.raw([PENGUIN], signature="predict")
        environment = response.json()["predictions"][0]["environment"]
        storage = Path(environment["AIP_STORAGE_URI"])
        assert (storage / "1" / "saved_model.pb").read_bytes() == (PENGUINS / "1" / "saved_model.pb").read_bytes()
        assert environment["AIP_PREDICT_ROUTE"] == "/v1/models/default:predict"
    assert not storage.exists()
    (run,) = programs.runs
    assert run.args == tuple(
        each.replace("$(AIP_STORAGE_URI)", str(storage)) for each in tf_serving.spec("default").args
    )
    assert model.spec == ContainerSpec(image_uri=PREBUILT)


class Optimizing(Programs):
    """Its images say, as the stand-in does, which of the optimized runtime's flags they serve with."""

    def image(self, reference):
        found = super().image(reference)
        return found and replace(found, labels={optimized.SERVED: "allow_precompilation,allow_compression"})


LOSSY = ("--allow_compression=true", "--allow_precompilation=true")


@pytest.mark.parametrize(
    ("engine", "started", "said"), [(Optimizing, LOSSY, ["--use_tfrt"]), (Programs, (), ["--use_tfrt", *LOSSY])]
)
def test_a_run_here_has_the_flags_that_its_image_knows_and_the_others_are_told_once(engine, started, said, caplog):
    model = LocalModel.optimized_tensorflow(
        PENGUINS / "1",
        "lossy",
        args=["--enable_batching=true", "--use_tfrt", "--model_name=penguins", "--rest_api_port=8080", "--port=9000"],
        image=script("reports_request"),
        engine=engine(),
    )
    for _ in range(2):
        spec = model.deploy_to_local_endpoint().spec
    derived = len(tf_serving.spec("penguins").args)
    assert spec.args[:derived] == tf_serving.spec("penguins").args
    assert sorted(spec.args[derived:]) == sorted([*started, "--enable_batching=true"])
    (told,) = caplog.messages
    assert sorted(told.partition(": ")[2].split(", ")) == sorted(said)


def test_an_old_name_of_a_flag_reaches_the_image_here_as_todays(caplog):
    model = LocalModel.optimized_tensorflow(
        PENGUINS / "1", "lossy", version="alpha", image=script("healthy"), engine=Optimizing()
    )
    assert model.deploy_to_local_endpoint().spec.args[-2:] == tuple(reversed(LOSSY))
    assert "--allow_precision_affecting_optimizations=true" in model.spec.args
    assert not caplog.messages


def test_a_model_of_symbolic_links_is_served_by_what_they_lead_to(programs, tmp_path):
    """As a cache of downloads has them: the container sees the copy alone."""
    (tmp_path / "blob").write_bytes((PENGUINS / "1" / "saved_model.pb").read_bytes())
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").symlink_to("../blob")
    model = LocalModel.tensorflow(tmp_path / "model", image=script("reports_request"), engine=programs)
    with model.deploy_to_local_endpoint() as endpoint:
        environment = endpoint.raw([PENGUIN], signature="predict").json()["predictions"][0]["environment"]
        copied = Path(environment["AIP_STORAGE_URI"]) / "1" / "saved_model.pb"
        assert not copied.is_symlink()
        assert copied.read_bytes() == (tmp_path / "blob").read_bytes()


def test_a_start_that_fails_leaves_no_copy_and_may_be_tried_again(programs):
    model = LocalModel.tensorflow(PENGUINS / "1", version="2-5", image=script("exits_at_start"), engine=programs)
    endpoint = model.deploy_to_local_endpoint()
    for _ in range(2):
        with pytest.raises(ContainerError, match=r"model\.joblib is not there"):
            endpoint.serve()
        (mount,) = programs.runs[-1].mounts
        assert not mount.source.exists()


def sent(response):
    import base64
    import json

    return json.loads(base64.b64decode(response.json()["predictions"][0]["body"]))


def test_one_raw_call_names_the_signature(penguins):
    with penguins.deploy_to_local_endpoint() as endpoint:
        assert sent(endpoint.raw([PENGUIN], signature="predict")) == {
            "signature_name": "predict",
            "instances": [PENGUIN],
        }
        whole = b'{"inputs": 1}'
        assert sent(endpoint.raw(whole, "application/json")) == {"inputs": 1}
    assert penguins.body([PENGUIN], "predict") == {"signature_name": "predict", "instances": [PENGUIN]}


def test_a5_3_an_unknown_signature_is_named_with_the_known_ones_and_nothing_is_sent(penguins):
    with penguins.deploy_to_local_endpoint() as endpoint:
        with pytest.raises(UsageError) as error:
            endpoint.raw([PENGUIN], signature="prediction")
    assert "prediction" in str(error.value)
    assert "predict" in str(error.value)
    assert "serving_default" in str(error.value)
    assert "POST" not in endpoint.container.logs()


def test_a5_3_an_unknown_input_is_named_with_the_known_ones(penguins):
    wrong = {("bill_length_mm" if key == "culmen_length_mm" else key): value for key, value in PENGUIN.items()}
    with pytest.raises(UsageError) as error:
        penguins.body([wrong], "predict")
    assert "bill_length_mm" in str(error.value)
    for name in PENGUIN:
        assert name in str(error.value)


def test_a_signature_goes_with_instances(penguins):
    with penguins.deploy_to_local_endpoint() as endpoint, pytest.raises(UsageError, match="signature goes with"):
        endpoint.raw({"instances": [PENGUIN]}, signature="predict")


def test_a_prebuilt_image_is_not_pushed():
    with pytest.raises(UsageError, match="nothing to push"):
        LocalModel.tensorflow(PENGUINS / "1", version="2-5").push_image()


def test_the_optimized_runtime_has_its_flags_and_notes():
    model = LocalModel.optimized_tensorflow(
        PENGUINS / "1", "lossy", args=["--allow_precision_affecting_optimizations=true"]
    )
    assert model.spec.image_uri == "us-docker.pkg.dev/vertex-ai-restricted/prediction/tf_opt-cpu.nightly:latest"
    assert "--allow_compression=true" in model.spec.args
    assert len(model.notes) == 1


@pytest.mark.parametrize("folder", [PENGUINS, PENGUINS / "1"])
def test_a7_1_tf_serving_follows_from_one_name(folder):
    model = LocalModel.tf_serving(folder, name="penguins")
    assert model.spec == tf_serving.spec("penguins")
    assert model.artifact_uri == str(PENGUINS)


def test_tf_serving_is_started_with_the_folder_expanded(programs):
    model = LocalModel.tf_serving(PENGUINS, name="penguins", image=script("healthy"), engine=programs)
    with model.deploy_to_local_endpoint() as endpoint:
        assert endpoint.predict(instances=[[1, 2]]).predictions == [3]
        assert endpoint.serving_container_health_route == "/v1/models/penguins"
    assert f"--model_base_path={PENGUINS}" in programs.runs[0].args


@pytest.mark.engine
def test_a_copy_is_the_same_image_with_the_same_start(tmp_path):
    engine = choose("docker").engine
    names = ("cpr-kit-tests/tf-serving:cpu", "cpr-kit-tests/copied:cpu")
    try:
        built = engine.build(Build(context=write_context(tmp_path / "context"), tag=names[0]), lambda _: None)
        model = LocalModel.tf_serving(PENGUINS, name="penguins", image=names[0], engine=engine)
        copy = model.copy_image(names[1])
        assert copy.spec == tf_serving.spec("penguins", image=names[1])
        assert copy.artifact_uri == model.artifact_uri
        assert engine.image(names[1]).id == built.id
    finally:
        for name in names:
            if engine.image(name):
                engine.remove_image(name)


def test_a7_3_what_would_never_get_healthy_is_named_before_anything_starts(programs):
    spec = replace(tf_serving.spec("penguins"), ports=(8501,), predict_route="/v1/models/penguin:predict")
    model = LocalModel(spec, engine=programs, artifact_uri=str(PENGUINS / "1"))
    with pytest.raises(SpecError) as error:
        model.deploy_to_local_endpoint()
    for said in ("--rest_api_port is 8080", "/v1/models/penguin:predict", "is a version"):
        assert said in str(error.value)
    assert not programs.runs


def test_a7_3_a_start_that_fails_is_told_with_the_containers_log(programs):
    model = LocalModel.tf_serving(PENGUINS, image=script("exits_at_start"), engine=programs)
    with pytest.raises(ContainerError, match=r"(?s)ended with exit code 1 .*model\.joblib is not there"):
        model.deploy_to_local_endpoint().serve()


@pytest.fixture
def repository(tmp_path):
    for name in ("pytorch", "ensemble"):
        (tmp_path / name / "1").mkdir(parents=True)
    return tmp_path


def test_triton_gets_its_routes_memory_and_the_redirecting_header(programs, repository):
    model = LocalModel.triton(
        repository, "ensemble", script("reports_request"), redirecting=True, shared_memory_mb=256, engine=programs
    )
    header = {"x-vertex-ai-triton-redirect": "v2/models/pytorch/infer", "Content-Type": "application/octet-stream"}
    with model.deploy_to_local_endpoint() as endpoint:
        (seen,) = endpoint.raw_predict(b"\x00\x01", header).json()["predictions"]
    assert {name.lower(): value for name, value in header.items()}.items() <= seen["headers"].items()
    (run,) = programs.runs
    assert run.shared_memory_size_mb == 256
    assert f"--model-repository={repository}" in run.args


def test_triton_with_one_model_at_its_own_routes(repository):
    """With others beside it Triton is told which one; alone it has the tutorial's arguments and no more."""
    model = LocalModel.triton(repository, "pytorch")
    assert (model.spec.ports, model.spec.predict_route) == ((8000,), "/v2/models/pytorch/infer")
    assert model.spec.args == (*triton.spec("pytorch").args, "--vertex-ai-default-model=pytorch")
    with pytest.raises(SpecError, match='no model "torch"; it has ensemble, pytorch'):
        LocalModel.triton(repository, "torch")
    shutil.rmtree(repository / "ensemble")
    assert LocalModel.triton(repository, "pytorch").spec == triton.spec("pytorch")
    bucket = LocalModel.triton("gs://b/m", "pytorch", args=["--vertex-ai-default-model=pytorch"])
    assert bucket.spec.args == model.spec.args
    with pytest.raises(SpecError, match="leaves the port to Vertex AI"):
        LocalModel.triton(repository, "pytorch", redirecting=True, port=8001)


def test_the_sdk_uploads_what_was_derived(monkeypatch):
    from google.cloud import aiplatform
    from google.auth.credentials import AnonymousCredentials

    uploaded = []

    class Stop(Exception):
        pass

    def upload_model(self, request, **options):
        uploaded.append(request.model)
        raise Stop

    monkeypatch.setattr(aiplatform.gapic.ModelServiceClient, "upload_model", upload_model)
    models = (LocalModel.tensorflow("gs://b/m", "2-5"), LocalModel.tf_serving("gs://b/model/1", name="flowers"))
    with emulate(engine="process"):
        for model in models:
            with pytest.raises(Stop):
                aiplatform.Model.upload(
                    display_name="m",
                    local_model=model,
                    artifact_uri=model.artifact_uri,
                    project="p",
                    location="us-central1",
                    credentials=AnonymousCredentials(),
                )
    prebuilt, serving = uploaded
    assert type(prebuilt.container_spec)(image_uri=PREBUILT) == prebuilt.container_spec
    assert prebuilt.artifact_uri == "gs://b/m"
    assert serving.artifact_uri == "gs://b/model"
    container = serving.container_spec
    assert list(container.command) == ["/usr/bin/tensorflow_model_server"]
    assert list(container.args) == [
        "--model_name=flowers",
        "--model_base_path=$(AIP_STORAGE_URI)",
        "--rest_api_port=8080",
        "--port=8500",
        "--file_system_poll_wait_seconds=31540000",
    ]
    assert [port.container_port for port in container.ports] == [8080]
    assert (container.health_route, container.predict_route) == ("/v1/models/flowers", "/v1/models/flowers:predict")
