"""An emulator killed with SIGKILL midway through each operation, and started again with the same --state."""

import contextlib
import json
import threading

import pytest
from emu_state import BATCH_IMAGE, IMAGE, PARENT, Marked, Program, Refused, build, gate, wait_for

from cpr_kit.emulator.messages import BatchPredictionJob, JobState
from cpr_kit.emulator.store import Store


@pytest.fixture(scope="module")
def image(engine, tmp_path_factory):
    build(engine, tmp_path_factory.mktemp("state"))
    return engine


@pytest.fixture
def program(image, tmp_path):
    program = Program(image.name, tmp_path / "state.sqlite")
    yield program
    program.end()


@pytest.fixture
def marked(image, program):
    """After the test's last emulator has stopped, none is left."""
    marked = Marked(image.name)
    yield marked
    program.end()
    marked.count(0)


@pytest.fixture
def turns(image):
    with gate(image) as turns:
        yield turns


@pytest.fixture(params=[pytest.param(False, id="reaper lives"), pytest.param(True, id="reaper killed")])
def reaper(request, image):
    if request.param and image.name == "process":
        pytest.skip("nobody but the reaper can know a program's processes")
    return request.param


def shares(api, endpoint):
    return api.get(endpoint).get("trafficSplit", {})


def models_at(api, endpoint):
    return [each["id"] for each in api.get(endpoint).get("deployedModels", [])]


def test_a_deployment_is_carried_out_and_the_deployed_models_answer_again(program, marked, turns, reaper):
    api = program.start()
    turns.free = 1
    model, endpoint = api.uploaded(env={**marked.env, **turns.env}), api.created()
    first = api.deployed(endpoint, model, split={"0": 100})
    operation = api.deploy(endpoint, model, split={first: 50, "0": 50})
    assert turns.come.wait(60)
    marked.count(2)
    program.kill(reaper=reaper)
    turns.go_on.set()
    api = program.start()
    second = api.result(operation)["deployedModel"]["id"]
    assert models_at(api, endpoint) == [first, second]
    assert shares(api, endpoint) == {first: 50, second: 50}
    marked.count(2)
    seen = set()
    wait_for(lambda: seen.add(api.answers(endpoint)["predictions"][0]["env"]["AIP_DEPLOYED_MODEL_ID"]) or len(seen) > 1)
    assert seen == {first, second}


def test_a_deployment_that_cannot_be_carried_out_any_more_fails(program, marked, turns, image):
    api = program.start()
    model, endpoint = api.uploaded(env={**marked.env, **turns.env}), api.created()
    operation = api.deploy(endpoint, model)
    assert turns.come.wait(60)
    program.kill()
    turns.go_on.set()
    api = program.start("--fault", "DeployModel:fail=no room")
    assert api.ended(operation)["error"]["message"] == "no room"
    assert models_at(api, endpoint) == []
    marked.count(0)


def test_an_undeployment_ends_what_was_left(program, marked, reaper):
    api = program.start()
    model, endpoint = api.uploaded(env=marked.env), api.created()
    identity = api.deployed(endpoint, model, split={"0": 100})
    held = threading.Thread(target=pytest.raises, args=(Exception, api.ask, endpoint), kwargs={"do": "hold"})
    held.start()
    wait_for(lambda: api.is_holding(identity))
    operation = api.undeploy(endpoint, identity)
    wait_for(lambda: models_at(api, endpoint) == [])
    assert not api.is_done(operation)
    program.kill(reaper=reaper)
    held.join()
    api = program.start()
    api.result(operation)
    assert models_at(api, endpoint) == []
    assert shares(api, endpoint) == {}
    marked.count(0)
    api.result(api.call("DELETE", endpoint))
    api.result(api.call("DELETE", model))


def test_a_change_of_replicas_is_carried_out(program, marked, turns, reaper):
    api = program.start()
    turns.free = 1
    model, endpoint = api.uploaded(env={**marked.env, **turns.env}), api.created()
    identity = api.deployed(endpoint, model, split={"0": 100})
    operation = api.mutate(endpoint, identity, 2)
    assert turns.come.wait(60)
    program.kill(reaper=reaper)
    turns.go_on.set()
    api = program.start()
    changed = api.result(operation)["deployedModel"]
    assert changed["dedicatedResources"]["minReplicaCount"] == 2
    assert changed["status"]["availableReplicaCount"] == 2
    marked.count(2)


@pytest.mark.parametrize("when", ["starting", "running"])
def test_a_batch_job_is_carried_out(program, marked, turns, reaper, when):
    api = program.start()
    starting = when == "starting"
    env = {**marked.env, **(turns.env if starting else {})}
    model = api.uploaded(env=env, image=IMAGE if starting else BATCH_IMAGE)
    rows = [{"n": number} for number in range(50)]
    if not starting:
        rows[30] = {"do": "gate", "url": turns.url}
    api.write("gs://rows/in.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    job = batch_job(api, model)
    assert turns.come.wait(60)
    program.kill(reaper=reaper)
    turns.go_on.set()
    api = program.start()
    ended = job_ended(api, job)
    assert ended["state"] == "JOB_STATE_SUCCEEDED", ended
    assert int(ended["completionStats"]["successfulCount"]) == 50
    directory = ended["outputInfo"]["gcsOutputDirectory"] + "/"
    results = [name for name in api.names(directory) if name.startswith("prediction.results")]
    lines = [json.loads(line) for name in results for line in api.read(directory + name).splitlines()]
    assert sorted(rows.index(line["instance"]) for line in lines) == list(range(50))
    marked.count(0)


def test_a_batch_job_that_was_being_cancelled_is_cancelled(program, marked, turns):
    api = program.start()
    model = api.uploaded(env={**marked.env, **turns.env})
    api.write("gs://rows/in.jsonl", b"{}\n")
    job = batch_job(api, model)
    assert turns.come.wait(60)
    program.kill()
    turns.go_on.set()
    # As CancelBatchPredictionJob leaves it while the container ends, which takes no time that a kill could hit.
    with contextlib.closing(Store(program.state)) as store:
        table = store.table("job", BatchPredictionJob)
        (stored,) = table.under("")
        stored.state = JobState.JOB_STATE_CANCELLING
        table.put(stored.name, stored)
    api = program.start()
    ended = job_ended(api, job)
    assert (ended["state"], ended["error"]["code"]) == ("JOB_STATE_CANCELLED", 1)
    marked.count(0)


def batch_job(api, model):
    body = {
        "displayName": "job",
        "model": model,
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://rows/in.jsonl"]}},
        "outputConfig": {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": "gs://rows/out"}},
        "dedicatedResources": {"machineSpec": {"machineType": "n1-standard-2"}},
        "manualBatchTuningParameters": {"batchSize": 1},
    }
    return api.call("POST", f"{PARENT}/batchPredictionJobs", **body)["name"]


def job_state(api, job):
    """As it is now; GetBatchPredictionJob would wait for the end."""
    listed = api.get(f"{PARENT}/batchPredictionJobs").get("batchPredictionJobs", [])
    return next(each["state"] for each in listed if each["name"] == job)


def job_ended(api, job):
    wait_for(lambda: job_state(api, job) not in ("JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_CANCELLING"))
    return api.get(job)


# What follows needs no container, so one engine is enough: killed before the work, and wherever it had got to.


@pytest.fixture
def only_process(image):
    if image.name != "process":
        pytest.skip("no container is concerned")


FILES = {f"part-{number:04}": b"%d" % number for number in range(200)}


def stored(api):
    for name, data in FILES.items():
        api.write(f"gs://mine/model/{name}", data)
    return {"artifactUri": "gs://mine/model"}


def managed(api, model, version="1"):
    _, number, _, location, _, identity = model.split("/")
    return f"gs://vertex-ai-managed-{number}/{location}/models/{identity}/{version}/artifacts/"


def interrupted(program, api, call, work, *, hangs):
    """The operation that `work` begins, taken on before the kill, and the next emulator."""
    if hangs:
        api.fault(f"{call}:fail=never said:latency=600s")
    operation = work()
    assert not hangs or not api.is_done(operation)
    program.kill()
    return operation, program.start()


hangs = pytest.mark.parametrize("hangs", [pytest.param(True, id="before the work"), pytest.param(False, id="anywhere")])


@hangs
def test_an_upload_is_whole(only_process, program, hangs):
    api = program.start()
    artifacts = stored(api)
    operation, api = interrupted(program, api, "UploadModel", lambda: api.upload(model=artifacts), hangs=hangs)
    model = api.result(operation)["model"]
    assert api.get(model)["versionId"] == "1"
    assert api.get(model)["versionAliases"] == ["default"]
    assert sorted(api.names(managed(api, model))) == sorted(FILES)
    second = api.result(api.upload(parentModel=model))
    assert second["modelVersionId"] == "2"


def test_an_upload_that_fails_after_the_restart_leaves_no_model(only_process, program):
    api = program.start()
    artifacts = stored(api)
    api.fault("UploadModel:fail=never said:latency=600s")
    operation = api.upload(model=artifacts, modelId="mine")
    program.kill()
    api = program.start("--fault", "UploadModel:fail=no room:count=1")
    assert api.ended(operation)["error"]["message"] == "no room"
    assert api.get(f"{PARENT}/models") == {}
    assert api.result(api.upload(model=artifacts, modelId="mine"))["modelVersionId"] == "1"


@hangs
def test_a_copy_is_whole(only_process, program, hangs):
    api = program.start()
    source = api.uploaded(model=stored(api))
    there = PARENT.replace("us-central1", "europe-west4")
    begin = lambda: api.call("POST", f"{there}/models:copy", sourceModel=source)  # noqa: E731
    operation, api = interrupted(program, api, "CopyModel", begin, hangs=hangs)
    model = api.result(operation)["model"]
    assert model.partition("/locations/")[2].startswith("europe-west4/models/")
    assert sorted(api.names(managed(api, model))) == sorted(FILES)


@hangs
def test_an_export_is_whole(only_process, program, hangs):
    api = program.start()
    model = api.uploaded(model=stored(api))
    output = {"artifactDestination": {"outputUriPrefix": "gs://mine/out"}, "exportFormatId": "custom-trained"}
    begin = lambda: api.call("POST", f"{model}:export", outputConfig=output)  # noqa: E731
    operation, api = interrupted(program, api, "ExportModel", begin, hangs=hangs)
    ended = api.ended(operation)
    assert "error" not in ended
    target = ended["metadata"]["outputInfo"]["artifactOutputUri"]
    assert sorted(api.names(f"{target}/")) == sorted(FILES)


@hangs
def test_a_deleted_model_is_gone_with_all_it_had(only_process, program, hangs):
    api = program.start()
    model = api.uploaded(model=stored(api), modelId="mine")
    begin = lambda: api.call("DELETE", model)  # noqa: E731
    operation, api = interrupted(program, api, "DeleteModel", begin, hangs=hangs)
    api.result(operation)
    with pytest.raises(Refused, match="404"):
        api.get(model)
    assert api.names(managed(api, model)) == []
    assert api.result(api.upload(modelId="mine"))["modelVersionId"] == "1"


@hangs
def test_a_deleted_version_leaves_a_default(only_process, program, hangs):
    api = program.start()
    model = api.uploaded()
    api.uploaded(parentModel=model)
    begin = lambda: api.call("DELETE", f"{model}@1:deleteVersion")  # noqa: E731
    operation, api = interrupted(program, api, "DeleteModelVersion", begin, hangs=hangs)
    api.result(operation)
    versions = api.get(f"{model}:listVersions")["models"]
    assert [(each["versionId"], each["versionAliases"]) for each in versions] == [("2", ["default"])]


@hangs
def test_an_endpoint_is_created_once(only_process, program, hangs):
    api = program.start()
    path = f"{PARENT}/endpoints?endpointId=mine"
    begin = lambda: api.call("POST", path, displayName="iris", dedicatedEndpointEnabled=True)  # noqa: E731
    operation, api = interrupted(program, api, "CreateEndpoint", begin, hangs=hangs)
    with pytest.raises(Refused, match="409"):
        begin()
    name = api.result(operation)["name"]
    assert [each["name"] for each in api.get(f"{PARENT}/endpoints")["endpoints"]] == [name]
    assert name.endswith("/endpoints/mine")
    assert api.get(name)["dedicatedEndpointDns"].startswith("mine.us-central1-")


@hangs
def test_an_endpoint_is_changed_and_deleted(only_process, program, hangs):
    api = program.start()
    name = api.created(dedicatedEndpointEnabled=True)
    changed = {"name": name, "clientConnectionConfig": {"inferenceTimeout": "77s"}}
    begin = lambda: api.call("POST", f"{name}:update", endpoint=changed)  # noqa: E731
    operation, api = interrupted(program, api, "UpdateEndpointLongRunning", begin, hangs=hangs)
    api.result(operation)
    assert api.get(name)["clientConnectionConfig"] == {"inferenceTimeout": "77s"}
    begin = lambda: api.call("DELETE", name)  # noqa: E731
    operation, api = interrupted(program, api, "DeleteEndpoint", begin, hangs=hangs)
    api.result(operation)
    assert api.get(f"{PARENT}/endpoints") == {}


@hangs
def test_a_deleted_job_is_gone(only_process, program, hangs):
    api = program.start()
    model = api.uploaded(image=BATCH_IMAGE)
    api.write("gs://rows/in.jsonl", b"1\n")
    job = batch_job(api, model)
    job_ended(api, job)
    operation, api = interrupted(program, api, "DeleteBatchPredictionJob", lambda: api.call("DELETE", job), hangs=hangs)
    api.result(operation)
    assert api.get(f"{PARENT}/batchPredictionJobs") == {}
