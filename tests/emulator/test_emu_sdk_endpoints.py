"""Endpoints and what is deployed at them as google-cloud-aiplatform itself sees it, over gRPC and REST."""

import threading

import pytest
from emu_control import (  # noqa: F401 - fixtures
    LOCATION,
    MACHINE,
    client,
    emulator,
    endpoints,
    failed,
    number,
    numbered,
    parent,
    project,
    refused,
    transport,
    upload,
)
from google.api_core import exceptions
from google.cloud import aiplatform
from google.cloud import aiplatform_v1beta1 as beta
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

gapic = aiplatform.gapic
Endpoint, PrivateEndpoint = aiplatform.Endpoint, aiplatform.PrivateEndpoint


@pytest.fixture
def model(transport):
    return upload(model_id="iris")


def create(endpoints, parent, endpoint_id="", **fields):
    endpoint = gapic.Endpoint(**{"display_name": "e", **fields})
    request = gapic.CreateEndpointRequest(parent=parent, endpoint=endpoint, endpoint_id=endpoint_id)
    return endpoints.create_endpoint(request)


def resources(least=1, most=0, machine=MACHINE, **fields):
    return gapic.DedicatedResources(
        machine_spec={"machine_type": machine}, min_replica_count=least, max_replica_count=most, **fields
    )


def deployed(model, **fields):
    name = model if isinstance(model, str) else model.resource_name
    return gapic.DeployedModel(**{"model": name, "dedicated_resources": resources(), **fields})


# Create and get


def test_an_endpoint_comes_back_as_it_was_made(numbered, transport):
    made = Endpoint.create(
        display_name="iris-endpoint",
        endpoint_id="iris-1",
        description="flowers",
        labels={"team": "botany"},
        encryption_spec_key_name="projects/p/locations/us-central1/keyRings/r/cryptoKeys/k",
        enable_request_response_logging=True,
        request_response_logging_sampling_rate=0.5,
        request_response_logging_bq_destination_table="bq://p.d.t",
    )
    found = Endpoint("iris-1")
    assert made.resource_name == found.resource_name == f"{numbered}/endpoints/iris-1"
    assert (found.display_name, found.gca_resource.description, found.labels) == (
        "iris-endpoint",
        "flowers",
        {"team": "botany"},
    )
    assert found.encryption_spec.kms_key_name.endswith("/k")
    logging = found.gca_resource.predict_request_response_logging_config
    assert (logging.enabled, logging.sampling_rate, logging.bigquery_destination.output_uri) == (
        True,
        0.5,
        "bq://p.d.t",
    )
    assert (found.traffic_split, found.list_models(), found.network) == ({}, [], "")
    assert found.create_time
    assert found.gca_resource.etag
    assert (found.dedicated_endpoint_enabled, found.dedicated_endpoint_dns) == (False, "")


def test_the_four_kinds(number, transport):
    shared = Endpoint.create(display_name="shared")
    dedicated = Endpoint.create(display_name="dedicated", dedicated_endpoint_enabled=True, inference_timeout=3600)
    peered = PrivateEndpoint.create(display_name="psa", network=f"projects/{number}/global/networks/default")
    connected = PrivateEndpoint.create(
        display_name="psc",
        private_service_connect_config=PrivateEndpoint.PrivateServiceConnectConfig(project_allowlist=["p1", "p2"]),
        inference_timeout=120,
    )
    dns = f"{dedicated.name}.{LOCATION}-{number}.prediction.vertexai.goog"
    assert dedicated.gca_resource.dedicated_endpoint_dns == dns
    assert not shared.gca_resource.dedicated_endpoint_dns
    timeouts = [each.gca_resource.client_connection_config.inference_timeout for each in (dedicated, connected)]
    assert [timeout.total_seconds() for timeout in timeouts] == [3600, 120]
    assert peered.network == f"projects/{number}/global/networks/default"
    assert connected.private_service_connect_config.project_allowlist == ["p1", "p2"]
    assert {each.name for each in Endpoint.list()} == {shared.name, dedicated.name}
    assert {each.name for each in PrivateEndpoint.list()} == {peered.name, connected.name}


@pytest.mark.parametrize("endpoint_id", ["a", "a" * 63, "iris-1", "1", "123456789"])
def test_ids_that_an_endpoint_may_have(endpoints, parent, numbered, endpoint_id):
    assert create(endpoints, parent, endpoint_id).result().name == f"{numbered}/endpoints/{endpoint_id}"


@pytest.mark.parametrize("endpoint_id", ["A", "a" * 64, "a-", "a_b", "0", "012", "1234567890", "1a"])
def test_ids_that_no_endpoint_may_have(endpoints, parent, transport, endpoint_id):
    with refused(transport, "INVALID_ARGUMENT", f'endpoint_id "{endpoint_id}"'):
        create(endpoints, parent, endpoint_id)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"display_name": ""}, "display_name"),
        ({"display_name": "x" * 129}, "128"),
        ({"labels": {"A": "b"}}, "label"),
        ({"traffic_split": {"1": 100}}, "traffic_split"),
        ({"network": "default"}, "global/networks"),
        ({"network": "projects/my-project/global/networks/default"}, "PROJECT_NUMBER"),
        ({"network": "projects/1/global/networks/n", "private_service_connect_config": {}}, "mutually exclusive"),
        ({"network": "projects/1/global/networks/n", "enable_private_service_connect": True}, "mutually exclusive"),
        ({"network": "projects/1/global/networks/n", "dedicated_endpoint_enabled": True}, "private"),
        ({"client_connection_config": {"inference_timeout": Duration(seconds=90)}}, "60 s"),
        (
            {
                "dedicated_endpoint_enabled": True,
                "client_connection_config": {"inference_timeout": Duration(seconds=3601)},
            },
            "3600 s",
        ),
    ],
)
def test_what_no_endpoint_may_have(endpoints, parent, transport, fields, words):
    with refused(transport, "INVALID_ARGUMENT", words):
        create(endpoints, parent, **fields)


def test_what_only_the_service_says_is_not_taken(endpoints, parent):
    made = create(endpoints, parent, dedicated_endpoint_dns="mine", name="mine").result()
    assert made.dedicated_endpoint_dns == ""
    assert made.name != "mine"


def test_psc_endpoints_have_no_more_than_ten_different_allowlists(endpoints, parent, transport):
    def psc(*projects):
        config = {"enable_private_service_connect": True, "project_allowlist": projects}
        return create(endpoints, parent, private_service_connect_config=config)

    for index in range(10):
        psc(f"p{index}", "shared").result()
    psc("shared", "p3").result()
    with refused(transport, "RESOURCE_EXHAUSTED", "project_allowlist"):
        psc("p10", "shared")


def test_of_many_endpoints_with_one_id_one_is_made(endpoints, parent):
    gate, results = threading.Barrier(8), []

    def make():
        gate.wait()
        try:
            results.append(create(endpoints, parent, "one").result().name)
        except exceptions.Conflict as error:
            results.append(error)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(result, exceptions.Conflict) for result in results) == 7
    assert len(list(endpoints.list_endpoints(parent=parent))) == 1


def test_names_that_are_none(endpoints, numbered, transport):
    with refused(transport, "NOT_FOUND", f"{numbered}/endpoints/none does not exist"):
        endpoints.get_endpoint(name=f"{numbered}/endpoints/none")
    with refused(transport, "NOT_FOUND", "endpoints/7"):
        assert Endpoint("7").display_name
    with refused(transport, "INVALID_ARGUMENT", "Mars"):
        endpoints.get_endpoint(name="projects/p/locations/Mars/endpoints/1")
    with refused(transport, "INVALID_ARGUMENT", "project id"):
        endpoints.get_endpoint(name="projects/A_b/locations/us-central1/endpoints/1")


# List


def test_lists_are_filtered_and_ordered(endpoints, parent, numbered, transport):
    for name, labels in (("b", {"k": "1"}), ("a", {"k": "2"}), ("c", {})):
        Endpoint.create(display_name=name, endpoint_id=name, labels=labels)
    Endpoint.create(display_name="d", endpoint_id="d", location="europe-west4")

    def names(**options):
        return [endpoint.name for endpoint in Endpoint.list(**options)]

    assert names(order_by="display_name") == ["a", "b", "c"]
    assert names(order_by="create_time desc") == ["c", "a", "b"]
    assert names(order_by="update_time") == ["b", "a", "c"]
    assert names(filter="endpoint=b") == ["b"]
    assert names(filter='display_name="a" OR displayName="c"', order_by="display_name") == ["a", "c"]
    assert names(filter="labels.k:* AND labels.k!=1") == ["a"]
    assert names(location="europe-west4") == ["d"]
    request = {"parent": parent, "page_size": 2, "order_by": "display_name desc", "read_mask": {"paths": ["name"]}}
    pages = list(endpoints.list_endpoints(request).pages)
    assert [[each.name for each in page.endpoints] for page in pages] == [
        [f"{numbered}/endpoints/c", f"{numbered}/endpoints/b"],
        [f"{numbered}/endpoints/a"],
    ]
    assert not any(each.display_name for page in pages for each in page.endpoints)
    with refused(transport, "INVALID_ARGUMENT", "network"):
        names(filter="network=a")
    with refused(transport, "INVALID_ARGUMENT", "page_size"):
        list(endpoints.list_endpoints({"parent": parent, "page_size": -1}))


# Update


def test_an_update_changes_what_it_names(transport):
    made = Endpoint.create(display_name="before", description="old", labels={"a": "1", "b": "2"})
    made.update(display_name="after", labels={"c": "3"})
    found = Endpoint(made.resource_name)
    assert (found.display_name, found.gca_resource.description, found.labels) == ("after", "old", {"c": "3"})
    assert found.update_time > found.create_time
    assert found.gca_resource.etag != made._gca_resource.etag or found.gca_resource == made.gca_resource


def test_what_an_update_refuses(endpoints, parent, transport):
    name = create(endpoints, parent, dedicated_endpoint_enabled=True).result().name

    def update(*paths, **fields):
        mask = FieldMask(paths=paths)
        return endpoints.update_endpoint(endpoint=gapic.Endpoint(name=name, **fields), update_mask=mask)

    assert update("labels.some_key", labels={"some_key": "1", "other": "2"}).labels == {"some_key": "1"}
    for path in ("network", "dedicated_endpoint_enabled", "client_connection_config", "encryption_spec", "nothing"):
        with refused(transport, "INVALID_ARGUMENT", path):
            update(path)
    with refused(transport, "INVALID_ARGUMENT", "display_name"):
        update("display_name")
    with refused(transport, "INVALID_ARGUMENT", "traffic_split"):
        update("traffic_split", traffic_split={"5": 100})
    with refused(transport, "NOT_FOUND"):
        endpoints.update_endpoint(endpoint={"name": f"{parent}/endpoints/none"}, update_mask={"paths": ["labels"]})


def test_the_long_running_update_is_for_the_inference_timeout(endpoints, parent, transport):
    made = create(endpoints, parent, dedicated_endpoint_enabled=True, labels={"a": "1"}).result()

    def update(**fields):
        return endpoints.update_endpoint_long_running(endpoint=gapic.Endpoint(name=made.name, **fields))

    config = {"inference_timeout": Duration(seconds=1800)}
    operation = update(client_connection_config=config, labels={"a": "1"})
    assert operation.result().client_connection_config.inference_timeout.total_seconds() == 1800
    assert isinstance(operation.metadata, gapic.UpdateEndpointOperationMetadata)
    with refused(transport, "INVALID_ARGUMENT", "3600"):
        update(client_connection_config={"inference_timeout": Duration(seconds=3601)})
    with refused(transport, "INVALID_ARGUMENT", "display_name, labels"):
        update(client_connection_config=config, display_name="other", labels={"a": "2"})
    shared = create(endpoints, parent).result()
    with refused(transport, "INVALID_ARGUMENT", "60 s"):
        endpoints.update_endpoint_long_running(
            endpoint=gapic.Endpoint(name=shared.name, client_connection_config=config)
        )


# Deploy


def test_a_model_from_deploy_to_delete(model, number, transport):
    endpoint = model.deploy(
        machine_type=MACHINE, min_replica_count=1, max_replica_count=3, deployed_model_display_name="d"
    )
    assert endpoint.display_name == "iris_endpoint"
    [one] = endpoint.list_models()
    assert (one.display_name, one.model, one.model_version_id) == ("d", model.resource_name, "1")
    assert (one.dedicated_resources.min_replica_count, one.dedicated_resources.max_replica_count) == (1, 3)
    assert (one.status.available_replica_count, one.dedicated_resources.machine_spec.machine_type) == (1, MACHINE)
    assert one.create_time
    assert endpoint.traffic_split == {one.id: 100}
    [seen] = endpoint.predict(instances=[{"do": "tell"}]).predictions
    environment = seen["env"]
    assert environment["AIP_PROJECT_NUMBER"] == number
    assert environment["AIP_ENDPOINT_ID"] == endpoint.name
    assert environment["AIP_DEPLOYED_MODEL_ID"] == one.id
    assert environment["AIP_MACHINE_TYPE"] == MACHINE
    # Google's C++ client, in Triton, knows the emulator's storage by these two.
    assert environment["CLOUD_STORAGE_EMULATOR_ENDPOINT"] == environment["STORAGE_EMULATOR_HOST"]
    assert environment["GOOGLE_CLOUD_CPP_STORAGE_REST_CONFIG"] == "disable-xml"
    with refused(transport, "FAILED_PRECONDITION", "DeployedModel"):
        endpoint.delete()
    endpoint.undeploy(one.id)
    assert (endpoint.list_models(), endpoint.traffic_split) == ([], {})
    endpoint.delete()
    with refused(transport, "NOT_FOUND"):
        assert Endpoint(endpoint.resource_name).display_name


def test_traffic_among_several_models(model, endpoints, transport):
    second = upload(parent_model="iris", version_aliases=["golden"])
    endpoint = Endpoint.create(display_name="e")
    model.deploy(endpoint, machine_type=MACHINE)
    [first_id] = endpoint.traffic_split
    endpoint.deploy(second, machine_type=MACHINE, traffic_percentage=30)
    [second_id] = endpoint.traffic_split.keys() - {first_id}
    assert endpoint.traffic_split == {first_id: 70, second_id: 30}
    assert {each.model_version_id for each in endpoint.list_models()} == {"1", "2"}
    endpoint.update(traffic_split={second_id: 100})
    assert endpoint.traffic_split == {second_id: 100}
    assert endpoint.predict(instances=[1]).model_version_id == "2"
    for split in ({second_id: 99}, {second_id: 101}, {second_id: 150, first_id: -50}, {"1": 100}):
        with refused(transport, "INVALID_ARGUMENT", "traffic_split"):
            endpoint.update(traffic_split=split)
    name = endpoint.resource_name
    with refused(transport, "FAILED_PRECONDITION", "100% of the traffic"):
        endpoints.undeploy_model(endpoint=name, deployed_model_id=second_id)
    with refused(transport, "INVALID_ARGUMENT", "traffic_split"):
        endpoints.undeploy_model(endpoint=name, deployed_model_id=second_id, traffic_split={first_id: 50})
    assert Endpoint(name).traffic_split == {second_id: 100}
    endpoints.undeploy_model(endpoint=name, deployed_model_id=second_id, traffic_split={first_id: 100}).result()
    assert Endpoint(name).traffic_split == {first_id: 100}
    Endpoint(name).undeploy_all()
    assert (Endpoint(name).traffic_split, Endpoint(name).list_models()) == ({}, [])
    with refused(transport, "NOT_FOUND", second_id):
        endpoints.undeploy_model(endpoint=name, deployed_model_id=second_id)
    endpoint.delete()


def test_a_model_may_be_deployed_with_no_traffic_and_an_id(model, endpoints, parent):
    name = create(endpoints, parent).result().name
    operation = endpoints.deploy_model(endpoint=name, deployed_model=deployed(model, id="42"))
    answer = operation.result().deployed_model
    assert (answer.id, answer.display_name) == ("42", "iris")
    assert isinstance(operation.metadata, gapic.DeployModelOperationMetadata)
    found = endpoints.get_endpoint(name=name)
    assert (dict(found.traffic_split), [each.id for each in found.deployed_models]) == ({}, ["42"])
    endpoints.deploy_model(
        endpoint=name, deployed_model=deployed(model, id="7"), traffic_split={"0": 40, "42": 60}
    ).result()
    assert dict(endpoints.get_endpoint(name=name).traffic_split) == {"42": 60, "7": 40}
    Endpoint(name).delete(force=True)


@pytest.mark.parametrize(
    ("fields", "split", "code", "words"),
    [
        ({"dedicated_resources": None}, {}, "INVALID_ARGUMENT", "dedicated_resources"),
        ({"dedicated_resources": None, "automatic_resources": {}}, {}, "INVALID_ARGUMENT", "automatic_resources"),
        ({"dedicated_resources": None, "shared_resources": "p"}, {}, "FAILED_PRECONDITION", "shared_resources"),
        ({"dedicated_resources": resources(0)}, {}, "INVALID_ARGUMENT", "min_replica_count"),
        ({"dedicated_resources": resources(3, 2)}, {}, "INVALID_ARGUMENT", "max_replica_count"),
        ({"dedicated_resources": resources(1, 101)}, {}, "INVALID_ARGUMENT", "100"),
        ({"dedicated_resources": resources(1, required_replica_count=2)}, {}, "INVALID_ARGUMENT", "required"),
        ({"dedicated_resources": resources(machine="laptop")}, {}, "INVALID_ARGUMENT", "laptop"),
        ({"dedicated_resources": resources(machine="")}, {}, "INVALID_ARGUMENT", "machine_type"),
        ({"id": "12345678901"}, {}, "INVALID_ARGUMENT", "deployed_model.id"),
        ({"id": "a"}, {}, "INVALID_ARGUMENT", "deployed_model.id"),
        ({}, {"0": 50}, "INVALID_ARGUMENT", "100"),
        ({}, {"0": 50, "9": 50}, "INVALID_ARGUMENT", "not deployed"),
    ],
)
def test_what_is_not_deployed(model, endpoints, parent, transport, fields, split, code, words):
    name = create(endpoints, parent).result().name
    given = {key: value for key, value in fields.items() if value is not None}
    one = gapic.DeployedModel(**{"model": model.resource_name, **given})
    if "dedicated_resources" not in fields:
        one.dedicated_resources = resources()
    with refused(transport, code, words):
        endpoints.deploy_model(endpoint=name, deployed_model=one, traffic_split=split)
    assert not endpoints.get_endpoint(name=name).deployed_models


def test_what_is_deployed_must_be_there(model, endpoints, parent, project, transport):
    name = create(endpoints, parent).result().name
    with refused(transport, "NOT_FOUND", "endpoints/none"):
        endpoints.deploy_model(endpoint=f"{parent}/endpoints/none", deployed_model=deployed(model))
    with refused(transport, "NOT_FOUND", "models/none"):
        endpoints.deploy_model(endpoint=name, deployed_model=deployed(f"{parent}/models/none"))
    elsewhere = f"projects/{project}/locations/europe-west4"
    other = create(endpoints, elsewhere).result().name
    with refused(transport, "INVALID_ARGUMENT", "same project and location"):
        endpoints.deploy_model(endpoint=other, deployed_model=deployed(model))


def test_kinds_that_take_not_every_model(endpoints, parent, number, transport):
    prefix = {"serving_container_invoke_route_prefix": "/*"}
    anything = upload(model_id="any", **prefix)
    shared = create(endpoints, parent).result().name
    with refused(transport, "FAILED_PRECONDITION", "dedicated endpoints only"):
        endpoints.deploy_model(endpoint=shared, deployed_model=deployed(anything))
    plain = upload(model_id="plain")
    peered = PrivateEndpoint.create(display_name="psa", network=f"projects/{number}/global/networks/default")
    plain.deploy(peered, machine_type=MACHINE)
    [one] = peered.list_models()
    assert one.private_endpoints.predict_http_uri.endswith(f"/v1/models/{one.id}:predict")
    assert len(peered.predict(instances=[{"do": "tell"}]).predictions) == 1
    assert peered.health_check()
    with refused(transport, "FAILED_PRECONDITION", "only one model"):
        endpoints.deploy_model(endpoint=peered.resource_name, deployed_model=deployed(plain))
    peered.delete(force=True)


def test_a_psc_endpoint_has_a_service_attachment(model, endpoints, parent, numbered):
    config = {"enable_private_service_connect": True, "service_attachment": "mine"}
    made = create(endpoints, parent, private_service_connect_config=config).result()
    assert not made.private_service_connect_config.service_attachment
    endpoints.deploy_model(endpoint=made.name, deployed_model=deployed(model)).result()
    found = endpoints.get_endpoint(name=made.name)
    attachment = found.deployed_models[0].private_endpoints.service_attachment
    assert attachment.startswith(f"{numbered.replace('locations', 'regions')}/serviceAttachments/")
    assert found.private_service_connect_config.service_attachment == attachment
    PrivateEndpoint(made.name).delete(force=True)


def test_a_deployed_model_is_mutated_within_bounds(model, endpoints, parent, transport):
    name = create(endpoints, parent).result().name
    one = endpoints.deploy_model(endpoint=name, deployed_model=deployed(model)).result().deployed_model

    def mutate(*paths, **fields):
        changed = gapic.DeployedModel(id=one.id, **fields)
        return endpoints.mutate_deployed_model(
            endpoint=name, deployed_model=changed, update_mask=FieldMask(paths=paths)
        )

    counts = ("dedicated_resources.min_replica_count", "dedicated_resources.max_replica_count")
    answer = mutate(*counts, dedicated_resources=gapic.DedicatedResources(min_replica_count=1, max_replica_count=4))
    assert answer.result().deployed_model.dedicated_resources.max_replica_count == 4
    assert isinstance(answer.metadata, gapic.MutateDeployedModelOperationMetadata)
    assert mutate("disable_container_logging", disable_container_logging=True).result().deployed_model.model
    found = endpoints.get_endpoint(name=name).deployed_models[0]
    assert found.disable_container_logging
    assert found.dedicated_resources.machine_spec.machine_type == MACHINE
    for path in ("dedicated_resources.machine_spec", "display_name", "service_account"):
        with refused(transport, "INVALID_ARGUMENT", path):
            mutate(path)
    with refused(transport, "INVALID_ARGUMENT", "min_replica_count"):
        mutate(counts[0])
    with refused(transport, "NOT_FOUND", "77"):
        endpoints.mutate_deployed_model(endpoint=name, deployed_model={"id": "77"}, update_mask={"paths": []})
    Endpoint(name).delete(force=True)


def test_a_container_that_does_not_start_leaves_the_endpoint_as_it_was(endpoints, parent, transport):
    broken = upload(serving_container_environment_variables={"MODE": "exit"})
    endpoint = Endpoint.create(display_name="e")
    with failed("FAILED_PRECONDITION", "Model server"):
        broken.deploy(endpoint, machine_type=MACHINE)
    assert (Endpoint(endpoint.resource_name).list_models(), endpoint.traffic_split) == ([], {})
    endpoint.delete()
    broken.delete()


# Delete


def test_what_cannot_be_deleted(endpoints, parent, transport):
    with refused(transport, "NOT_FOUND", "endpoints/none"):
        endpoints.delete_endpoint(name=f"{parent}/endpoints/none")
    name = create(endpoints, parent, "twice").result().name
    endpoints.delete_endpoint(name=name).result()
    with refused(transport, "NOT_FOUND"):
        endpoints.delete_endpoint(name=name)
    assert create(endpoints, parent, "twice").result().name == name


# v1beta1


def test_a_client_of_v1beta1(client, parent, numbered, model):
    endpoints = client(beta.EndpointServiceClient)
    made = endpoints.create_endpoint(parent=parent, endpoint=beta.Endpoint(display_name="e"), endpoint_id="e")
    assert made.result().name == f"{numbered}/endpoints/e"
    assert isinstance(made.metadata, beta.CreateEndpointOperationMetadata)
    machine = beta.DedicatedResources(machine_spec={"machine_type": MACHINE}, min_replica_count=1)
    one = beta.DeployedModel(model=model.resource_name, dedicated_resources=machine, enable_container_logging=True)
    name = f"{parent}/endpoints/e"
    answer = endpoints.deploy_model(endpoint=name, deployed_model=one, traffic_split={"0": 100}).result()
    assert isinstance(answer, beta.DeployModelResponse)
    assert dict(endpoints.get_endpoint(name=name).traffic_split) == {answer.deployed_model.id: 100}
    assert [each.display_name for each in endpoints.list_endpoints(parent=parent)] == ["e"]
    predictions = client(beta.PredictionServiceClient)
    assert len(predictions.predict(endpoint=name, instances=[{"do": "tell"}]).predictions) == 1
    undone = endpoints.undeploy_model(endpoint=name, deployed_model_id=answer.deployed_model.id)
    assert isinstance(undone.result(), beta.UndeployModelResponse)
    endpoints.delete_endpoint(name=name).result()


# Pools


def test_pools_are_refused_for_custom_containers(client, parent, transport):
    pools = client(gapic.DeploymentResourcePoolServiceClient)
    with refused(transport, "FAILED_PRECONDITION", "prebuilt TensorFlow and PyTorch"):
        aiplatform.models.DeploymentResourcePool.create("pool")
    with refused(transport, "NOT_FOUND", "deploymentResourcePools/pool"):
        aiplatform.models.DeploymentResourcePool("pool")
    assert aiplatform.models.DeploymentResourcePool.list() == []
    name = f"{parent}/deploymentResourcePools/pool"
    with refused(transport, "NOT_FOUND"):
        pools.delete_deployment_resource_pool(name=name)
    with refused(transport, "NOT_FOUND"):
        pools.update_deployment_resource_pool(deployment_resource_pool={"name": name}, update_mask={"paths": []})
    assert list(pools.query_deployed_models(deployment_resource_pool=name)) == []
