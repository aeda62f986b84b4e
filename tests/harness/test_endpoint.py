import base64
import json
import logging
import sys
import threading
import types

import pytest
from script_engine import free_port

from cpr_kit.contract import AIP_VARIABLES, Deployment, Probe
from cpr_kit.engine.protocol import Gpus, Image
from cpr_kit.errors import ContainerError, PredictionError, SpecError
from cpr_kit.harness import probes
from cpr_kit.harness.endpoint import LocalEndpoint, Prediction


@pytest.fixture
def endpoint(scripts, spec):
    """Makes an endpoint for a script; whatever was served is stopped when the test ends."""
    made = []

    def make(name, *, fields=None, **options):
        options.setdefault("environ", {})
        made.append(LocalEndpoint(spec(name, **(fields or {})), scripts, ready_interval_s=0.02, **options))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def report(served):
    return served.predict(instances=[]).predictions[0]


def test_a_with_block_serves_and_removes(endpoint, scripts):
    with endpoint("healthy") as served:
        assert served.container_is_running
        assert served.get_container_status() == "running"
        assert served.url == f"http://127.0.0.1:{served.assigned_host_port}"
    assert not served.container_is_running
    assert served.get_container_status() == "removed"


def test_serve_and_stop_work_without_a_with_block_and_again(endpoint):
    served = endpoint("healthy")
    for _ in range(2):
        served.serve()
        assert served.predict(instances=[[1, 2]]).predictions == [3]
        served.stop()
        served.stop()


def test_a_second_serve_is_a_warning_and_starts_nothing(endpoint, scripts, caplog):
    with endpoint("healthy") as served:
        served.serve()
    assert len(scripts.containers) == 1
    assert "serving already" in caplog.text


def test_an_error_in_the_with_block_removes_the_container(endpoint):
    served = endpoint("healthy")
    with pytest.raises(ZeroDivisionError), served:
        raise ZeroDivisionError
    assert served.get_container_status() == "removed"


@pytest.mark.parametrize("name", ["exits_at_start", "never_healthy", "never_listens"])
def test_a_half_start_is_undone_and_its_logs_stay(endpoint, name):
    served = endpoint(name, ready_timeout_s=1)
    with pytest.raises(ContainerError) as caught:
        served.serve()
    assert served.get_container_status() == "removed"
    assert caught.value.logs
    assert served.container.logs().startswith(caught.value.logs)


def test_an_interrupted_start_is_undone(endpoint, scripts, monkeypatch):
    served = endpoint("never_healthy")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(probes, "_wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        served.serve()
    assert not scripts.left_running()


@pytest.mark.parametrize(
    "call",
    [
        lambda served: served.predict(request={}),
        lambda served: served.predict(instances=[]),
        lambda served: served.raw_predict(b""),
        lambda served: served.run_health_check(),
        lambda served: served.url,
    ],
    ids=["predict", "instances", "raw_predict", "run_health_check", "url"],
)
@pytest.mark.parametrize("stopped", [False, True])
def test_asking_an_endpoint_that_does_not_serve_is_a_runtime_error(endpoint, call, stopped):
    served = endpoint("healthy")
    if stopped:
        with served:
            pass
    with pytest.raises(RuntimeError, match="not serving traffic"):
        call(served)


def test_logs_and_status_before_the_first_serve_are_runtime_errors(endpoint):
    served = endpoint("healthy")
    for call in (served.get_container_status, served.print_container_logs):
        with pytest.raises(RuntimeError, match=r"call `serve\(\)`"):
            call()


def test_a_request_is_answered_with_a_response(endpoint, tmp_path):
    file = tmp_path / "rows.json"
    file.write_text('{"instances": [[5, 6]]}')
    with endpoint("healthy") as served:
        answers = [
            served.predict('{"instances": [[1, 2]]}'),
            served.predict(request={"instances": [[3, 4]]}),
            served.predict(request_file=str(file), headers={"X": "y"}, verbose=False),
        ]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert [answer.json()["predictions"] for answer in answers] == [[3], [7], [11]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs to be specified"),
        ({"request": "{}", "request_file": "x.json"}, "same time"),
        ({"request": "{}", "instances": []}, "together"),
        ({"request_file": "no/such.json"}, "request_file does not exist: no/such.json"),
        ({"request": "{}", "parameters": {}}, "parameters"),
    ],
)
def test_unclear_requests_are_value_errors(endpoint, arguments, message):
    with endpoint("healthy") as served, pytest.raises(ValueError, match=message):
        served.predict(**arguments)


def test_instances_are_answered_as_the_cloud_does(endpoint):
    deployment = Deployment(deployed_model_id="77")
    with endpoint("reports_request", deployment=deployment) as served:
        answer = served.predict(instances=[[1]], parameters={"k": 2})
    assert isinstance(answer, Prediction)
    assert json.loads(base64.b64decode(answer.predictions[0]["body"])) == {"instances": [[1]], "parameters": {"k": 2}}
    assert answer.deployed_model_id == "77"
    assert answer.metadata == "seen"
    assert (answer.model_version_id, answer.model_resource_name, answer.explanations) == (None, None, None)


def test_the_fields_of_a_prediction_are_the_sdks(endpoint):
    models = pytest.importorskip("google.cloud.aiplatform.models")
    assert Prediction._fields == models.Prediction._fields


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("refuses_instances", 400, "answered 400: each instance needs 4 numbers$"),
        ("refuses_with_detail", 500, "answered 500: An exception KeyError occurred$"),
        ("forgets_predictions", 200, "no JSON object"),
        ("predictions_in_an_object", 200, "no JSON object"),
        ("answers_text", 200, "versicolor"),
    ],
)
def test_an_answer_that_is_no_prediction_raises_with_the_servers_message(endpoint, name, status, message):
    with endpoint(name) as served, pytest.raises(PredictionError, match=message) as caught:
        served.predict(instances=[[1]])
    assert caught.value.status_code == status


def test_an_error_status_of_a_request_is_returned_not_raised(endpoint):
    with endpoint("refuses_instances") as served:
        assert served.predict(request={"instances": []}).status_code == 400


def test_raw_bodies_and_headers_arrive_unchanged(endpoint):
    body = bytes(range(256)) + b"\r\n"
    with endpoint("reports_request") as served:
        first = served.raw(body, "text/csv").json()["predictions"][0]
        second = served.raw_predict(body, {"content-type": "x/y", "X-Mine": "1"}).json()["predictions"][0]
    assert base64.b64decode(first["body"]) == base64.b64decode(second["body"]) == body
    assert first["headers"]["content-type"] == "text/csv"
    assert second["headers"]["content-type"] == "x/y"
    assert second["headers"]["x-mine"] == "1"


def test_a_container_that_dies_during_a_request_is_named_with_its_logs(endpoint):
    with endpoint("dies_after_first_request") as served:
        with pytest.raises(ContainerError, match="ended with exit code 137 during the prediction") as caught:
            served.predict(instances=[[1]], verbose=False)
        assert not served.container_is_running
    assert "out of memory" in caught.value.logs


def test_a_late_answer_is_a_prediction_error(endpoint, caplog):
    with endpoint("never_answers_predictions", request_timeout_s=0.3) as served:
        with pytest.raises(PredictionError, match=r"no answer within 0\.3 s"):
            served.predict(request="{}")
        assert "Exception during prediction" in caplog.text
        caplog.clear()
        with pytest.raises(PredictionError):
            served.predict(request="{}", verbose=False)
        assert not caplog.text


def test_run_health_check_returns_the_response(endpoint):
    with endpoint("healthy") as served:
        assert served.run_health_check().status_code == 200


def test_all_variables_of_the_platform_reach_the_container(endpoint):
    deployment = Deployment(accelerator_type="NVIDIA_TESLA_T4")
    fields = {"env": {"WHERE": "$(AIP_MODE) $$(X) $(NONE)"}}
    with endpoint("reports_request", fields=fields, deployment=deployment) as served:
        environment = report(served)["environment"]
    assert set(AIP_VARIABLES) <= set(environment)
    assert environment["AIP_HTTP_PORT"] == str(served.assigned_host_port)
    assert environment["AIP_STORAGE_URI"] == ""
    assert environment["WHERE"] == "PREDICTION $(X) $(NONE)"


def test_routes_left_out_are_vertex_ais_own(endpoint):
    deployment = Deployment(endpoint_id="1", deployed_model_id="2")
    fields = {"predict_route": None, "health_route": None}
    with endpoint("healthy", fields=fields, deployment=deployment) as served:
        assert served.serving_container_predict_route == "/v1/endpoints/1/deployedModels/2:predict"
        assert served.serving_container_health_route == "/v1/endpoints/1/deployedModels/2"
        assert served.predict(instances=[[1]]).predictions == [1]


def test_a_folder_of_artifacts_is_one_mount_and_where_it_lies_is_said(endpoint, scripts, tmp_path):
    (tmp_path / "model").mkdir()
    with endpoint("reports_request", artifact_uri=tmp_path / "model") as served:
        environment = report(served)["environment"]
    mount = scripts.runs[0].mounts[0]
    assert (mount.source, mount.target) == (tmp_path / "model", "/tmp_cpr_local_model")
    assert environment["AIP_STORAGE_URI"] == scripts.locate(mount)
    assert len(scripts.runs[0].mounts) == 1


def test_artifacts_in_the_cloud_are_passed_through(endpoint, scripts):
    with endpoint("reports_request", artifact_uri="gs://bucket/model") as served:
        assert report(served)["environment"]["AIP_STORAGE_URI"] == "gs://bucket/model"
    assert scripts.runs[0].mounts == ()


def test_artifacts_that_are_not_there_are_named(endpoint, scripts, tmp_path):
    with pytest.raises(ValueError, match=r"no_model\" does not exist"):
        endpoint("healthy", artifact_uri=str(tmp_path / "no_model")).serve()
    (tmp_path / "model.joblib").touch()
    with pytest.raises(ValueError, match=r"model\.joblib\" is a file"):
        endpoint("healthy", artifact_uri=tmp_path / "model.joblib").serve()
    assert not scripts.runs


@pytest.mark.parametrize(
    ("image", "environ", "env", "expected"),
    [
        ({}, {}, {}, "text"),
        ({}, {"CPR_SERVE_LOG_FORMAT": "json"}, {}, "json"),
        ({}, {}, {"CPR_SERVE_LOG_FORMAT": "json"}, "json"),
        ({"CPR_SERVE_LOG_FORMAT": "json"}, {}, {}, None),
    ],
)
def test_the_log_is_plain_text_here_unless_somebody_asked_for_json(
    endpoint, scripts, monkeypatch, image, environ, env, expected
):
    monkeypatch.setattr(scripts, "image", lambda reference: Image(reference=reference, id=reference, env=image))
    with endpoint("reports_request", environ=environ, fields={"env": env}) as served:
        environment = report(served)["environment"]
    assert environment.get("CPR_SERVE_LOG_FORMAT") == expected


@pytest.mark.parametrize("origin", ["argument", "environment"])
def test_a_key_is_mounted_and_named(endpoint, scripts, tmp_path, origin):
    key = tmp_path / "key.json"
    key.write_text("{}")
    options = (
        {"credential_path": key} if origin == "argument" else {"environ": {"GOOGLE_APPLICATION_CREDENTIALS": str(key)}}
    )
    with endpoint("reports_request", **options) as served:
        environment = report(served)["environment"]
    mount = scripts.runs[0].mounts[0]
    assert (mount.source, mount.target) == (key, "/tmp/keys/cred_key.json")
    assert environment["GOOGLE_APPLICATION_CREDENTIALS"] == scripts.locate(mount)


@pytest.mark.parametrize(
    ("options", "origin"),
    [
        ({"credential_path": "no/key.json"}, "credential_path"),
        ({"environ": {"GOOGLE_APPLICATION_CREDENTIALS": "no/key.json"}}, "GOOGLE_APPLICATION_CREDENTIALS"),
    ],
)
def test_a_key_that_is_not_there_is_named_with_its_origin(endpoint, options, origin):
    with pytest.raises(ValueError, match=rf"{origin} does not exist: \"no/key\.json\""):
        endpoint("healthy", **options).serve()


def test_the_project_is_the_environments_unless_the_sdk_was_initialised(endpoint, monkeypatch):
    monkeypatch.delitem(sys.modules, "google.cloud.aiplatform.initializer", raising=False)
    with endpoint("reports_request", environ={"GOOGLE_CLOUD_PROJECT": "from-environment"}) as served:
        assert report(served)["environment"]["GOOGLE_CLOUD_PROJECT"] == "from-environment"
    initializer = types.SimpleNamespace(global_config=types.SimpleNamespace(_project="from-init"))
    monkeypatch.setitem(sys.modules, "google.cloud.aiplatform.initializer", initializer)
    with endpoint("reports_request", environ={"GOOGLE_CLOUD_PROJECT": "from-environment"}) as served:
        assert report(served)["environment"]["GOOGLE_CLOUD_PROJECT"] == "from-init"


def test_without_a_project_the_variable_is_not_set(endpoint, monkeypatch):
    monkeypatch.delitem(sys.modules, "google.cloud.aiplatform.initializer", raising=False)
    with endpoint("reports_request") as served:
        assert "GOOGLE_CLOUD_PROJECT" not in report(served)["environment"]


def test_the_sdk_really_keeps_its_project_where_we_look():
    aiplatform = pytest.importorskip("google.cloud.aiplatform")
    config = type(aiplatform.initializer.global_config)()
    config.init(project="mine", location="us-central1")
    assert config._project == "mine"


def test_a_host_port_is_respected(endpoint):
    port = free_port()
    with endpoint("healthy", host_port=port) as served:
        assert served.assigned_host_port == port
        assert served.predict(instances=[[1]]).predictions == [1]


def test_what_only_an_engine_can_give_is_handed_to_it(endpoint, scripts):
    gpus = Gpus(count=1)
    fields = {"shared_memory_size_mb": 64, "command": (sys.executable, "$(SCRIPT)"), "env": {"SCRIPT": "x"}}
    served = endpoint("healthy", fields=fields, gpus=gpus)
    with pytest.raises(ContainerError):
        served.serve()
    run = scripts.runs[0]
    assert (run.gpus, run.shared_memory_size_mb, run.command) == (gpus, 64, (sys.executable, "x"))


def test_a_probe_that_cannot_be_asked_here_is_refused_before_the_start(endpoint, scripts):
    with pytest.raises(SpecError, match="port 9090"):
        endpoint("healthy", fields={"health_probe": Probe(tcp=True, port=9090)}).serve()
    assert not scripts.runs


def test_logs_are_printed_once_each_and_in_full_on_demand(endpoint, capsys):
    with endpoint("healthy") as served:
        served.print_container_logs(message="so far:")
        first = capsys.readouterr().out
        served.predict(instances=[[1]])
        served.print_container_logs()
        second = capsys.readouterr().out
        served.print_container_logs_if_container_is_not_running()
        assert not capsys.readouterr().out
    served.print_container_logs_if_container_is_not_running(show_all=True, message="all:")
    everything = capsys.readouterr().out
    assert first.startswith("so far:\nserving on ")
    assert "serving on" not in second
    assert "POST /predict" in second
    assert everything.startswith("all:\nserving on ")
    assert "POST /predict" in everything


def test_serving_leaves_no_thread_and_no_log_handler(endpoint):
    handlers, before = list(logging.getLogger().handlers), set(threading.enumerate())
    with endpoint("healthy"):
        pass
    assert set(threading.enumerate()) <= before  # the SDK's own, of tests that ran before, may stay
    assert logging.getLogger().handlers == handlers
