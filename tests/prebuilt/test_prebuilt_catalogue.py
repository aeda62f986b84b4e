"""The catalogue against the SDK's list, the contract's table and our own regions."""

import pytest

from cpr_kit.contract import ContainerSpec
from cpr_kit.deploy.project import regions
from cpr_kit.errors import ConfigError
from cpr_kit.prebuilt import catalogue, layout


def test_every_image_that_the_sdk_lists_is_known_and_no_older_one_beside_them():
    from google.cloud.aiplatform.constants import prediction as constants

    theirs = {uri.rpartition("/")[2].removesuffix(":latest") for uri in constants.SERVING_CONTAINER_URIS}
    assert theirs <= set(catalogue.IMAGES)
    older = {name for name, image in catalogue.IMAGES.items() if not image.listed}
    assert older <= theirs | {catalogue.ALPHA}
    for uri in constants.SERVING_CONTAINER_URIS:
        image = catalogue.parse(uri)
        assert image.uri(uri.partition("-")[0] + "-any1") == uri


def test_the_files_are_those_of_the_sdks_upload():
    from google.cloud.aiplatform import models

    ours = {name for framework in catalogue.FRAMEWORKS for name in framework.files}
    assert ours == set(models._SUPPORTED_MODEL_FILE_NAMES)


def test_what_is_available_now():
    listed = {name for name, image in catalogue.IMAGES.items() if image.listed}
    assert listed == {
        *(f"tf2-{kind}.{version}" for kind in ("cpu", "gpu") for version in ("2-15", "2-14")),
        *(f"tf_opt-{kind}.{version}" for kind in ("cpu", "gpu", "tpu") for version in ("nightly", "2-17")),
        *(f"pytorch-{kind}.{version}" for kind in ("cpu", "gpu", "tpu") for version in ("2-4", "2-3", "2-2")),
        *(f"sklearn-cpu.{version}" for version in ("1-6", "1-5", "1-4")),
        *(f"xgboost-cpu.{version}" for version in ("2-1", "2-0")),
    }
    sklearn = catalogue.find("sklearn-cpu.1-6")
    assert (sklearn.python, sklearn.supported_until, sklearn.available_until) == ("3.10", "2026-10-14", "2027-10-14")


def test_an_image_by_its_name():
    image = catalogue.find("tf2-cpu.2-5")
    assert (image.framework.name, image.version, image.accelerator, image.listed) == ("tensorflow", "2.5", "cpu", False)
    assert image.uri("europe-west4") == "europe-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-5:latest"
    assert catalogue.find("tf2-cpu.2-5:latest") is catalogue.find(image.uri("us-east1")) is image
    assert image.spec("us-central1") == ContainerSpec(
        image_uri="us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-5:latest"
    )


@pytest.mark.parametrize(
    ("framework", "version", "accelerator", "name"),
    [
        ("tensorflow", "2.5", "cpu", "tf2-cpu.2-5"),
        ("TF2", "2-5", "gpu", "tf2-gpu.2-5"),
        ("tensorflow", "2.15.1", "cpu", "tf2-cpu.2-15"),
        ("tensorflow", "1.15", "cpu", "tf-cpu.1-15"),
        ("scikit-learn", "0.24.2", "cpu", "sklearn-cpu.0-24"),
        ("torch", "2.4", "tpu", "pytorch-tpu.2-4"),
    ],
)
def test_an_image_by_what_is_in_it(framework, version, accelerator, name):
    assert catalogue.for_framework(framework, version, accelerator).name == name


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: catalogue.find("tf2-cpu.2_5"), "tf2-cpu.2-5"),
        (lambda: catalogue.find("sklearn-gpu.1-6"), "sklearn-cpu.1-6"),
        (lambda: catalogue.find("nothing like it"), "available are tf2-cpu.2-15"),
        (lambda: catalogue.for_framework("tensorflow", "2.16"), "near it are 2.15, 2.14; available"),
        (
            lambda: catalogue.for_framework("sklearn", "1.6", "gpu"),
            'no prebuilt scikit-learn image for "gpu"; write cpu',
        ),
        (lambda: catalogue.for_framework("tensorflw", "2.5"), "did you mean tensorflow?"),
        (lambda: catalogue.for_framework("lightgbm", "4"), "tensorflow, pytorch, sklearn, xgboost"),
        (lambda: catalogue.parse("us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-99:latest"), "tf2-cpu.2-9"),
        (lambda: catalogue.parse("us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-5:2"), "the tag 2;"),
        (lambda: catalogue.parse(f"us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-5@sha256:{'0' * 64}"), "a digest"),
        (lambda: catalogue.parse("me-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-5"), "at me-docker.pkg.dev; "),
        (
            lambda: catalogue.parse("us-docker.pkg.dev/vertex-ai/prediction/tf_opt-cpu.nightly:latest"),
            "it is us-docker.pkg.dev/vertex-ai-restricted/prediction/tf_opt-cpu.nightly:latest",
        ),
    ],
)
def test_what_is_not_there_is_refused_with_what_may_be_meant(ask, said):
    with pytest.raises(ConfigError) as error:
        ask()
    assert said in str(error.value)


@pytest.mark.parametrize(
    "image",
    ["iris:1", "us-central1-docker.pkg.dev/p/r/tf2-cpu.2-5:latest", "us-docker.pkg.dev/other/prediction/tf2-cpu.2-5"],
)
def test_other_images_are_none_of_vertex_ais(image):
    assert catalogue.parse(image) is None
    assert not catalogue.is_prebuilt(image)


@pytest.mark.parametrize("region", regions.REGIONS)
def test_the_host_is_the_nearest_of_the_three(region):
    places = ("us", "europe", "asia")
    near = regions.nearest(region, [each for each in regions.REGIONS if each.partition("-")[0] in places])
    own = region.partition("-")[0]
    assert catalogue.host(region) == f"{own if own in places else near[0].partition('-')[0]}-docker.pkg.dev"


def test_an_unknown_region_has_no_host():
    with pytest.raises(ConfigError, match="moon-east1"):
        catalogue.host("moon-east1")


def test_the_same_image_in_another_region():
    image = catalogue.find("xgboost-cpu.1-1").uri("us-central1")
    assert catalogue.in_region(image, "asia-east1") == "asia-docker.pkg.dev/vertex-ai/prediction/xgboost-cpu.1-1:latest"
    assert catalogue.identity(image) == "prebuilt:xgboost-cpu_1-1"


def test_routes_ports_and_instances_of_pytorch():
    pytorch = catalogue.find("pytorch-cpu.2-4")
    framework = pytorch.framework
    assert (framework.health_route, framework.predict_route, framework.port) == ("/ping", "/predictions/model", 8080)
    image = {"b64": "aGk="}
    assert pytorch.instances([image]) == [{"data": image}]
    assert pytorch.instances([{"data": image}]) == [{"data": image}]
    assert catalogue.find("sklearn-cpu.1-6").instances([[1.0]]) == [[1.0]]


def test_an_older_image_is_told_of_with_those_that_are_available():
    assert list(catalogue.warnings(catalogue.find("tf2-cpu.2-15"))) == []
    (older,) = catalogue.warnings(catalogue.find("tf2-cpu.2-5"))
    assert "2027-01-14" in older
    assert "tf2-cpu.2-15, tf2-cpu.2-14" in older
    (dated,) = catalogue.warnings(catalogue.find("sklearn-cpu.1-6"))
    assert "2026-10-14" in dated


@pytest.mark.parametrize(
    ("image", "files", "said"),
    [
        ("sklearn-cpu.1-6", ["model.joblib"], None),
        ("xgboost-cpu.2-1", ["model.pkl"], None),
        ("tf2-cpu.2-15", ["saved_model.pb", "variables/a"], None),
        ("sklearn-cpu.1-6", ["iris.joblib"], "it has iris.joblib, and the image loads model.joblib or model.pkl alone"),
        ("pytorch-cpu.2-4", [], "it has no model.mar; it has nothing"),
        ("tf2-cpu.2-15", ["1/saved_model.pb"], "name "),
        ("tf2-cpu.2-15", ["README"], "it has README"),
    ],
)
def test_the_file_that_an_image_loads(tmp_path, image, files, said):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    prebuilt = catalogue.find(image)
    if said is None:
        layout.check(prebuilt, str(tmp_path))
        return
    with pytest.raises(ConfigError) as error:
        layout.check(prebuilt, str(tmp_path))
    assert said in str(error.value)


def test_artifacts_that_are_missing_a_file_or_its_uri(tmp_path):
    sklearn = catalogue.find("sklearn-cpu.1-6")
    with pytest.raises(ConfigError, match="artifacts is missing"):
        layout.check(sklearn, None)
    with pytest.raises(ConfigError, match="does not exist"):
        layout.check(sklearn, str(tmp_path / "none"))
    layout.check(sklearn, "gs://bucket/model")
    with pytest.raises(ConfigError, match="name its folder: gs://bucket/model/"):
        layout.check(sklearn, "gs://bucket/model/model.joblib")
