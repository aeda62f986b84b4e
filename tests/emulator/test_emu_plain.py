"""Plain mode, where a program names the emulator itself; and who is refused, whatever the mode."""

import http.client
import json

import pytest
import requests
from emu_data_plane import JSON, LOCATION, PROJECT, ROUTES, TAG, built, do, prediction_client
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
from google.cloud.aiplatform import gapic, initializer

from cpr_kit.emulator.app import Emulator
from cpr_kit.engine.choose import choose

PARENT = f"projects/{PROJECT}/locations/{LOCATION}"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory):
    engine = choose("process").engine
    built(engine, tmp_path_factory.mktemp("plain"))
    with Emulator(engine=engine) as made:
        yield made
    engine.remove_image(TAG)


@pytest.fixture
def plain(emulator):
    """The SDK as its user sets it for plain mode; the environment knows of no emulator."""
    initializer.global_config._credentials = None
    aiplatform.init(
        project=PROJECT,
        location=LOCATION,
        api_endpoint=emulator.url,
        api_transport="rest",
        credentials=AnonymousCredentials(),
    )
    yield emulator.url
    for name in ("api_endpoint", "api_transport", "credentials", "project", "location"):
        setattr(initializer.global_config, f"_{name}", None)


@pytest.fixture(scope="module")
def direct():
    with requests.Session() as session:
        session.trust_env = False
        yield session


def test_the_sdk_in_plain_mode(plain, direct):
    model = aiplatform.Model.upload(display_name="m", serving_container_image_uri=TAG, **ROUTES)
    endpoint = aiplatform.Endpoint.create(display_name="e")
    model.deploy(endpoint=endpoint, machine_type="n1-standard-2")
    answer = endpoint.predict(instances=[do("show"), 1])
    assert json.loads(answer.predictions[0]["body"])["instances"][1] == 1.0
    with pytest.raises(exceptions.ServiceUnavailable, match="busy"):
        endpoint.predict(instances=[do("answer", status=503, text="busy")])
    with pytest.raises(exceptions.BadRequest, match="explanationSpec"):
        endpoint.explain(instances=[1])
    # By hand: the routes that the SDK asks at a host of its own making.
    there = f"{plain}/v1/{PARENT}/endpoints/{endpoint.name}"
    raw = direct.post(f"{there}:rawPredict", data=json.dumps(do("who")), headers=JSON)
    assert raw.json()["predictions"][0]["id"] == raw.headers["x-vertex-ai-deployed-model-id"]
    stream = direct.post(f"{there}:streamRawPredict", data=b"abc", headers={"Content-Type": "text/plain"})
    assert stream.content == b"cba"
    assert direct.get(f"{there}:predict").status_code == 404
    endpoint.update(display_name="other")
    assert [each.name for each in aiplatform.Endpoint.list(filter='display_name="other"')] == [endpoint.name]
    endpoint.delete(force=True)
    model.delete()


def test_other_kinds_of_endpoint_in_plain_mode(plain, direct):
    model = aiplatform.Model.upload(display_name="m", serving_container_image_uri=TAG, **ROUTES)
    private = aiplatform.PrivateEndpoint.create(display_name="p", network="projects/123/global/networks/default")
    model.deploy(endpoint=private, machine_type="n1-standard-2")
    assert private.predict(instances=[do("who")]).predictions[0]["id"] == private.list_models()[0].id
    assert private.health_check()
    private.undeploy(private.list_models()[0].id)
    private.delete()
    dedicated = aiplatform.Endpoint.create(display_name="d", dedicated_endpoint_enabled=True)
    model.deploy(endpoint=dedicated, machine_type="n1-standard-2")
    answer = direct.post(f"{plain}/v1/{dedicated.resource_name}:predict", json={"instances": [do("show"), 1]})
    assert json.loads(answer.json()["predictions"][0]["body"])["instances"][1] == 1
    assert '"instances": [{"do": "show"}, 1]' in answer.json()["predictions"][0]["body"]
    dedicated.delete(force=True)
    model.delete()


def test_gapic_in_plain_mode(plain):
    client = gapic.PredictionServiceClient(
        transport="rest", credentials=AnonymousCredentials(), client_options={"api_endpoint": plain}
    )
    with pytest.raises(exceptions.NotFound, match="endpoints/404 does not exist"):
        client.predict(endpoint=f"{PARENT}/endpoints/404", instances=[1])


# Who may ask

PATHS = [
    f"/v1/{PARENT}/models",
    "/emulator/",
    "/emulator/faults",
    "/storage/v1/b?project=p",
    "/computeMetadata/v1/instance/service-accounts/default/token",
]


def ask(emulator, path, host=None, method="GET", **headers):
    """Past requests, which would set a Host of its own."""
    port = int(emulator.url.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest(method, path, skip_host=True)
        if host != "":
            connection.putheader("Host", host or f"127.0.0.1:{port}")
        for name, value in {"Metadata-Flavor": "Google", **headers}.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "8.8.8.8", "x" * 300, "@"],
)
def test_a_host_that_is_not_ours(emulator, path, host):
    status, body, _ = ask(emulator, path, host)
    assert status == 403
    assert json.loads(body)["error"]["status"] == "PERMISSION_DENIED"


@pytest.mark.parametrize("path", PATHS)
def test_a_request_without_a_host(emulator, path):
    assert ask(emulator, path, "")[0] in (400, 403)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1", "[::1]:80", "us-central1-aiplatform.googleapis.com"]
)
def test_a_host_that_is_ours(emulator, host):
    assert ask(emulator, PATHS[0], host)[0] == 200


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_browser_s_page_from_elsewhere(emulator, path, headers, method):
    status, _, answered = ask(emulator, path, method=method, **headers)
    assert status == 403
    assert not [name for name in answered if name.lower().startswith("access-control")]


def test_a_page_of_the_emulator_s_own(emulator):
    own = {"Origin": emulator.url, "Sec_Fetch_Site": "same-origin"}
    assert ask(emulator, "/emulator/", **own)[0] == 200
    assert ask(emulator, "/emulator/", Sec_Fetch_Site="none")[0] == 200


@pytest.mark.parametrize("target", ["http://evil.example/emulator/", "http://127.0.0.1:1/emulator/"])
def test_as_a_proxy_it_asks_nobody_else(emulator, target):
    assert ask(emulator, target)[0] == 403


def test_a_private_address_is_ours_while_an_endpoint_is_asked_there(emulator, plain):
    assert ask(emulator, PATHS[0], "10.1.2.3")[0] == 403
    config = {"project_allowlist": [PROJECT]}
    made = aiplatform.PrivateEndpoint.create(
        display_name="p",
        private_service_connect_config=aiplatform.PrivateEndpoint.PrivateServiceConnectConfig(**config),
    )
    assert ask(emulator, PATHS[0], "10.1.2.3")[0] == 200
    assert ask(emulator, PATHS[0], "8.8.8.8")[0] == 403
    made.delete()
    assert ask(emulator, PATHS[0], "10.1.2.3")[0] == 403


def test_a_fault_that_is_nested_too_deep(emulator, direct):
    answer = direct.post(f"{emulator.url}/emulator/faults", data="[" * 100_000, headers=JSON)
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_a_stored_page_is_no_page_of_the_emulator_s(emulator, direct):
    there = {"uploadType": "media", "name": "page.html"}
    direct.post(f"{emulator.url}/storage/v1/b", params={"project": PROJECT}, json={"name": "pages-bucket"})
    made = direct.post(
        f"{emulator.url}/upload/storage/v1/b/pages-bucket/o",
        params=there,
        data="<script>fetch('/emulator/')</script>",
        headers={"Content-Type": "text/html"},
    )
    assert made.status_code == 200
    page = direct.get(f"{emulator.url}/storage/v1/b/pages-bucket/o/page.html", params={"alt": "media"})
    assert (page.headers["Content-Type"], page.headers["Content-Security-Policy"]) == ("text/html", "sandbox")


def test_what_is_no_call_at_all(emulator):
    for path in ("/v1", "/v2/projects/p", "/v1/x", "/v1/projects/p/locations/l/endpoints/e:fly", "/emulator/x"):
        assert ask(emulator, path)[0] == 404, path


# What a container may ask


def test_docker_desktop_s_containers_are_answered_by_the_name_they_have(tmp_path, monkeypatch, direct):
    """They name host.docker.internal, and what they send comes to 127.0.0.1."""
    engine = choose("process").engine
    built(engine, tmp_path)
    monkeypatch.setattr(engine, "host_address", lambda: "host.docker.internal")
    with Emulator(engine=engine) as emulator:
        for path in PATHS:
            assert ask(emulator, path, "host.docker.internal")[0] == 403
        client = {"api_endpoint": emulator.url}
        init = {
            "project": PROJECT,
            "location": LOCATION,
            "api_transport": "rest",
            "credentials": AnonymousCredentials(),
        }
        initializer.global_config._credentials = None
        aiplatform.init(**client, **init)
        try:
            model = aiplatform.Model.upload(display_name="m", serving_container_image_uri=TAG, **ROUTES)
            endpoint = aiplatform.Endpoint.create(display_name="e")
            model.deploy(endpoint=endpoint, machine_type="n1-standard-2")
            env = endpoint.predict(instances=[do("env")]).predictions[0]
        finally:
            for name in (*client, *init):
                setattr(initializer.global_config, f"_{name}", None)
        host = env["GCE_METADATA_HOST"]
        assert host.startswith("host.docker.internal:") and env["STORAGE_EMULATOR_HOST"] == f"http://{host}"
        here = f"http://127.0.0.1:{host.rpartition(':')[2]}"
        headers = {"Host": host, "Metadata-Flavor": "Google"}
        assert direct.get(f"{here}/storage/v1/b?project=p", headers=headers).status_code == 200
        token = "/computeMetadata/v1/instance/service-accounts/default/token"
        assert direct.get(f"{here}{token}", headers=headers).json()["access_token"]
        assert direct.get(f"{here}{PATHS[0]}", headers=headers).status_code == 403
        evil = {**headers, "Host": "evil.example"}
        assert direct.get(f"{here}/storage/v1/b?project=p", headers=evil).status_code == 403


@pytest.mark.engine
def test_a_container_is_answered_for_storage_tokens_and_metadata_alone(tmp_path, direct):
    engine = choose("docker").engine
    built(engine, tmp_path)
    try:
        with Emulator(engine=engine) as emulator:
            initializer.global_config._credentials = None
            aiplatform.init(
                project=PROJECT,
                location=LOCATION,
                api_endpoint=emulator.url,
                api_transport="rest",
                credentials=AnonymousCredentials(),
            )
            model = aiplatform.Model.upload(display_name="m", serving_container_image_uri=TAG, **ROUTES)
            endpoint = aiplatform.Endpoint.create(display_name="e")
            model.deploy(endpoint=endpoint, machine_type="n1-standard-2")
            env = endpoint.predict(instances=[do("env")]).predictions[0]
            assert env["AIP_ENDPOINT_ID"] == endpoint.name
            assert env["AIP_MACHINE_TYPE"] == "n1-standard-2"
            seen = env["STORAGE_EMULATOR_HOST"]
            assert "127.0.0.1" not in seen
            assert direct.get(f"{seen}/storage/v1/b", params={"project": "p"}).status_code == 200
            token = f"http://{env['GCE_METADATA_HOST']}/computeMetadata/v1/instance/service-accounts/default/token"
            assert direct.get(token, headers={"Metadata-Flavor": "Google"}).json()["access_token"]
            for path in (
                f"/v1/{PARENT}/models",
                "/emulator/",
                "/emulator/faults",
                f"/v1/{endpoint.resource_name}:predict",
            ):
                assert direct.get(f"{seen}{path}").status_code == 403
                assert direct.post(f"{seen}{path}", json={}).status_code == 403
            evil = direct.get(f"{seen}/storage/v1/b", params={"project": "p"}, headers={"Host": "evil.example"})
            assert evil.status_code == 403
            endpoint.delete(force=True)
    finally:
        for name in ("api_endpoint", "api_transport", "credentials", "project", "location"):
            setattr(initializer.global_config, f"_{name}", None)
        engine.remove_image(TAG)


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("bigquery.googleapis.com", "/bigquery/v2/projects/p/datasets"),
        ("www.googleapis.com", "/discovery/v1/apis"),
        ("notaiplatform.googleapis.com", "/v1/x"),
        ("prediction.googleapis.com", "/"),
    ],
)
def test_googles_other_services_are_refused_by_name(direct, host, path):
    lines = []
    with Emulator(engine=choose("process").engine, show=lines.append) as made:
        answer = direct.get(f"{made.url}{path}", headers={"Host": host})
    error = answer.json()["error"]
    assert (answer.status_code, error["status"]) == (501, "UNIMPLEMENTED")
    assert error["message"].startswith(f"{host} is not emulated; ")
    assert [(line.method, line.status) for line in lines] == [(f"GET {host}{path}", "UNIMPLEMENTED")]


@pytest.mark.parametrize(
    ("host", "path", "status"),
    [
        ("us-central1-aiplatform.googleapis.com", f"/v1/{PARENT}/models", 200),
        ("aiplatform.mtls.googleapis.com", f"/v1/{PARENT}/models", 200),
        ("us-central1-aiplatform.mtls.googleapis.com", f"/v1/{PARENT}/models", 200),
        ("1.us-central1-1.prediction.vertexai.goog", f"/v1/{PARENT}/models", 200),
        ("storage.googleapis.com", "/storage/v1/b?project=p", 200),
        ("www.googleapis.com", "/storage/v1/b?project=p", 200),
        ("cloudresourcemanager.mtls.googleapis.com", f"/v1/projects/{PROJECT}", 200),
    ],
)
def test_what_is_emulated_answers_at_its_own_hosts(emulator, direct, host, path, status):
    assert direct.get(f"{emulator.url}{path}", headers={"Host": host}).status_code == status


def test_an_engine_that_was_chosen_is_noted_and_a_folder_without_logs_goes(monkeypatch):
    monkeypatch.setenv("CPR_ENGINE", "process")
    notes = []
    with Emulator(note=notes.append) as made:
        assert made.logs.is_dir()
    assert any(each.startswith("process: a process of this machine") for each in notes)
    assert not made.logs.exists()


def test_logs_stay():
    with Emulator(engine=choose("process").engine) as made:
        (made.logs / "e-1-0.log").write_text("said")
    assert (made.logs / "e-1-0.log").read_text() == "said"


def test_an_image_that_is_missing_names_its_engine(plain):
    with pytest.raises(exceptions.FailedPrecondition, match="cpr build DIR -t none:1 --engine process"):
        aiplatform.Model.upload(display_name="m", serving_container_image_uri="none:1", **ROUTES)
