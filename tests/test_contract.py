import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpr_kit import contract
from cpr_kit.contract import ContainerSpec, Deployment, Probe, ServingEnv, expand, launch
from cpr_kit.errors import SpecError, StartError

IMAGE = "us-docker.pkg.dev/p/r/i"


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("--path=$(AIP_STORAGE_URI)", "--path=gs://b/m"),
        ("$(A)$(A)", "11"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$$(A)"),
        ("$(UNKNOWN) $( A) $A ${A} $$A", "$(UNKNOWN) $( A) $A ${A} $$A"),
        ("$(A", "$(A"),
        ("", ""),
    ],
)
def test_references_expand_as_vertex_does(text, expanded):
    assert expand(text, {"AIP_STORAGE_URI": "gs://b/m", "A": "1"}) == expanded


@given(st.text())
def test_text_without_references_stays(text):
    assert expand(text.replace("$(", "("), {"A": "1"}) == text.replace("$(", "(")


@given(st.from_regex(r"[A-Z_]{1,5}", fullmatch=True), st.text(), st.text())
def test_an_escaped_reference_is_never_expanded(name, before, value):
    before = before.replace("$", "")
    assert expand(f"{before}$$({name})", {name: value}) == f"{before}$({name})"


def test_a_foreign_image_gets_vertexs_own_defaults():
    deployment = Deployment(endpoint_id="12", deployed_model_id="34")
    resolved = launch(ContainerSpec(image_uri=IMAGE), deployment)

    assert resolved.port == 8080
    assert resolved.health_route == "/v1/endpoints/12/deployedModels/34"
    assert resolved.predict_route == "/v1/endpoints/12/deployedModels/34:predict"


def test_an_image_of_the_kit_names_its_routes():
    resolved = launch(ContainerSpec.kit(IMAGE), Deployment())
    assert (resolved.predict_route, resolved.health_route, resolved.port) == ("/predict", "/health", 8080)


def test_every_variable_is_set():
    deployment = Deployment(
        storage_uri="gs://b/m", project_number="5", endpoint_id="12", deployed_model_id="34",
        machine_type="n1-standard-4", accelerator_type="NVIDIA_TESLA_T4",
    )  # fmt: skip
    env = launch(ContainerSpec(image_uri=IMAGE, ports=(9000, 9001)), deployment).env

    assert env == {
        "AIP_HTTP_PORT": "9000",
        "AIP_HEALTH_ROUTE": "/v1/endpoints/12/deployedModels/34",
        "AIP_PREDICT_ROUTE": "/v1/endpoints/12/deployedModels/34:predict",
        "AIP_STORAGE_URI": "gs://b/m",
        "AIP_MODE": "PREDICTION",
        "AIP_MODE_VERSION": "1.0.0",
        "AIP_FRAMEWORK": "CUSTOM_CONTAINER",
        "AIP_PROJECT_NUMBER": "5",
        "AIP_ENDPOINT_ID": "12",
        "AIP_DEPLOYED_MODEL_ID": "34",
        "AIP_MACHINE_TYPE": "n1-standard-4",
        "AIP_ACCELERATOR_TYPE": "NVIDIA_TESLA_T4",
        "AIP_MODEL_NAME": "12",
        "AIP_VERSION_NAME": "34",
    }
    assert set(env) == set(contract.AIP_VARIABLES)


def test_without_an_accelerator_its_variable_is_unset():
    assert "AIP_ACCELERATOR_TYPE" not in launch(ContainerSpec(image_uri=IMAGE), Deployment()).env


def test_an_entry_sees_the_platforms_variables_and_entries_before_it():
    spec = ContainerSpec(
        image_uri=IMAGE,
        env={"EARLY": "$(LATE) $(AIP_MODE)", "LATE": "$(EARLY)"},
        command=("serve", "$(LATE)"),
        args=("--port=$(AIP_HTTP_PORT)", "$(PATH)"),
    )
    resolved = launch(spec, Deployment())

    assert resolved.env["EARLY"] == "$(LATE) PREDICTION"
    assert resolved.env["LATE"] == "$(LATE) PREDICTION"
    assert resolved.command == ("serve", "$(LATE) PREDICTION")
    assert resolved.args == ("--port=8080", "$(PATH)")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"env": {"AIP_MODE": "x"}}, "AIP_MODE is set by Vertex AI"),
        ({"env": {"A-B": "x"}}, '"A-B" is not a name'),
        ({"ports": (0,)}, "port 0"),
        ({"grpc_ports": (70000,)}, "port 70000"),
        ({"predict_route": "predict"}, 'predict_route is "predict"'),
        ({"deployment_timeout_s": 7201}, "2 h at most"),
    ],
)
def test_what_vertex_would_refuse_is_refused_with_the_value(fields, message):
    with pytest.raises(SpecError, match=message):
        ContainerSpec(image_uri=IMAGE, **fields)


@pytest.mark.parametrize(
    "fields",
    [{}, {"tcp": True, "http_path": "/"}, {"tcp": True, "period_s": 0.5}, {"tcp": True, "failure_threshold": 0}],
)
def test_a_probe_has_one_action_and_sane_numbers(fields):
    with pytest.raises(SpecError):
        Probe(**fields)


def test_the_environment_comes_back_on_the_other_side():
    deployment = Deployment(storage_uri="gs://b/m", accelerator_type="NVIDIA_L4")
    serving = ServingEnv.from_environ(launch(ContainerSpec(image_uri=IMAGE, ports=(9000,)), deployment).env)

    assert (serving.port, serving.storage_uri, serving.accelerator_type) == (9000, "gs://b/m", "NVIDIA_L4")
    assert serving.predict_route.endswith(":predict")


def test_an_empty_environment_is_that_of_a_local_run():
    assert ServingEnv.from_environ({}) == ServingEnv()


@given(st.text())
def test_any_port_is_a_number_or_an_error(text):
    try:
        assert 1 <= ServingEnv.from_environ({"AIP_HTTP_PORT": text}).port <= 65535
    except StartError as error:
        assert text in str(error)


@pytest.mark.parametrize("text", ["A", "=x", "AIP_MODE=1", "A B=1"])
def test_assignments_are_checked(text):
    with pytest.raises(SpecError):
        contract.parse_environment([text])
    assert contract.parse_environment(["A=1=2", "B="]) == {"A": "1=2", "B": ""}
