"""What a check before a deployment asks: permissions, accounts, repositories, services, quotas; and what denies them."""

import subprocess
import sys

import google.auth
import pytest
from emu_control import IMAGE, LOCATION, MACHINE
from google.api_core import exceptions
from google.auth.transport.requests import AuthorizedSession
from google.cloud import aiplatform, storage

from cpr_kit.emulator.program import emulate
from cpr_kit.emulator.settings import Settings
from cpr_kit.engine.choose import choose
from cpr_kit.engine.protocol import Build
from cpr_kit.errors import UsageError

gapic = aiplatform.gapic
PROJECT = "checked-project"
DENIED = (
    *("aiplatform.endpoints.deploy", "aiplatform.endpoints.predict", "aiplatform.models.delete"),
    *("storage.objects.create", "iam.serviceAccounts.actAs", "artifactregistry.repositories.uploadArtifacts"),
)
HOST = f"{LOCATION}-aiplatform.googleapis.com"
PARENT = f"projects/{PROJECT}/locations/{LOCATION}"
ACCOUNT = f"server@{PROJECT}.iam.gserviceaccount.com"
REPOSITORY = f"https://artifactregistry.googleapis.com/v1/projects/{PROJECT}/locations/{LOCATION}/repositories"
ACCOUNTS = "https://iam.googleapis.com/v1/projects/-/serviceAccounts"
SERVICES = f"https://serviceusage.googleapis.com/v1/projects/{PROJECT}/services"


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    from contexts import write_context
    from emu_control import __file__ as here

    engine = choose("process").engine
    context = write_context(tmp_path_factory.mktemp("access") / "context")
    server = here.replace("emu_control", "serving_server")
    with open(server) as file:
        (context / "code" / "server.py").write_text(file.read())
    engine.build(Build(context=context, tag=IMAGE), lambda _: None)
    return engine


@pytest.fixture(scope="module")
def emulator(image):
    settings = Settings(
        denied_permissions=DENIED,
        missing=(f"gone@{PROJECT}.iam.gserviceaccount.com", f"{LOCATION}/gone", "storage.googleapis.com"),
        quotas=(f"custom_model_serving_cpus@{LOCATION}=4", "custom_model_serving_nvidia_t4_gpus=0"),
    )
    with emulate(engine=image, settings=settings) as running:
        yield running


@pytest.fixture
def http(emulator):
    credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    with AuthorizedSession(credentials) as session:
        yield session


@pytest.fixture(params=["grpc", "rest"])
def transport(request, emulator):
    aiplatform.init(project=PROJECT, location=LOCATION, api_transport=request.param)
    return request.param


def said(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()


# What is asked


@pytest.mark.parametrize(
    "url",
    [
        *(
            f"https://cloudresourcemanager.googleapis.com/{v}/projects/{PROJECT}:testIamPermissions"
            for v in ("v1", "v3")
        ),
        f"{ACCOUNTS}/{ACCOUNT}:testIamPermissions",
        f"{REPOSITORY}/models:testIamPermissions",
    ],
)
def test_permissions_are_granted_but_for_the_denied(http, url):
    asked = ["aiplatform.endpoints.get", *DENIED, "aiplatform.models.upload"]
    answer = said(http.post(url, json={"permissions": asked}))
    assert answer == {"permissions": ["aiplatform.endpoints.get", "aiplatform.models.upload"]}
    assert said(http.post(url, json={"permissions": list(DENIED)})) == {}
    refused = http.post(url, json={"permissions": "aiplatform.endpoints.get"})
    assert (refused.status_code, refused.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_a_buckets_permissions(emulator, http):
    bucket = storage.Client(project=PROJECT).create_bucket("checked-bucket")
    assert bucket.test_iam_permissions(["storage.objects.create", "storage.objects.get"]) == ["storage.objects.get"]


def test_a_service_account_that_is_there_and_ones_that_are_not(http):
    found = said(http.get(f"{ACCOUNTS}/{ACCOUNT}"))
    assert (found["email"], found["projectId"]) == (ACCOUNT, PROJECT)
    for email in (f"gone@{PROJECT}.iam.gserviceaccount.com", "someone@example.com"):
        for answer in (
            http.get(f"{ACCOUNTS}/{email}"),
            http.post(f"{ACCOUNTS}/{email}:testIamPermissions", json={"permissions": []}),
        ):
            assert (answer.status_code, answer.json()["error"]["status"]) == (404, "NOT_FOUND")
            assert email in answer.json()["error"]["message"]


def test_a_repository_that_is_there_and_one_that_is_not(http):
    found = said(http.get(f"{REPOSITORY}/models"))
    assert found["format"] == "DOCKER"
    assert found["registryUri"] == f"{LOCATION}-docker.pkg.dev/{PROJECT}/models"
    assert http.get(f"{REPOSITORY}/gone").status_code == 404
    assert http.post(f"{REPOSITORY}/gone:testIamPermissions", json={"permissions": []}).status_code == 404


def test_a_service_that_is_on_and_one_that_is_off(http):
    assert said(http.get(f"{SERVICES}/aiplatform.googleapis.com"))["state"] == "ENABLED"
    assert said(http.get(f"{SERVICES}/storage.googleapis.com"))["state"] == "DISABLED"


def test_quotas_as_service_usage_tells_them(http):
    url = f"{SERVICES}/aiplatform.googleapis.com/consumerQuotaMetrics".replace("/v1/", "/v1beta1/")
    metrics = {
        each["metric"]: each["consumerQuotaLimits"][0]["quotaBuckets"] for each in said(http.get(url))["metrics"]
    }
    assert metrics == {
        "aiplatform.googleapis.com/custom_model_serving_cpus": [
            {"effectiveLimit": "-1", "defaultLimit": "-1"},
            {"effectiveLimit": "4", "defaultLimit": "-1", "dimensions": {"region": LOCATION}},
        ],
        "aiplatform.googleapis.com/custom_model_serving_nvidia_t4_gpus": [{"effectiveLimit": "0", "defaultLimit": "0"}],
    }


# What is refused


@pytest.fixture(scope="module")
def model(emulator):
    aiplatform.init(project=PROJECT, location=LOCATION, api_transport="rest")
    return aiplatform.Model.upload(display_name="m", serving_container_image_uri=IMAGE)


@pytest.fixture
def endpoint(transport):
    made = aiplatform.Endpoint.create(display_name="e")
    yield made
    made.delete()


def refusal(permission, resource):
    return rf"Permission '{permission}' denied on resource '//aiplatform\.googleapis\.com/{resource}' \(or it may not"


def test_calls_without_their_permission(model, endpoint):
    with pytest.raises(exceptions.Forbidden, match=refusal("aiplatform.endpoints.deploy", endpoint.resource_name)):
        endpoint.deploy(model, machine_type=MACHINE)
    with pytest.raises(exceptions.Forbidden, match=refusal("aiplatform.endpoints.predict", endpoint.resource_name)):
        endpoint.predict(instances=[1])
    answer = endpoint.raw_predict(body=b"{}", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["status"]) == (403, "PERMISSION_DENIED")
    with pytest.raises(exceptions.Forbidden, match=refusal("aiplatform.models.delete", model.resource_name)):
        model.delete()
    assert not endpoint.list_models()
    assert aiplatform.Model.list()


def test_an_object_that_may_not_be_written(emulator):
    bucket = storage.Client(project=PROJECT).create_bucket("closed-bucket")
    with pytest.raises(exceptions.Forbidden, match="storage.objects.create access to the Google Cloud Storage object"):
        bucket.blob("a").upload_from_string(b"x")
    assert not list(bucket.list_blobs())


# Quotas and accounts: the deployment itself is allowed


@pytest.fixture
def deploying(image):
    settings = Settings(
        denied_permissions=("iam.serviceAccounts.actAs",), quotas=(f"custom_model_serving_cpus@{LOCATION}=4",)
    )
    with emulate(engine=image, settings=settings):
        aiplatform.init(project=PROJECT, location=LOCATION, api_transport="rest")
        model = aiplatform.Model.upload(display_name="m", serving_container_image_uri=IMAGE)
        yield aiplatform.Endpoint.create(display_name="e"), model


def test_more_than_the_quota_is_refused_until_there_is_room(deploying):
    endpoint, model = deploying
    words = "The following quota metrics exceed quota limits: aiplatform.googleapis.com/custom_model_serving_cpus"
    with pytest.raises(exceptions.TooManyRequests, match=words):
        endpoint.deploy(model, machine_type="n1-standard-2", max_replica_count=3)
    with pytest.raises(exceptions.TooManyRequests, match=words):
        endpoint.deploy(model, machine_type="e2-standard-8")
    endpoint.deploy(model, machine_type="n1-standard-4")
    with pytest.raises(exceptions.TooManyRequests, match=words):
        endpoint.deploy(model, machine_type="n1-standard-2")
    endpoint.undeploy_all()
    endpoint.deploy(model, machine_type="n1-standard-2")
    aiplatform.init(project=PROJECT, location="europe-west4", api_transport="rest")
    elsewhere = aiplatform.Model.upload(display_name="m", serving_container_image_uri=IMAGE)
    elsewhere.deploy(machine_type="n1-standard-32")


def test_an_account_that_the_caller_may_not_act_as(deploying):
    endpoint, model = deploying
    with pytest.raises(exceptions.Forbidden, match=f"permission to act as service_account: {ACCOUNT}"):
        endpoint.deploy(model, machine_type="n1-standard-2", service_account=ACCOUNT)


@pytest.mark.parametrize("text", ["custom_model_serving_cpus", "cpus=4", "custom_model_serving_cpus=-1", "a@B=1"])
def test_a_quota_that_is_none(text):
    with pytest.raises(UsageError, match="is not of the form custom_model_serving_cpus=8"):
        Settings(quotas=(text,))


def test_the_command_takes_several_names():
    url = f"https://cloudresourcemanager.googleapis.com/v1/projects/{PROJECT}:testIamPermissions"
    asks = (
        "import requests; "
        f"print(requests.post({url!r}, json={{'permissions': ['a.b.c', 'd.e.f', 'g.h.i']}}).json()['permissions'])"
    )
    command = [sys.executable, "-m", "cpr_kit", "emulate", "--engine", "process"]
    settings = ["--set", "denied_permissions=a.b.c, g.h.i,", "--set", "missing="]
    done = subprocess.run(
        [*command, *settings, "--", sys.executable, "-c", asks], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "['d.e.f']\n", done.stderr
