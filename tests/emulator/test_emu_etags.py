"""What a deployment counts on: images by digest, read-modify-write with etags, and ids that the caller gives."""

import threading

import pytest
from emu_control import (  # noqa: F401 - fixtures
    IMAGE,
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
from google.api_core import exceptions
from google.cloud import aiplatform
from google.protobuf.field_mask_pb2 import FieldMask

from cpr_kit.engine.choose import choose

gapic = aiplatform.gapic
LABELS = FieldMask(paths=["labels"])
MEANWHILE = "which has changed since it was read"


@pytest.fixture
def endpoint(endpoints, parent):
    return endpoints.create_endpoint(parent=parent, endpoint=gapic.Endpoint(display_name="e")).result()


def deployed(model, identity="", least=1):
    resources = gapic.DedicatedResources(machine_spec={"machine_type": MACHINE}, min_replica_count=least)
    return gapic.DeployedModel(id=identity, model=model.resource_name, dedicated_resources=resources)


# Images


def test_a_model_of_an_image_by_its_digest(transport, endpoints, endpoint):
    digest = choose("process").engine.image(IMAGE).id
    name = f"us-central1-docker.pkg.dev/p/r/control@{digest}"
    model = aiplatform.Model.upload(display_name="by-digest", serving_container_image_uri=name)
    assert model.container_spec.image_uri == name
    done = endpoints.deploy_model(endpoint=endpoint.name, deployed_model=deployed(model), traffic_split={"0": 100})
    assert done.result().deployed_model.id
    assert aiplatform.Endpoint(endpoint.name).predict(instances=[1]).predictions


def test_a_digest_that_nobody_has(transport):
    name = f"us-central1-docker.pkg.dev/p/r/control@sha256:{'0' * 64}"
    with failed("FAILED_PRECONDITION", name, "process engine has no image sha256:000000000000"):
        aiplatform.Model.upload(display_name="by-digest", serving_container_image_uri=name)


# Endpoints


def test_of_two_that_change_what_both_have_read_one_is_told_so(endpoints, endpoint, transport):
    first, second = (endpoints.get_endpoint(name=endpoint.name) for _ in range(2))
    first.labels["cpr-lease"] = "a"
    second.labels["cpr-lease"] = "b"
    taken = endpoints.update_endpoint(endpoint=first, update_mask=LABELS)
    with refused(transport, "ABORTED", f'The etag "{second.etag}"', endpoint.name, MEANWHILE):
        endpoints.update_endpoint(endpoint=second, update_mask=LABELS)
    found = endpoints.get_endpoint(name=endpoint.name)
    assert found.labels == {"cpr-lease": "a"}
    assert found.etag == taken.etag != first.etag
    found.labels.pop("cpr-lease")
    assert not endpoints.update_endpoint(endpoint=found, update_mask=LABELS).labels


def test_without_an_etag_an_update_overwrites(endpoints, endpoint):
    endpoints.update_endpoint(endpoint=gapic.Endpoint(name=endpoint.name, description="a"))
    changed = endpoints.update_endpoint(endpoint=gapic.Endpoint(name=endpoint.name, description="b"))
    assert changed.description == "b"


def test_the_long_running_update_compares_it_too(endpoints, parent, transport):
    new = gapic.Endpoint(display_name="e", dedicated_endpoint_enabled=True)
    made = endpoints.create_endpoint(parent=parent, endpoint=new).result()
    changed = gapic.Endpoint(name=made.name, etag=made.etag, client_connection_config={"inference_timeout": "120s"})
    with refused(transport, "ABORTED", MEANWHILE):
        stale = gapic.Endpoint(changed)
        stale.etag = "older"
        endpoints.update_endpoint_long_running(request={"endpoint": stale})
    done = endpoints.update_endpoint_long_running(request={"endpoint": changed}).result()
    assert done.client_connection_config.inference_timeout.total_seconds() == 120
    assert done.etag != made.etag


def test_of_many_that_take_a_lease_one_gets_it(endpoints, endpoint):
    """As a lease is taken: read, write a label with what was read."""
    found = endpoints.get_endpoint(name=endpoint.name)
    went, starting = [], threading.Barrier(8)

    def take(number):
        mine = gapic.Endpoint(found)
        mine.labels["cpr-lease"] = f"holder-{number}"
        starting.wait()
        try:
            went.append(endpoints.update_endpoint(endpoint=mine, update_mask=LABELS).labels["cpr-lease"])
        except (exceptions.Aborted, exceptions.Conflict):
            went.append(None)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert went.count(None) == 7
    assert endpoints.get_endpoint(name=endpoint.name).labels["cpr-lease"] in went


def test_deploying_and_undeploying_change_an_endpoints_etag(endpoints, endpoint, transport):
    model = upload()
    seen = [endpoint.etag]
    endpoints.deploy_model(
        endpoint=endpoint.name, deployed_model=deployed(model, "1"), traffic_split={"0": 100}
    ).result()
    seen.append(endpoints.get_endpoint(name=endpoint.name).etag)
    endpoints.undeploy_model(endpoint=endpoint.name, deployed_model_id="1").result()
    seen.append(endpoints.get_endpoint(name=endpoint.name).etag)
    assert len(set(seen)) == 3
    with refused(transport, "ABORTED"):
        endpoints.update_endpoint(endpoint=gapic.Endpoint(name=endpoint.name, etag=seen[0], description="x"))


def test_the_high_level_sdk_updates_what_it_has_read(endpoints, endpoint):
    found = aiplatform.Endpoint(endpoint.name)
    found.update(labels={"a": "b"})
    found.update(description="twice")
    found = aiplatform.Endpoint(endpoint.name)
    assert (found.labels, found.gca_resource.description) == ({"a": "b"}, "twice")


# Models


def test_a_model_that_has_changed_is_not_overwritten(models, transport):
    model = upload(labels={"a": "1"})
    read = models.get_model(name=model.resource_name)
    read.labels["a"] = "2"
    now = models.update_model(model=read, update_mask=LABELS)
    assert now.etag not in ("", read.etag)
    read.labels["a"] = "3"
    with refused(transport, "ABORTED", model.resource_name, MEANWHILE):
        models.update_model(model=read, update_mask=LABELS)
    assert models.get_model(name=model.resource_name).labels == {"a": "2"}


def test_a_version_has_an_etag_of_its_own(models, transport):
    first = upload(model_id="versions")
    second = aiplatform.Model.upload(
        parent_model=first.resource_name,
        serving_container_image_uri=first.container_spec.image_uri,
        is_default_version=False,
        labels={"cpr-key": "2"},
    )
    read = {number: models.get_model(name=f"{first.resource_name}@{number}") for number in "12"}
    assert read["1"].etag == models.get_model(name=first.resource_name).etag != read["2"].etag
    read["2"].version_description = "better"
    models.update_model(model=read["2"], update_mask=FieldMask(paths=["version_description"]))
    read["1"].version_description = "worse"
    models.update_model(model=read["1"], update_mask=FieldMask(paths=["version_description"]))
    with refused(transport, "ABORTED", f"{second.resource_name}@2"):
        models.update_model(model=read["2"], update_mask=FieldMask(paths=["version_description"]))


def test_an_alias_that_moves_changes_both_versions(models):
    first = upload(model_id="aliases", version_aliases=["live"])
    options = {"serving_container_image_uri": first.container_spec.image_uri, "is_default_version": False}
    aiplatform.Model.upload(parent_model=first.resource_name, **options)
    names = [f"{first.resource_name}@{number}" for number in "12"]
    before = [models.get_model(name=name).etag for name in names]
    models.merge_version_aliases(name=names[1], version_aliases=["live"])
    after = [models.get_model(name=name).etag for name in names]
    assert not set(before) & set(after)


def test_the_high_level_sdk_updates_any_version(models, endpoints, endpoint):
    first = upload(model_id="high")
    options = {"serving_container_image_uri": first.container_spec.image_uri, "is_default_version": False}
    second = aiplatform.Model.upload(parent_model=first.resource_name, **options)
    second = aiplatform.Model(f"{second.resource_name}@2")
    endpoints.deploy_model(endpoint=endpoint.name, deployed_model=deployed(second), traffic_split={"0": 100}).result()
    second.update(labels={"a": "b"})
    second.update(description="twice")
    assert models.get_model(name=first.resource_name).description == "twice"
    first.versioning_registry.update_version("2", version_description="the second")
    assert models.get_model(name=f"{first.resource_name}@2").version_description == "the second"


# Ids of deployed models


def test_an_id_that_is_deployed_already(endpoints, endpoint, transport):
    model = upload()
    share = {"traffic_split": {"0": 100}}
    response = endpoints.deploy_model(endpoint=endpoint.name, deployed_model=deployed(model, "1234567890"), **share)
    assert response.result().deployed_model.id == "1234567890"
    with refused(transport, "ALREADY_EXISTS", "1234567890", endpoint.name):
        endpoints.deploy_model(endpoint=endpoint.name, deployed_model=deployed(model, "1234567890"), **share)
    assert [each.id for each in endpoints.get_endpoint(name=endpoint.name).deployed_models] == ["1234567890"]
    endpoints.undeploy_model(endpoint=endpoint.name, deployed_model_id="1234567890").result()
    again = endpoints.deploy_model(endpoint=endpoint.name, deployed_model=deployed(model, "1234567890"), **share)
    assert again.result().deployed_model.id == "1234567890"


def test_of_many_deployments_with_one_id_one_is_made(endpoints, endpoint):
    model = upload()
    began, starting = [], threading.Barrier(6)

    def deploy():
        starting.wait()
        try:
            began.append(endpoints.deploy_model(endpoint=endpoint.name, deployed_model=deployed(model, "7")))
        except (exceptions.AlreadyExists, exceptions.Conflict) as error:
            assert "The DeployedModel 7 already exists" in error.message
            began.append(None)

    threads = [threading.Thread(target=deploy) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert began.count(None) == 5
    next(each for each in began if each).result()
    assert [each.id for each in endpoints.get_endpoint(name=endpoint.name).deployed_models] == ["7"]


def test_a_deployment_that_failed_leaves_its_id_free(endpoints, endpoint):
    broken = upload(serving_container_environment_variables={"DIES": "yes"}, serving_container_command=["false"])
    with pytest.raises(exceptions.GoogleAPICallError):
        endpoints.deploy_model(endpoint=endpoint.name, deployed_model=deployed(broken, "8")).result()
    model = upload()
    done = endpoints.deploy_model(endpoint=endpoint.name, deployed_model=deployed(model, "8")).result()
    assert done.deployed_model.id == "8"
