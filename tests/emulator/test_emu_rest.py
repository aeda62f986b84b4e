"""The control plane over plain HTTP: what curl users, the tutorials and `requests` send, and what they get."""

import asyncio
import json
import subprocess
from types import SimpleNamespace
from urllib.parse import quote

import pytest
import requests
from emu_control import HOST, IMAGE, emulator, number, numbered, parent, project  # noqa: F401 - fixtures

from cpr_kit.emulator.rest import Rest

AS_NUMBERS = "%24alt=json%3Benum-encoding%3Dint"
CHARSET = "application/json; charset=UTF-8"
UPLOAD_TYPE = "type.googleapis.com/google.cloud.aiplatform.v1.UploadModelOperationMetadata"


class Api:
    """Paths below the version, JSON in and out; `root` is plain mode, or Google's host through the proxy."""

    def __init__(self, root, parent):
        self.root = root
        self.parent = parent
        self.session = requests.Session()

    def send(self, verb, path, body=None, *, version="v1", **options):
        url = f"{self.root}/{version}/{path.replace('PARENT', self.parent)}"
        return self.session.request(verb, url, json=body, **options)

    def call(self, verb, path, body=None, **options):
        answer = self.send(verb, path, body, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def done(self, verb, path, body=None, **options):
        """The response of the operation that a call begins."""
        operation = self.call(verb, path, body, **options)
        operation = self.call("GET", operation["name"])
        assert "error" not in operation
        return operation["response"]

    def refused(self, verb, path, body=None, **options):
        """The error's HTTP status, its name, and its message."""
        answer = self.send(verb, path, body, **options)
        assert answer.headers["content-type"] == CHARSET
        error = answer.json()["error"]
        assert error["code"] == answer.status_code
        return error["code"], error["status"], error["message"]


@pytest.fixture(params=["plain", "proxy"])
def api(request, emulator, parent):
    api = Api(emulator.url if request.param == "plain" else f"https://{HOST}", parent)
    yield api
    api.session.close()


@pytest.fixture
def plain(emulator, parent):
    api = Api(emulator.url, parent)
    yield api
    api.session.close()


def model(**fields):
    return {"displayName": "iris", "containerSpec": {"imageUri": IMAGE}, **fields}


def test_a_model_from_upload_to_delete(api, numbered):
    operation = api.call("POST", "PARENT/models:upload", {"model": model(labels={"a": "b"}), "modelId": "iris"})
    assert operation["name"].startswith(f"{numbered}/models/iris/operations/")
    assert operation["metadata"]["@type"] == UPLOAD_TYPE
    assert set(operation["metadata"]["genericMetadata"]) == {"createTime", "updateTime"}
    ended = api.call("GET", operation["name"])
    assert ended["done"] is True
    assert ended["response"] == {
        "@type": "type.googleapis.com/google.cloud.aiplatform.v1.UploadModelResponse",
        "model": f"{numbered}/models/iris",
        "modelVersionId": "1",
    }
    assert api.call("GET", ended["name"], version="ui") == ended
    found = api.call("GET", "PARENT/models/iris")
    assert (found["name"], found["versionId"], found["labels"]) == (f"{numbered}/models/iris", "1", {"a": "b"})
    assert found["supportedDeploymentResourcesTypes"] == ["DEDICATED_RESOURCES"]
    assert found["predictSchemata"] == {}
    assert found["createTime"].endswith("Z")
    assert [each["name"] for each in api.call("GET", "PARENT/models")["models"]] == [found["name"]]
    assert api.done("DELETE", "PARENT/models/iris") == {"@type": "type.googleapis.com/google.protobuf.Empty"}
    assert api.call("GET", "PARENT/models") == {}


def test_enums_are_words_or_numbers_as_the_caller_likes(plain):
    plain.done("POST", "PARENT/models:upload", {"model": model(), "modelId": "iris"})
    assert plain.call("GET", f"PARENT/models/iris?{AS_NUMBERS}")["supportedDeploymentResourcesTypes"] == [1]
    assert plain.call("GET", "PARENT/models/iris?alt=json")["supportedDeploymentResourcesTypes"] == [
        "DEDICATED_RESOURCES"
    ]
    job = {
        "displayName": "job",
        "model": f"{plain.parent}/models/iris",
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://box/none"]}},
        "outputConfig": {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": "gs://box/out"}},
        "dedicatedResources": {"machineSpec": {"machineType": "n1-standard-2", "acceleratorType": 5}},
    }
    for accelerator in (5, "NVIDIA_TESLA_K80", "NVIDIA_TESLA_T4"):
        job["dedicatedResources"]["machineSpec"]["acceleratorType"] = accelerator
        made = plain.call("POST", "PARENT/batchPredictionJobs", job)
        assert made["dedicatedResources"]["machineSpec"]["acceleratorType"] in {"NVIDIA_TESLA_K80", "NVIDIA_TESLA_T4"}
        assert made["state"] == "JOB_STATE_PENDING"
    job["dedicatedResources"]["machineSpec"]["acceleratorType"] = "ABACUS"
    assert plain.refused("POST", "PARENT/batchPredictionJobs", job)[:2] == (400, "INVALID_ARGUMENT")


def test_an_at_sign_may_be_encoded(api):
    api.done("POST", "PARENT/models:upload", {"model": model(), "modelId": "iris"})
    for name in ("iris@1", "iris%401", "iris@default"):
        assert api.call("GET", f"PARENT/models/{name}")["name"].endswith("/models/iris@1")
    aliases = api.call("POST", "PARENT/models/iris%401:mergeVersionAliases", {"versionAliases": ["blue"]})
    assert sorted(aliases["versionAliases"]) == ["blue", "default"]
    assert len(api.call("GET", "PARENT/models/iris:listVersions")["models"]) == 1
    assert api.refused("DELETE", "PARENT/models/iris%401:deleteVersion")[1] == "FAILED_PRECONDITION"


def test_names_of_fields_may_have_either_case(plain):
    body = {"model": {"display_name": "iris", "container_spec": {"image_uri": IMAGE}}, "model_id": "iris"}
    plain.done("POST", "PARENT/models:upload", body)
    listed = plain.call("GET", 'PARENT/models?page_size=1&order_by=display_name&filter=displayName="iris"')
    assert [each["displayName"] for each in listed["models"]] == ["iris"]
    assert plain.call("GET", "PARENT/models?pageSize=1&readMask=displayName,versionId")["models"] == [
        {"displayName": "iris", "versionId": "1"}
    ]


def test_masks_in_a_query(plain):
    made = plain.done("POST", "PARENT/endpoints?endpointId=e", {"displayName": "e", "labels": {"my_1": "a", "b": "c"}})
    path = "PARENT/endpoints/e?updateMask="
    assert made["name"].endswith("/endpoints/e")
    changed = plain.call("PATCH", f"{path}displayName,labels.my_1", {"displayName": "f", "labels": {"my_1": "z"}})
    assert (changed["displayName"], changed["labels"]) == ("f", {"my_1": "z", "b": "c"})
    changed = plain.call("PATCH", f"{path}display_name", {"displayName": "g", "description": "not named"})
    assert (changed["displayName"], "description" in changed) == ("g", False)
    changed = plain.call("PATCH", f"{path}labels.my_1", {})
    assert changed["labels"] == {"b": "c"}
    assert "dedicated_endpoint_enabled" in plain.refused("PATCH", f"{path}dedicatedEndpointEnabled", {})[2]
    assert "nothing" in plain.refused("PATCH", f"{path}nothing", {})[2]


def test_a_mask_in_a_body(plain):
    plain.done("POST", "PARENT/endpoints?endpointId=e", {"displayName": "e"})
    for mask in ("dedicatedResources.minReplicaCount", "dedicated_resources.min_replica_count"):
        refused = plain.refused(
            "POST", "PARENT/endpoints/e:mutateDeployedModel", {"deployedModel": {"id": "7"}, "updateMask": mask}
        )
        assert refused[:2] == (404, "NOT_FOUND")


def test_the_id_of_an_endpoint_is_in_the_query_and_a_dedicated_one_has_a_name(plain, number):
    made = plain.done("POST", "PARENT/endpoints?endpoint_id=e1", {"displayName": "e", "dedicatedEndpointEnabled": True})
    assert made["dedicatedEndpointDns"] == f"e1.us-central1-{number}.prediction.vertexai.goog"
    changed = plain.done(
        "POST",
        "PARENT/endpoints/e1:update",
        {"endpoint": {"clientConnectionConfig": {"inferenceTimeout": "1800s"}}},
    )
    assert changed["clientConnectionConfig"] == {"inferenceTimeout": "1800s"}
    assert plain.refused("POST", "PARENT/endpoints?endpointId=e1", {"displayName": "e"})[:2] == (409, "ALREADY_EXISTS")


@pytest.mark.parametrize(
    ("verb", "path", "body", "status", "words"),
    [
        ("GET", "PARENT/models/none", None, (404, "NOT_FOUND"), "models/none does not exist"),
        ("GET", "PARENT/models/none/operations/1", None, (404, "NOT_FOUND"), "operations/1"),
        ("POST", "PARENT/models:upload", {"model": {"colour": 1}}, (400, "INVALID_ARGUMENT"), "colour"),
        ("POST", "PARENT/models:upload", {"model": {"displayName": 1}}, (400, "INVALID_ARGUMENT"), "displayName"),
        ("POST", "PARENT/models:upload", ["model"], (400, "INVALID_ARGUMENT"), "JSON"),
        ("POST", "PARENT/models:upload", None, (400, "INVALID_ARGUMENT"), "display_name"),
        ("GET", "PARENT/models?colour=red", None, (400, "INVALID_ARGUMENT"), 'Unknown name "colour"'),
        ("GET", "PARENT/models?pageSize=many", None, (400, "INVALID_ARGUMENT"), "many"),
        ("GET", "PARENT/operations?pageSize=many", None, (400, "INVALID_ARGUMENT"), "many"),
        ("GET", "PARENT/models?filter=size%3E1", None, (400, "INVALID_ARGUMENT"), "size"),
        ("GET", "projects/p/locations/Mars/models", None, (400, "INVALID_ARGUMENT"), "Mars"),
        ("GET", "PARENT/models/iris:fly", None, (404, "NOT_FOUND"), "no call"),
        ("PUT", "PARENT/models/iris", {}, (404, "NOT_FOUND"), "this path takes DELETE, GET, PATCH"),
        ("GET", "PARENT/datasets", None, (404, "NOT_FOUND"), "emulator"),
        ("POST", "PARENT/customJobs", {}, (501, "UNIMPLEMENTED"), "CreateCustomJob"),
        ("POST", "PARENT/deploymentResourcePools", {}, (400, "FAILED_PRECONDITION"), "prebuilt"),
    ],
)
def test_errors_have_googles_form(plain, verb, path, body, status, words):
    code, name, message = plain.refused(verb, path, body)
    assert (code, name) == status
    assert words in message


def test_what_is_no_json_and_what_is_too_large(plain):
    url = f"{plain.root}/v1/{plain.parent}/models:upload"
    for body, words in ((b"{", "Invalid JSON"), (b"x" * 10_000_001, "larger than 10000000 bytes")):
        error = plain.session.post(url, data=body).json()["error"]
        assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
        assert words in error["message"]


def test_parameters_of_every_google_api_are_passed_over(plain):
    extra = (
        "prettyPrint=false&alt=json&key=AIza&access_token=x&quotaUser=me&fields=models&%24.xgafv=2&upload_protocol=raw"
    )
    assert plain.call("GET", f"PARENT/models?{extra}") == {}


def test_operations_are_listed_waited_for_and_deleted(plain):
    operation = plain.call("POST", "PARENT/endpoints?endpointId=e", {"displayName": "e"})
    ended = plain.call("POST", f"{operation['name']}:wait", {"timeout": "5s"})
    assert ended["done"]
    assert plain.call("POST", f"{operation['name']}:wait?timeout=5s", version="ui") == ended
    for where in ("PARENT/operations", "PARENT/endpoints/e/operations"):
        assert plain.call("GET", f"{where}?pageSize=5&filter=done%3Dtrue") == {"operations": [ended]}
    assert plain.call("POST", f"{operation['name']}:cancel", {}) == {}
    assert plain.call("DELETE", operation["name"]) == {}
    assert plain.refused("GET", operation["name"])[:2] == (404, "NOT_FOUND")
    assert plain.refused("POST", f"{quote('PARENT')}/operations/1:wait", {"timeout": "soon"})[0] == 400


def test_the_beta_version_speaks_of_its_own_messages(plain):
    body = {"displayName": "e", "fieldOfTomorrow": {"x": 1}}
    operation = plain.call("POST", "PARENT/endpoints?endpointId=e&newParameter=1", body, version="v1beta1")
    assert operation["metadata"]["@type"].startswith("type.googleapis.com/google.cloud.aiplatform.v1beta1.")
    ended = plain.call("GET", operation["name"], version="ui")
    assert ended["response"]["@type"] == "type.googleapis.com/google.cloud.aiplatform.v1beta1.Endpoint"
    other = plain.call("POST", "PARENT/endpoints?endpointId=f", {"displayName": "f"})
    plain.call("GET", other["name"], version="v1beta1")
    assert plain.call("GET", other["name"])["metadata"]["@type"].startswith(
        "type.googleapis.com/google.cloud.aiplatform.v1."
    )


def test_a_foreign_host_and_a_page_from_elsewhere_are_refused(plain):
    for headers in (
        {"Host": "rebound.example"},
        {"Origin": "https://page.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        assert plain.refused("GET", "PARENT/models", headers=headers)[:2] == (403, "PERMISSION_DENIED")


def test_curl_as_the_tutorials_have_it(emulator, parent, tmp_path):
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"display_name": "e"}))
    command = [
        *("curl", "-sS", "-X", "POST", "-H", "Authorization: Bearer token"),
        *("-H", "Content-Type: application/json; charset=utf-8", "-d", f"@{request}"),
        f"https://{HOST}/v1/{parent}/endpoints",
    ]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert answer["metadata"]["@type"].endswith(".v1.CreateEndpointOperationMetadata")


def test_a_fault_of_the_emulator_itself_has_googles_form_too():
    def broken(*_):
        raise RuntimeError("out of order")

    lines, sent = [], []
    service = SimpleNamespace(seen=broken, fleet=SimpleNamespace(report=lines.append))
    scope = {"type": "http", "method": "GET", "path": "/v1/projects/p", "query_string": b"", "headers": []}

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    asyncio.run(Rest(service, None, None)(scope, receive, send))
    assert sent[0]["status"] == 500
    error = json.loads(sent[1]["body"])["error"]
    assert (error["status"], error["message"]) == ("INTERNAL", "the emulator failed: RuntimeError: out of order")
    assert "in broken" in lines[0]
