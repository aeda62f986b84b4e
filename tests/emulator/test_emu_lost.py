"""Answers that are lost after their call took effect, faults in one location alone, and credentials that expire."""

import google.auth
import pytest
import requests
from emu_control import (  # noqa: F401 - fixtures
    IMAGE,
    LOCATION,
    MACHINE,
    client,
    emulator,
    endpoints,
    models,
    number,
    numbered,
    parent,
    project,
    refused,
    transport,
    upload,
)
from google.api_core import exceptions
from google.api_core.retry import Retry, if_transient_error
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import AuthorizedSession
from google.cloud import aiplatform, storage

gapic = aiplatform.gapic
ELSEWHERE = "europe-west4"
CUT = (exceptions.ServiceUnavailable, requests.exceptions.ConnectionError)
"""What a client meets when the connection ends before the answer: over gRPC, and over REST."""


@pytest.fixture
def fault(emulator):
    admin = f"{emulator.url}/emulator/faults"

    def add(text):
        answer = requests.post(admin, json=text, timeout=30)
        assert answer.status_code == 201, answer.text

    yield add
    requests.delete(admin, timeout=30)


def create(endpoints, parent, name, **options):
    endpoint = gapic.Endpoint(display_name=name)
    request = gapic.CreateEndpointRequest(parent=parent, endpoint=endpoint, endpoint_id=name)
    return endpoints.create_endpoint(request, **options)


# Lost answers


def test_a_call_whose_answer_is_lost_has_taken_effect(endpoints, parent, numbered, fault, transport):
    fault("CreateEndpoint:lost:count=1")
    with pytest.raises(CUT):
        create(endpoints, parent, "lost")
    with refused(transport, "ALREADY_EXISTS"):
        create(endpoints, parent, "lost")
    assert [each.name for each in endpoints.list_endpoints(parent=parent)] == [f"{numbered}/endpoints/lost"]


def test_a_lost_answer_may_be_a_status(endpoints, parent, fault, transport):
    fault("CreateEndpoint:lost:status=504:message='Deadline exceeded':count=1")
    with refused(transport, "DEADLINE_EXCEEDED", "Deadline exceeded"):
        create(endpoints, parent, "late")
    with refused(transport, "ALREADY_EXISTS"):
        create(endpoints, parent, "late")


def test_a_client_that_tries_again_meets_its_own_first_call(endpoints, parent, fault, transport):
    fault("CreateEndpoint:lost:count=1")
    retry = Retry(predicate=if_transient_error, initial=0.01, maximum=0.02, timeout=30)
    with refused(transport, "ALREADY_EXISTS"):
        create(endpoints, parent, "again", retry=retry)


def test_each_call_of_a_deployment_may_lose_its_answer(endpoints, models, parent, fault, transport):
    fault("UploadModel:lost:count=1")
    container = gapic.ModelContainerSpec(image_uri=IMAGE)
    model = gapic.Model(display_name="m", container_spec=container)
    request = gapic.UploadModelRequest(parent=parent, model=model, model_id="m")
    with pytest.raises(CUT):
        models.upload_model(request)
    with refused(transport, "ALREADY_EXISTS"):
        models.upload_model(request)
    while not (found := list(models.list_models(parent=parent))):
        pass
    endpoint = create(endpoints, parent, "e").result().name
    resources = gapic.DedicatedResources(machine_spec={"machine_type": MACHINE}, min_replica_count=1)
    wanted = gapic.DeployedModel(id="1", model=found[0].name, dedicated_resources=resources)
    fault("DeployModel:lost:count=1")
    with pytest.raises(CUT):
        endpoints.deploy_model(endpoint=endpoint, deployed_model=wanted, traffic_split={"0": 100})
    with refused(transport, "ALREADY_EXISTS"):
        endpoints.deploy_model(endpoint=endpoint, deployed_model=wanted, traffic_split={"0": 100})
    while not endpoints.get_endpoint(name=endpoint).deployed_models:
        pass
    fault("UpdateEndpoint:lost:count=1")
    with pytest.raises(CUT):
        endpoints.update_endpoint(endpoint=gapic.Endpoint(name=endpoint, labels={"a": "b"}))
    assert endpoints.get_endpoint(name=endpoint).labels == {"a": "b"}
    fault("UndeployModel:lost:count=1")
    with pytest.raises(CUT):
        endpoints.undeploy_model(endpoint=endpoint, deployed_model_id="1")
    while endpoints.get_endpoint(name=endpoint).deployed_models:
        pass


def test_predictions_whose_answers_are_lost(fault, transport):
    endpoint = aiplatform.Endpoint.create(display_name="e")
    upload().deploy(endpoint=endpoint, machine_type=MACHINE)
    fault("PredictionService:lost:count=3")
    with pytest.raises(CUT):
        endpoint.predict(instances=[1])
    for ask in (endpoint.raw_predict, lambda **more: list(endpoint.stream_raw_predict(**more))):
        with pytest.raises(requests.exceptions.ConnectionError):
            ask(body=b'{"instances": [1]}', headers={"Content-Type": "application/json"})
    assert endpoint.predict(instances=[1]).predictions


def test_an_object_whose_answer_is_lost_is_there(emulator, fault, project):
    bucket = storage.Client(project=project).create_bucket(f"{project}-lost")
    fault("storage.objects.insert:lost:count=1")
    blob = bucket.blob("a")
    with pytest.raises(requests.exceptions.ConnectionError):
        blob.upload_from_string(b"content", retry=None)
    assert blob.download_as_bytes() == b"content"


def test_a_lost_answer_is_on_the_console(endpoints, parent, emulator, fault):
    fault("GetEndpoint:lost:count=1")
    name = create(endpoints, parent, "seen").result().name
    with pytest.raises(CUT):
        endpoints.get_endpoint(name=name)
    found = requests.get(f"{emulator.url}/emulator/faults", timeout=30).json()["faults"]
    assert [(each["fault"], each["struck"]) for each in found] == [("GetEndpoint:lost:count=1", 1)]


# One location


def test_a_fault_in_one_location_leaves_the_others_alone(endpoints, parent, project, fault, transport):
    fault(f"CreateEndpoint:location={ELSEWHERE}:status=UNAVAILABLE")
    there = f"projects/{project}/locations/{ELSEWHERE}"
    create(endpoints, parent, "here").result()
    with refused(transport, "UNAVAILABLE"):
        create(endpoints, there, "there")
    assert not list(endpoints.list_endpoints(parent=there))


def test_an_operation_fails_in_one_location_alone(endpoints, parent, project, fault):
    fault(f"CreateEndpoint:location={ELSEWHERE}:fail='no room'")
    create(endpoints, parent, "here").result()
    with pytest.raises(exceptions.GoogleAPICallError, match="no room"):
        create(endpoints, f"projects/{project}/locations/{ELSEWHERE}", "there").result()


@pytest.mark.parametrize(
    "text",
    [
        "Model server exited unexpectedly. Model server terminated: model server container terminated: exit_code: 1.",
        "Model server exited unexpectedly. model server container out of memory",
        "model server never became ready. Please validate that your model file or container configuration are valid.",
    ],
)
def test_a_deployment_fails_in_the_services_words(endpoints, parent, fault, text):
    model, endpoint = upload(), create(endpoints, parent, "e").result().name
    resources = gapic.DedicatedResources(machine_spec={"machine_type": MACHINE}, min_replica_count=1)
    wanted = gapic.DeployedModel(model=model.resource_name, dedicated_resources=resources)
    fault({"call": "DeployModel", "fail": text, "count": 1, "location": LOCATION})
    with pytest.raises(exceptions.FailedPrecondition) as caught:
        endpoints.deploy_model(endpoint=endpoint, deployed_model=wanted).result()
    assert text in caught.value.message
    assert not endpoints.get_endpoint(name=endpoint).deployed_models


# Credentials


def test_credentials_that_the_service_no_longer_takes(endpoints, parent, fault, transport):
    fault("*:status=UNAUTHENTICATED:after=1:count=2")
    create(endpoints, parent, "before")
    if transport == "rest":  # which asks for a new token, and again with it
        assert list(endpoints.list_endpoints(parent=parent))
    else:
        for _ in range(2):
            with refused(transport, "UNAUTHENTICATED"):
                endpoints.list_endpoints(parent=parent)
    assert endpoints.list_endpoints(parent=parent)


@pytest.mark.parametrize(("text", "said"), [("token:status=400", "invalid_grant"), ("token:status=401", "expired")])
def test_credentials_that_cannot_be_renewed(emulator, project, fault, text, said):
    fault(f"{text}:message='Token has been expired or revoked.'")
    credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    with pytest.raises(RefreshError, match=said):
        credentials.refresh(google.auth.transport.requests.Request())
    requests.delete(f"{emulator.url}/emulator/faults", timeout=30)
    with AuthorizedSession(credentials) as session:
        parent = f"projects/{project}/locations/{LOCATION}"
        url = f"https://{LOCATION}-aiplatform.googleapis.com/v1/{parent}/endpoints"
        assert session.get(url).status_code == 200


def test_a_token_that_takes_three_tries(emulator, fault):
    fault("token:status=503:count=2")
    credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    credentials.refresh(google.auth.transport.requests.Request())
    assert credentials.token
