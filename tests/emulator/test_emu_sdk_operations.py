"""Long-running operations as google-cloud-aiplatform itself sees them, over gRPC and REST."""

import pytest
from emu_control import (  # noqa: F401 - fixtures
    MACHINE,
    client,
    emulator,
    endpoints,
    failed,
    models,
    number,
    numbered,
    parent,
    project,
    refused,
    transport,
    upload,
)
from google.cloud import aiplatform
from google.longrunning import operations_pb2

gapic = aiplatform.gapic


def waited(client, name, **timeout):
    """Over gRPC the SDK's client leaves this answer unread."""
    found = client.wait_operation({"name": name, **timeout})
    return operations_pb2.Operation.FromString(found) if isinstance(found, bytes) else found


@pytest.fixture
def hanging(endpoints, parent):
    """A deployment whose container never listens where it should; at an endpoint of its own."""
    model = upload("hanging", serving_container_environment_variables={"MODE": "own port"})
    endpoint = endpoints.create_endpoint(parent=parent, endpoint=gapic.Endpoint(display_name="e")).result().name
    machine = gapic.DedicatedResources(machine_spec={"machine_type": MACHINE}, min_replica_count=1)
    operation = endpoints.deploy_model(
        endpoint=endpoint,
        deployed_model=gapic.DeployedModel(model=model.resource_name, dedicated_resources=machine),
        traffic_split={"0": 100},
    )
    yield operation
    endpoints.cancel_operation({"name": operation.operation.name})  # operation.cancel() fails over REST in the SDK
    with failed("CANCELLED"):
        operation.result()
    aiplatform.Endpoint(endpoint).delete()
    model.delete()


def test_an_operation_ends_with_its_own_messages(models, parent, numbered):
    model = gapic.Model(display_name="bare")
    operation = models.upload_model(gapic.UploadModelRequest(parent=parent, model=model, model_id="iris"))
    name = operation.operation.name
    assert name.startswith(f"{numbered}/models/iris/operations/")
    assert name.rpartition("/")[2].isdigit()
    assert operation.result() == gapic.UploadModelResponse(model=f"{numbered}/models/iris", model_version_id="1")
    assert operation.metadata.generic_metadata.create_time
    assert operation.metadata.generic_metadata.update_time >= operation.metadata.generic_metadata.create_time
    found = models.get_operation({"name": name})
    assert found.done
    assert found.response.type_url == "type.googleapis.com/google.cloud.aiplatform.v1.UploadModelResponse"
    assert found.metadata.type_url == "type.googleapis.com/google.cloud.aiplatform.v1.UploadModelOperationMetadata"
    assert models.get_operation({"name": name.replace(numbered, parent)}) == found
    deletion = models.delete_model(name=f"{parent}/models/iris")
    assert deletion.result() is not None
    assert isinstance(deletion.metadata, gapic.DeleteOperationMetadata)
    assert models.get_operation({"name": deletion.operation.name}).response.type_url.endswith("google.protobuf.Empty")


def test_operations_are_listed_by_what_they_are_of(models, endpoints, parent, numbered, transport):
    for name in ("a", "b"):
        models.upload_model(
            gapic.UploadModelRequest(parent=parent, model=gapic.Model(display_name=name), model_id=name)
        ).result()
    endpoints.create_endpoint(parent=parent, endpoint=gapic.Endpoint(display_name="e")).result()

    def resources(name, **request):
        listed = models.list_operations({"name": name, **request})
        return [each.name.removeprefix(numbered).split("/operations/")[0] for each in listed.operations]

    assert resources(f"{parent}/models/a") == ["/models/a"]
    assert sorted(resources(f"{numbered}/models/b")) == ["/models/b"]
    assert len(resources(parent)) == 3
    assert resources(parent, filter="done=false") == []
    assert resources(f"{parent}/models/none") == []
    first = models.list_operations({"name": parent, "page_size": 2})
    rest = models.list_operations({"name": parent, "page_size": 2, "page_token": first.next_page_token})
    assert (len(first.operations), len(rest.operations), rest.next_page_token) == (2, 1, "")
    with refused(transport, "INVALID_ARGUMENT", "filter"):
        models.list_operations({"name": parent, "filter": "colour=red"})


def test_one_that_runs_is_waited_for_cancelled_and_deleted(endpoints, hanging, transport):
    name = hanging.operation.name
    assert not waited(endpoints, name, timeout={"seconds": 0}).done
    assert [each.name for each in endpoints.list_operations({"name": name.split("/operations/")[0]}).operations][-1:]
    with refused(transport, "FAILED_PRECONDITION", "has not ended"):
        endpoints.delete_operation({"name": name})
    endpoints.cancel_operation({"name": name})
    found = waited(endpoints, name)
    assert (found.done, found.error.code) == (True, 1)
    assert "cancelled" in found.error.message
    endpoint = endpoints.get_endpoint(name=name.split("/operations/")[0])
    assert not endpoint.deployed_models
    assert not endpoint.traffic_split
    endpoints.cancel_operation({"name": name})  # of one that has ended, nothing


def test_a_deleted_operation_is_not_found(models, parent, transport):
    operation = models.upload_model(parent=parent, model=gapic.Model(display_name="iris"))
    operation.result()
    name = operation.operation.name
    models.delete_operation({"name": name})
    calls = (models.get_operation, models.wait_operation, models.cancel_operation, models.delete_operation)
    for call in calls:
        with refused(transport, "NOT_FOUND", name):
            call({"name": name})


def test_an_endpoint_with_a_deployment_going_on_is_busy(endpoints, models, hanging, transport):
    name = hanging.operation.name.split("/operations/")[0]
    with refused(transport, "FAILED_PRECONDITION", "being-deployed"):
        endpoints.delete_endpoint(name=name)
    [model] = models.list_models(parent=name.split("/endpoints/")[0])
    with refused(transport, "FAILED_PRECONDITION", "being deployed"):
        models.delete_model(name=model.name)


def test_services_that_are_not_served_say_so(client, parent, transport):
    with refused(transport, "UNIMPLEMENTED" if transport == "grpc" else "NOT_FOUND", "emulator"):
        list(client(gapic.DatasetServiceClient).list_datasets(parent=parent))
    with refused(transport, "UNIMPLEMENTED", "JobService.ListCustomJobs"):
        list(client(gapic.JobServiceClient).list_custom_jobs(parent=parent))


def test_locations(models, project, number, transport):
    found = models.get_location({"name": f"projects/{project}/locations/us-central1"})
    assert (found.name, found.location_id) == (f"projects/{number}/locations/us-central1", "us-central1")
