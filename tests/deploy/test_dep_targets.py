import json
import re

import pytest

from cpr_kit import serving_spec
from cpr_kit.config import Config
from cpr_kit.contract import ContainerSpec
from cpr_kit.deploy.project import explanation, from_config
from cpr_kit.deploy.target import CheckRequest, Scale
from cpr_kit.errors import ConfigError

NAME = "us-central1-docker.pkg.dev/my-project/serving/iris:1"
CPU = "aiplatform.googleapis.com/prediction/online/cpu/utilization"
PLAIN = f"""
[image]
name = "{NAME}"
[deploy]
project = "my-project"
endpoint = "iris"
"""
ONE = PLAIN + 'regions = ["us-central1"]\n'
THREE = PLAIN + 'regions = ["us-central1", "europe-west4", "asia-east1"]\n'


@pytest.fixture
def config_of(tmp_path):
    folder = tmp_path / "Iris model"
    folder.mkdir()

    def read(text):
        (folder / "cpr.toml").write_text(text)
        return Config.read(folder, {})

    return read


@pytest.fixture
def targets_of(config_of):
    def make(text, **options):
        config = config_of(text)
        spec = serving_spec.of(config, config.image.name or "iris:latest")
        return from_config.targets(config, spec, **options)

    return make


def test_a_section_becomes_a_target(targets_of, config_of):
    folder = config_of("").folder
    (folder / "model").mkdir()
    (folder / "rows.json").write_bytes(b'{"instances": [[1]]}')
    (folder / "rows.csv").write_bytes(b"1,2")
    (folder / "rows.expected.json").write_bytes(b'{"predictions": [0]}')
    text = f"""
        [model]
        artifacts = "./model/"
        [image]
        name = "{NAME}"
        env = {{ A = "1", B = "2" }}
        shared_memory_mb = 64
        [deploy]
        project = "my-project"
        endpoint = "iris"
        regions = ["us-central1"]
        staging = "gs://my-models/"
        kind = "dedicated"
        machine_type = "n1-standard-4"
        accelerator_type = "NVIDIA_TESLA_T4"
        min_replicas = 2
        max_replicas = 4
        autoscaling = {{ cpu = 70 }}
        inference_timeout = 120
        deployment_timeout = 900
        env = {{ B = "3", C = "4" }}
        startup_probe = {{ http_path = "/started", timeout_s = 2 }}
        [[check]]
        request = "rows.json"
        expect = "rows.expected.json"
        [[check]]
        request = "rows.csv"
        content_type = "text/csv"
        """
    (found,) = targets_of(text)
    assert (found.project, found.region, found.endpoint, found.model) == ("my-project", "us-central1", "iris", "iris")
    assert (found.image, found.spec.image_uri) == (NAME, NAME)
    assert (found.artifacts, found.staging) == (str(folder / "model"), "gs://my-models")
    assert found.scale == Scale(
        machine_type="n1-standard-4",
        accelerator_type="NVIDIA_TESLA_T4",
        accelerator_count=1,
        min_replicas=2,
        max_replicas=4,
        required_replicas=2,
        autoscaling={CPU: 70},
    )
    assert found.spec.env == {"A": "1", "B": "3", "C": "4"}
    assert (found.spec.shared_memory_size_mb, found.spec.deployment_timeout_s) == (64, 900)
    assert found.spec.startup_probe.http_path == "/started"
    assert (found.kind, found.inference_timeout_s) == ("dedicated", 120)
    assert found.checks == (
        CheckRequest(name="rows.json", body=b'{"instances": [[1]]}', expected=b'{"predictions": [0]}'),
        CheckRequest(name="rows.csv", body=b"1,2", content_type="text/csv"),
    )


def test_several_regions_have_the_image_and_the_bucket_of_their_own(targets_of):
    found = targets_of(THREE + 'staging = "gs://my-models-{region}/iris"')
    assert [each.region for each in found] == ["us-central1", "europe-west4", "asia-east1"]
    for each in found:
        assert each.image == each.spec.image_uri == f"{each.region}-docker.pkg.dev/my-project/serving/iris:1"
        assert each.staging == f"gs://my-models-{each.region}/iris"


def test_each_of_several_regions_takes_its_own_reservations(targets_of):
    names = [f"projects/p/zones/{region}-b/reservations/r" for region in ("us-central1", "europe-west4", "asia-east1")]
    found = targets_of(f"{THREE}reservation = {names}")
    assert [each.scale.reservation for each in found] == [(name,) for name in names]
    assert [each.scale.reservation for each in targets_of(f"{THREE}reservation = 'any'")] == [("any",)] * 3
    with pytest.raises(ConfigError, match="has none in asia-east1, only in europe-west4, us-central1; name one"):
        targets_of(f"{THREE}reservation = {names[:2]}")


EXPLANATION = {
    "parameters": {"sampled_shapley_attribution": {"path_count": 10}},
    "metadata": {"inputs": {"age": {"input_baselines": [0]}, "income": {}}, "outputs": {"scores": {}}},
}


def test_an_explanation_is_the_same_however_its_file_is_written(targets_of, config_of):
    file = config_of("").folder / "explanation.json"
    text = ONE + "explanation = 'explanation.json'"
    file.write_text(json.dumps(EXPLANATION))
    (found,) = targets_of(text)
    camel = json.dumps(EXPLANATION, indent=1).replace("sampled_shapley_attribution", "sampledShapleyAttribution")
    file.write_text(camel.replace("path_count", "pathCount").replace("input_baselines", "inputBaselines"))
    assert targets_of(text)[0].explanation == found.explanation
    spec = explanation.message(found.explanation)
    assert spec.parameters.sampled_shapley_attribution.path_count == 10
    assert {name: list(each.input_baselines) for name, each in spec.metadata.inputs.items()} == {
        "age": [0.0],
        "income": [],
    }
    assert list(spec.metadata.outputs) == ["scores"]
    assert targets_of(text, files=False)[0].explanation is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        ("{", "which is no JSON: "),
        ("[]", "which holds no JSON object"),
        ("{}", "name no method; known are sampledShapleyAttribution, integratedGradientsAttribution"),
        ({"parameter": {}}, ": parameter is unknown (known are parameters, metadata)"),
        ({"parameters": {"sampledShapley": {}}}, ": sampledShapley is unknown (known are sampledShapleyAttribution"),
        ({"parameters": {"sampledShapleyAttribution": {"pathCount": "many"}}}, ": pathCount has a value of another kind"),
        ({"parameters": {"sampledShapleyAttribution": {}}}, "whose pathCount is 0; it is 1 to 50"),
        ({"parameters": {"sampledShapleyAttribution": {"pathCount": 51}}}, "whose pathCount is 51"),
        ({**EXPLANATION, "metadata": {"outputs": {"a": {}}}}, "has no inputs"),
        ({**EXPLANATION, "metadata": {"inputs": {"a": {}}}}, "has 0 outputs; it is one"),
        ({**EXPLANATION, "metadata": {"inputs": {"a": {}}, "outputs": {"a": {}, "b": {}}}}, "has 2 outputs"),
        ({**EXPLANATION, "metadata": [{}]}, "metadata"),
    ],
)  # fmt: skip
def test_what_is_no_explanation_is_said(targets_of, config_of, content, message):
    if content is not None:
        text = content if isinstance(content, str) else json.dumps(content)
        (config_of("").folder / "why.json").write_text(text)
    with pytest.raises(ConfigError) as error:
        targets_of(ONE + "explanation = 'why.json'")
    assert "[deploy] explanation (CPR_DEPLOY_EXPLANATION) names why.json" in str(error.value)
    assert message in str(error.value)
    assert not re.search(r"'\w+' object|invalid literal|Traceback", str(error.value))


def test_some_of_several_regions_may_be_asked_for(targets_of):
    (found,) = targets_of(THREE, regions=["europe-west4"])
    assert (found.region, found.image.partition("/")[0]) == ("europe-west4", "europe-west4-docker.pkg.dev")


def test_an_image_of_another_region_is_refused_where_there_is_one_region(targets_of):
    with pytest.raises(ConfigError, match="is in us-central1, and the model in europe-west4"):
        targets_of(ONE.replace('["us-central1"]', '["europe-west4"]'))


def test_a_region_that_cpr_toml_does_not_name_gets_the_image_in_its_own_repository(targets_of):
    """Taken out of the list, a region can still be looked at and taken down."""
    (found,) = targets_of(ONE, regions=["europe-west4"])
    assert found.image.startswith("europe-west4-docker.pkg.dev/")


def test_the_kind_may_be_said_under_serve(targets_of):
    assert targets_of(ONE + '[serve]\nendpoint_kind = "dedicated"')[0].kind == "dedicated"
    assert targets_of(ONE)[0].kind == "public"


def test_max_replicas_is_min_replicas_where_it_is_left_out(targets_of):
    assert targets_of(ONE + "min_replicas = 3")[0].scale.max_replicas == 3


def test_a_machine_with_gpus_of_its_own_has_those(targets_of):
    for text in ("", "accelerator_type = 'NVIDIA_L4'", "accelerator_type = 'NVIDIA_L4'\naccelerator_count = 2"):
        scale = targets_of(f"{ONE}machine_type = 'g2-standard-24'\n{text}")[0].scale
        assert (scale.accelerator_type, scale.accelerator_count) == ("NVIDIA_L4", 2)


def test_an_image_without_a_tag_has_the_one_that_docker_gives(targets_of):
    assert targets_of(ONE.replace("iris:1", "iris"))[0].image == NAME.replace(":1", ":latest")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ONE.replace('project = "my-project"', ""), "[deploy] project (CPR_DEPLOY_PROJECT, GOOGLE_CLOUD_PROJECT) is missing"),
        (ONE.replace('endpoint = "iris"', ""), 'endpoint = "iris-model"'),
        (PLAIN, "[deploy] regions (CPR_DEPLOY_REGIONS, --region) is missing"),
        (PLAIN + 'regions = ["us-central"]', "did you mean us-central1"),
        (PLAIN + 'regions = ["us-central1", "us-central1"]', 'regions names "us-central1" 2 times'),
        (ONE.replace("name =", "# "), "the image iris:latest is not in Artifact Registry"),
        (ONE.replace("iris:1", "iris@sha256:" + "0" * 64), "under a name and a tag, without a digest"),
        (THREE.replace("us-central1-docker", "us-docker"), "a repository of several regions"),
        (THREE + 'staging = "gs://my-models"', 'staging = "gs://my-bucket-{region}/models"'),
        (ONE + '[model]\nartifacts = "model"', "is no folder"),
        (ONE + '[model]\nartifacts = "."', 'staging = "gs://BUCKET/PREFIX", a bucket in us-central1'),
        (ONE.replace("[deploy]", "platform = 'linux/arm64'\n[deploy]"), "Vertex AI runs linux/amd64 alone"),
        (ONE + '[[check]]\nrequest = "rows.json"', "[[check]] names rows.json"),
        (ONE + "deployment_timeout = 7201", "[deploy] deployment_timeout is 7201; it is 7200 s (2 h) at most"),
        (ONE + "env = { AIP_MODE = 'x' }", "[deploy] env: AIP_MODE is set by Vertex AI"),
        (ONE + "min_replicas = 0", "scaling to zero"),
        (ONE + "canary = 10", "[[check]] with request"),
        (ONE + f"autoscaling = {{ cpu = 60, '{CPU}' = 70 }}", "twice: once as"),
        (ONE + "autoscaling = { cpus = 60 }", 'did you mean "cpu"?'),
        (ONE.replace('endpoint = "iris"', 'endpoint = "123"'), 'model is "123"'),
    ],
)  # fmt: skip
def test_what_cannot_be_deployed_is_named_with_what_to_do(targets_of, text, message):
    with pytest.raises(ConfigError) as error:
        targets_of(text)
    assert message in str(error.value)


def test_what_is_only_asked_about_needs_no_files(targets_of):
    text = ONE + 'canary = 10\n[model]\nartifacts = "gone"\n[[check]]\nrequest = "gone.json"'
    with pytest.raises(ConfigError):
        targets_of(text)
    (found,) = targets_of(text, files=False)
    assert (found.artifacts, found.checks) == (None, ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind = 'dedicated'", 'write [serve] endpoint_kind = "dedicated"'),
        ("[serve]\nmax_body = 2_000_000", "a public endpoint lets 1500000 bytes through"),
        ("[serve]\nrequest_timeout = 90", "a public endpoint waits 60 s"),
        ("kind = 'dedicated'\n[serve]\nendpoint_kind = 'dedicated'\nrequest_timeout = 601", "waits 600 s"),
    ],
)
def test_a_server_that_does_not_fit_its_endpoint_is_warned_of(config_of, text, message):
    config = config_of(ONE + text)
    (target,) = from_config.targets(config, ContainerSpec.kit(NAME))
    (found,) = from_config.warnings(config, target)
    assert message in found


def test_a_server_that_fits_is_not(config_of):
    for text in ("", "[serve]\nendpoint_kind = 'dedicated'\nmax_body = 9_000_000\nrequest_timeout = 600"):
        config = config_of(ONE + text)
        (target,) = from_config.targets(config, ContainerSpec.kit(NAME))
        assert from_config.warnings(config, target) == ()
