"""Every field of [deploy], through the real client to the emulator and back: by the kit's messages and by the SDK's."""

import json
from dataclasses import replace

import dep_project
import pytest
from dep_target import target as any_target
from dep_world import REGION, emulator, engine, project  # noqa: F401
from google.cloud import aiplatform
from google.cloud.aiplatform_v1 import types

from cpr_kit import serving_spec
from cpr_kit.contract import Probe
from cpr_kit.deploy import api
from cpr_kit.deploy.project import from_config
from cpr_kit.deploy.target import OURS, Scale
from cpr_kit.deploy.vertex import messages
from cpr_kit.deploy.vertex.client import Vertex

RESERVATION = f"projects/my-project/zones/{REGION}-a/reservations/gpus"
ACCOUNT = "runner@my-project.iam.gserviceaccount.com"
EXPLANATION = {
    "parameters": {"sampledShapleyAttribution": {"pathCount": 10}},
    "metadata": {"inputs": {"age": {"inputBaselines": [0]}, "income": {}}, "outputs": {"scores": {}}},
}
PROBES = """
startup_probe = { tcp = true, period_s = 1 }
health_probe = { http_path = "/health", period_s = 1, timeout_s = 5 }
liveness_probe = { http_path = "/health", period_s = 7, timeout_s = 5, failure_threshold = 9 }
"""
FIELDS = f"""
machine_type = "n1-standard-4"
accelerator_type = "NVIDIA_TESLA_T4"
accelerator_count = 2
min_replicas = 2
max_replicas = 3
required_replicas = 1
autoscaling = {{ cpu = 70, gpu = 80 }}
reservation = "{RESERVATION}"
service_account = "{ACCOUNT}"
labels = {{ team = "flowers", cost = "c1" }}
access_logging = true
request_logging = {{ sampling_rate = 0.5, table = "bq://my-project.logs" }}
deployment_timeout = 300
env = {{ MODE = "fast" }}
explanation = "explanation.json"
{PROBES}
"""


@pytest.fixture
def written(tmp_path, project):  # noqa: F811
    def write(more):
        config = dep_project.write(tmp_path / "project", project, more=more)
        (tmp_path / "project" / "explanation.json").write_text(json.dumps(EXPLANATION))
        return config

    return write


def deployed(config):
    """What is there, as the SDK shows it: the endpoint's, the deployed model's and the model version's message."""
    aiplatform.init(project=config.deploy.project, location=REGION, api_transport="rest")
    (endpoint,) = aiplatform.Endpoint.list()
    (one,) = endpoint.gca_resource.deployed_models
    return endpoint.gca_resource, one, aiplatform.Model(one.model, version=one.model_version_id).gca_resource


def test_every_field_arrives(emulator, engine, written):  # noqa: F811
    config = written(FIELDS)
    api.up(config, engine=engine)
    endpoint, one, model = deployed(config)

    assert {**endpoint.labels} == {OURS: "iris", "team": "flowers", "cost": "c1"}
    assert endpoint.predict_request_response_logging_config.sampling_rate == 0.5
    machine = one.dedicated_resources.machine_spec
    assert (machine.machine_type, machine.accelerator_type.name) == ("n1-standard-4", "NVIDIA_TESLA_T4")
    assert machine.accelerator_count == 2
    kinds = types.ReservationAffinity.Type
    assert machine.reservation_affinity == types.ReservationAffinity(
        reservation_affinity_type=kinds.SPECIFIC_RESERVATION,
        key="compute.googleapis.com/reservation-name",
        values=[RESERVATION],
    )
    resources = one.dedicated_resources
    assert (resources.min_replica_count, resources.max_replica_count, resources.required_replica_count) == (2, 3, 1)
    assert {each.metric_name.rpartition("/")[2]: each.target for each in resources.autoscaling_metric_specs} == {
        "utilization": 70,
        "duty_cycle": 80,
    }
    assert (one.service_account, one.enable_access_logging) == (ACCOUNT, True)

    container = model.container_spec
    assert {each.name: each.value for each in container.env}["MODE"] == "fast"
    assert container.deployment_timeout.seconds == 300
    assert container.startup_probe.period_seconds == 1
    assert container.health_probe.http_get.path == "/health"
    alive = container.liveness_probe
    assert (alive.http_get.path, alive.period_seconds, alive.failure_threshold) == ("/health", 7, 9)
    explained = model.explanation_spec
    assert explained.parameters.sampled_shapley_attribution.path_count == 10
    assert list(explained.metadata.inputs["age"].input_baselines) == [0.0]

    assert not api.plan(config, engine=engine).changes
    # The kit reads back what it wrote.
    spec = serving_spec.of(config, config.image.name)
    (wanted,) = from_config.targets(config, spec)
    (found,) = Vertex(config.deploy.project, REGION).endpoint("iris").deployed
    assert found.scale == wanted.scale

    # What is taken out of cpr.toml is taken back in place; what others have added stays.
    aiplatform.Endpoint(endpoint.name).update(labels={**endpoint.labels, "theirs": "x"})
    less = written(FIELDS.replace(', cost = "c1"', "").replace("required_replicas = 1", ""))
    steps = {step.what: step for step in api.plan(less, engine=engine).regions[0].steps if step.action != "keep"}
    assert {what: step.reason for what, step in steps.items()} == {
        "endpoint": "labels (without cost)",
        "deployed model": "1 -> 2 of them required",
    }
    api.up(less, engine=engine)
    endpoint, again, _ = deployed(less)
    assert {**endpoint.labels} == {OURS: "iris", "team": "flowers", "theirs": "x"}
    assert endpoint.description == "cpr up: labels team"
    assert (again.id, again.dedicated_resources.required_replica_count) == (one.id, 2)
    assert not api.plan(less, engine=engine).changes
    api.down(less)


@pytest.mark.parametrize(
    "scale",
    [
        Scale(reservation=("any",)),
        Scale(reservation=("none",)),
        Scale(reservation=(RESERVATION, RESERVATION + "2")),
        Scale(machine_type="ct5lp-hightpu-4t", tpu_topology="4x4", spot=True),
        Scale(min_replicas=3, max_replicas=4, required_replicas=2),
    ],
)
def test_a_machine_survives_the_way_there_and_back(scale):
    message = types.DeployedModel(model="m", dedicated_resources=messages.resources(scale))
    (found,) = messages.endpoint(types.Endpoint(deployed_models=[message])).deployed
    assert found.scale == scale


def test_a_version_has_its_explanation_and_its_probes():
    probe = Probe(exec=("test", "-e", "/tmp/alive"), period_s=5)
    wanted = any_target(explanation=json.dumps(EXPLANATION), spec={"liveness_probe": probe})
    message = messages.model_for(wanted, wanted.spec, None, {}, "mark")
    assert message.explanation_spec.parameters.sampled_shapley_attribution.path_count == 10
    assert list(message.container_spec.liveness_probe.exec_.command) == ["test", "-e", "/tmp/alive"]
    bare = replace(wanted, explanation=None)
    assert "explanation_spec" not in messages.model_for(bare, bare.spec, None, {}, "mark")


def test_an_endpoint_shows_what_cannot_be_changed():
    psc = types.Endpoint(private_service_connect_config={"project_allowlist": ["a", "b"]}, network="n")
    found = messages.endpoint(psc)
    assert (found.network, found.project_allowlist) == ("n", ("a", "b"))
