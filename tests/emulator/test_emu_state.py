"""A state file across clean stops and starts, and what goes on while deployed models are being started again."""

import contextlib
import json
import os
import signal
import threading
from pathlib import Path

import pytest
from emu_state import IMAGE, Api, Marked, Refused, build, gate, wait_for
from google.cloud import aiplatform, storage

from cpr_kit.emulator.app import Emulator
from cpr_kit.emulator.program import emulate
from cpr_kit.emulator.settings import Settings
from cpr_kit.emulator.store import Store
from cpr_kit.engine.choose import choose
from cpr_kit.errors import UsageError

LOCATION = "us-central1"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """What a container is does not matter here; the kill tests have both engines."""
    engine = choose("process").engine
    build(engine, tmp_path_factory.mktemp("state"))
    return engine


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.sqlite"


@pytest.fixture
def marked(start):
    """After the test's last emulator has stopped, none is left."""
    marked = Marked("process")
    yield marked
    start.stop()
    assert marked.all() == []


@pytest.fixture
def turns(engine):
    with gate(engine) as turns:
        yield turns


@pytest.fixture
def notes():
    return []


@pytest.fixture
def start(engine, path, notes):
    """Starts an emulator with the state; the one before it is stopped."""
    with contextlib.ExitStack() as stack:

        def start(**options):
            stack.close()
            settings = Settings(max_replicas=3, **options.pop("settings", {}))
            running = Emulator(engine=engine, state=path, settings=settings, note=notes.append, **options)
            stack.enter_context(running)
            return Api(running.url)

        start.stop = stack.close
        yield start


def models_at(api, endpoint):
    return [each["id"] for each in api.get(endpoint).get("deployedModels", [])]


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_all_that_a_program_made_is_there_at_the_next_start(engine, path, transport, tmp_path):
    def used():
        aiplatform.init(project="test-state", location=LOCATION, api_transport=transport)
        return emulate(engine=engine, state=path)

    with used():
        bucket = storage.Client(project="test-state").create_bucket("kept")
        bucket.blob("model/model.joblib").upload_from_string(b"first")
        bucket.blob("rows.jsonl").upload_from_string(b'{"n": 1}\n')
        first = aiplatform.Model.upload(
            display_name="iris",
            serving_container_image_uri=IMAGE,
            artifact_uri="gs://kept/model",
            labels={"team": "plants"},
        )
        second = aiplatform.Model.upload(
            parent_model=first.resource_name,
            serving_container_image_uri=IMAGE,
            serving_container_environment_variables={"VERSION": "two"},
            version_aliases=["best"],
            is_default_version=False,
        )
        endpoint = aiplatform.Endpoint.create(display_name="garden", dedicated_endpoint_enabled=True)
        endpoint.deploy(first, machine_type="n1-standard-2")
        endpoint.deploy(second, machine_type="n1-standard-2", traffic_percentage=50)
        job = first.batch_predict(
            job_display_name="all",
            gcs_source="gs://kept/rows.jsonl",
            gcs_destination_prefix="gs://kept/out",
            machine_type="n1-standard-2",
        )
        before = shown(first, endpoint, job)
        operations = endpoint.api_client.transport.operations_client.list_operations(endpoint.resource_name, "")
        done = [(each.name, each.done) for each in operations]
    assert done
    with used():
        assert shown(first, endpoint, job) == before
        endpoint = aiplatform.Endpoint(endpoint.resource_name)
        operations = endpoint.api_client.transport.operations_client.list_operations(endpoint.resource_name, "")
        assert [(each.name, each.done) for each in operations] == done
        assert storage.Client(project="test-state").bucket("kept").blob("model/model.joblib").download_as_bytes() == (
            b"first"
        )
        third = aiplatform.Model.upload(parent_model=first.resource_name, serving_container_image_uri=IMAGE)
        assert third.version_id == "3"
        wait_for(lambda: served(endpoint) == {None, "two"})
        endpoint.undeploy_all()
        endpoint.delete()
        first.delete()
    with used():
        assert not aiplatform.Endpoint.list()
        assert not aiplatform.Model.list()


def shown(model, endpoint, job):
    """As the SDK sees them now."""
    return [
        aiplatform.Model(model.resource_name).to_dict(),
        aiplatform.Model(f"{model.resource_name}@best").to_dict(),
        aiplatform.Endpoint(endpoint.resource_name).to_dict(),
        aiplatform.BatchPredictionJob(job.resource_name).to_dict(),
        [each.version_id for each in model.versioning_registry.list_versions()],
    ]


def served(endpoint):
    """Which versions have answered by now."""
    seen = set()
    for _ in range(40):
        with contextlib.suppress(Exception):  # not started again yet
            answer = endpoint.raw_predict(b"{}", {"Content-Type": "application/json"}, use_dedicated_endpoint=True)
            seen.add(json.loads(answer.text)["predictions"][0]["env"].get("VERSION"))
    return seen


# ---- a file that cannot be used


def test_a_state_of_another_format_is_refused_and_nothing_is_left_running(engine, path):
    with contextlib.closing(Store(path)) as store:
        store.set_value("format", "99")
    before = set(threading.enumerate())
    emulator = Emulator(engine=engine, state=path)
    with pytest.raises(UsageError, match="holds a state of format 99"):
        emulator.start()
    assert not [each for each in set(threading.enumerate()) - before if each.name.startswith("cpr-emulator")]


def test_a_second_emulator_with_the_same_file_is_refused(start, engine, path):
    api = start()
    model = api.uploaded()
    with pytest.raises(UsageError, match="is in use by another emulator"):
        Emulator(engine=engine, state=path).start()
    assert api.get(model)["name"] == model


# ---- while deployed models are being started again


def test_one_that_does_not_start_again_is_told_and_the_others_answer(start, marked, turns, notes, engine):
    api = start()
    endpoint, bad = api.created(), api.created()
    api.deployed(endpoint, api.uploaded(env=marked.env), split={"0": 100})
    turns.free = 1
    identity = api.deployed(bad, api.uploaded(env={**marked.env, **turns.env}), split={"0": 100})
    api = start()
    assert turns.come.wait(60)
    (pid,) = [pid for pid in marked.all() if deployed_model(pid) == identity]
    os.kill(int(pid), signal.SIGKILL)
    wait_for(lambda: any("does not start again" in line for line in notes))
    assert api.answers(endpoint)
    with pytest.raises(Refused, match="503"):
        api.ask(bad)
    assert models_at(api, bad) == [identity]
    api.result(api.undeploy(bad, identity))


def deployed_model(pid):
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    values = dict(entry.split(b"=", 1) for entry in entries if b"=" in entry)
    return values[b"AIP_DEPLOYED_MODEL_ID"].decode()


def again(start, marked, turns, **options):
    """A model is deployed; the next emulator is starting it again."""
    api = start(**options)
    turns.free = 1
    model, endpoint = api.uploaded(env={**marked.env, **turns.env}), api.created()
    identity = api.deployed(endpoint, model, split={"0": 100})
    start.stop()
    marked.count(0)
    api = start(**options)
    assert turns.come.wait(60)
    return api, endpoint, identity


def test_it_can_be_undeployed(start, marked, turns):
    api, endpoint, identity = again(start, marked, turns)
    api.result(api.undeploy(endpoint, identity))
    marked.count(0)
    turns.go_on.set()
    api.result(api.call("DELETE", endpoint))
    assert marked.all() == []


def test_it_gets_the_replicas_of_a_change_in_the_meantime(start, marked, turns):
    api, endpoint, identity = again(start, marked, turns)
    operation = api.mutate(endpoint, identity, 3)
    assert not api.is_done(operation)
    turns.go_on.set()
    api.result(operation)
    marked.count(3)


def test_a_stop_in_the_meantime_leaves_nothing(start, marked, turns):
    again(start, marked, turns)
    start.stop()
    assert marked.all() == []
    turns.go_on.set()


# ---- work that a clean stop interrupts


def test_a_deployment_that_a_stop_interrupted_is_carried_out(start, marked, turns):
    api = start()
    model, endpoint = api.uploaded(env={**marked.env, **turns.env}), api.created()
    operation = api.deploy(endpoint, model, split={"0": 100})
    assert turns.come.wait(60)
    start.stop()
    assert marked.all() == []
    turns.go_on.set()
    api = start()
    identity = api.result(operation)["deployedModel"]["id"]
    assert models_at(api, endpoint) == [identity]
    assert api.get(endpoint)["trafficSplit"] == {identity: 100}
    marked.count(1)


def test_a_change_of_replicas_that_a_stop_interrupted_is_carried_out(start, marked, turns):
    api = start()
    turns.free = 1
    model, endpoint = api.uploaded(env={**marked.env, **turns.env}), api.created()
    identity = api.deployed(endpoint, model, split={"0": 100})
    operation = api.mutate(endpoint, identity, 2)
    assert turns.come.wait(60)
    start.stop()
    assert marked.all() == []
    turns.go_on.set()
    api = start()
    assert api.result(operation)["deployedModel"]["dedicatedResources"]["minReplicaCount"] == 2
    marked.count(2)


def test_the_address_in_a_private_network_is_the_present_one(start, marked):
    api = start()
    endpoint = api.created(network="projects/1/global/networks/mine")
    model = api.uploaded(env=marked.env)
    api.deployed(endpoint, model)
    api = start()
    uris = api.get(endpoint)["deployedModels"][0]["privateEndpoints"]
    assert uris["predictHttpUri"].startswith(f"{api.url}/")


# ---- work that is cancelled, or fails before it begins


def test_an_undeployment_that_fails_changes_nothing(start, marked):
    api = start(faults=["UndeployModel:fail=not now:count=1"])
    model, endpoint = api.uploaded(env=marked.env), api.created()
    identity = api.deployed(endpoint, model, split={"0": 100})
    assert api.ended(api.undeploy(endpoint, identity))["error"]["message"] == "not now"
    assert models_at(api, endpoint) == [identity]
    assert api.get(endpoint)["trafficSplit"] == {identity: 100}
    assert api.ask(endpoint)
    api.result(api.undeploy(endpoint, identity))
    marked.count(0)


def test_a_model_is_undeployed_once(start, marked):
    api = start(faults=["UndeployModel:fail=never said:latency=600s:count=1"])
    model, endpoint = api.uploaded(env=marked.env), api.created()
    identity = api.deployed(endpoint, model, split={"0": 100}, id="7")
    operation = api.undeploy(endpoint, identity)
    with pytest.raises(Refused, match="is being undeployed already"):
        api.undeploy(endpoint, identity)
    api.call("POST", f"{operation['name']}:cancel")
    assert api.ended(operation)["error"]["code"] == 1
    assert api.ask(endpoint)


def test_a_cancelled_undeployment_still_ends_the_container(start, marked):
    api = start()
    model, endpoint = api.uploaded(env=marked.env), api.created()
    identity = api.deployed(endpoint, model, split={"0": 100})
    held = threading.Thread(target=lambda: hold(api, endpoint))
    held.start()
    wait_for(lambda: api.is_holding(identity))
    operation = api.undeploy(endpoint, identity)
    wait_for(lambda: models_at(api, endpoint) == [])
    api.call("POST", f"{operation['name']}:cancel")
    assert api.ended(operation)["error"]["code"] == 1
    start.stop()
    held.join()
    assert marked.all() == []


def hold(api, endpoint):
    with contextlib.suppress(Refused, OSError):
        api.ask(endpoint, do="hold")


def test_a_cancelled_deployment_leaves_no_container(start, marked, turns):
    api = start()
    model, endpoint = api.uploaded(env={**marked.env, **turns.env}), api.created()
    operation = api.deploy(endpoint, model)
    assert turns.come.wait(60)
    api.call("POST", f"{operation['name']}:cancel")
    assert api.ended(operation)["error"]["code"] == 1
    assert marked.all() == []
    assert models_at(api, endpoint) == []


def test_a_cancelled_change_of_replicas_leaves_as_many_as_before(start, marked, turns):
    api = start()
    turns.free = 1
    model, endpoint = api.uploaded(env={**marked.env, **turns.env}), api.created()
    identity = api.deployed(endpoint, model, split={"0": 100})
    operation = api.mutate(endpoint, identity, 3)
    assert turns.come.wait(60)
    api.call("POST", f"{operation['name']}:cancel")
    assert api.ended(operation)["error"]["code"] == 1
    assert len(marked.all()) == 1
    assert api.get(endpoint)["deployedModels"][0]["dedicatedResources"]["minReplicaCount"] == 1
    assert api.ask(endpoint)


def test_a_deployment_whose_endpoint_has_changed_meanwhile_fails_and_leaves_no_container(start, marked, turns):
    api = start()
    turns.free = 1
    model, endpoint = api.uploaded(env={**marked.env, **turns.env}), api.created()
    first = api.deployed(endpoint, model, split={"0": 100})
    operation = api.deploy(endpoint, model, split={first: 50, "0": 50})
    assert turns.come.wait(60)
    api.result(api.undeploy(endpoint, first))
    turns.go_on.set()
    assert "traffic_split names" in api.ended(operation)["error"]["message"]
    marked.count(0)
    assert models_at(api, endpoint) == []
