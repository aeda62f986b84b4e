import json
from pathlib import Path

import pytest
from dep_target import NETWORK, connected, private, target
from google.cloud.aiplatform import models
from google.cloud.aiplatform_v1 import types

from cpr_kit.contract import Probe
from cpr_kit.deploy.project import machines
from cpr_kit.deploy.project import rules, sizes
from cpr_kit.deploy_config import CanaryRules, RequestLogging
from cpr_kit.errors import ConfigError

RESERVATION = "projects/my-project/zones/us-central1-a/reservations/r"
TABLE = "bq://my-project.logs.iris"


def explained(parameters=None, metadata=None, **of_input):
    whole = {"inputs": {"age": of_input}, "outputs": {"scores": {}}}
    parameters = parameters or {"sampledShapleyAttribution": {"pathCount": 5}}
    return json.dumps({"parameters": parameters, "metadata": whole if metadata is None else metadata})


def test_what_vertex_ai_takes_passes_without_a_warning():
    assert rules.check(target(explanation=explained(inputBaselines=[0]))) == ()
    assert rules.check(target()) == ()
    assert rules.check(connected()) == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"project": "My Project"}, 'project is "My Project"'),
        ({"endpoint": "Iris"}, 'endpoint is "Iris"; it has lower-case letters'),
        ({"endpoint": "iris-"}, "ends with a letter or digit"),
        ({"endpoint": "0123"}, 'endpoint is "0123"'),
        ({"endpoint": "1234567890"}, "a number of 9 digits at most"),
        ({"endpoint": "a" * 64}, "63 at most"),
        ({"model": "123"}, 'model is "123" (it is the endpoint\'s name where it is left out)'),
        ({"model": "-iris"}, "begins with no digit and no hyphen"),
        ({"region": "us-central"}, "did you mean us-central1"),
        ({"region": "europe-west4"}, "and the model in europe-west4"),
        ({"image": "us-docker.pkg.dev/my-project/serving/iris:1"}, "a repository of several regions"),
        ({"network": NETWORK}, "it is for kind psa, and this is public"),
        ({"project_allowlist": ("p",)}, "project_allowlist is for kind psc, and this is public"),
        ({"kind": "psa"}, "kind psa needs network"),
        ({"kind": "psa", "network": "projects/my-project/global/networks/default"}, "with the project's number"),
        ({"kind": "psc"}, "kind psc needs project_allowlist"),
        ({"kind": "psc", "project_allowlist": ("A B",)}, 'project_allowlist has "A B"'),
        ({"service_account": "runner"}, "such as NAME@my-project.iam.gserviceaccount.com"),
        ({"service_account": "me@gmail.com"}, 'service_account is "me@gmail.com"'),
        ({"inference_timeout_s": 120}, "a public endpoint always has 60 s, kinds dedicated and psc have"),
        ({"kind": "dedicated", "inference_timeout_s": 3601}, "inference_timeout is 3601; it is 1 to 3600 s"),
        ({"staging": "my-bucket"}, "gs://BUCKET/PREFIX"),
        ({"staging": "gs://my-bucket-{regoin}"}, 'staging is "gs://my-bucket-{regoin}"'),
        ({"artifacts": "/models/iris"}, 'staging = "gs://BUCKET/PREFIX", a bucket in us-central1'),
        ({"artifacts": "gs://"}, "it is written gs://BUCKET/FOLDER"),
        ({"request_logging": RequestLogging(sampling_rate=0, table=TABLE)}, "a share above 0, 1 at most"),
        ({"request_logging": RequestLogging(sampling_rate=1.5, table=TABLE)}, "sampling_rate is 1.5"),
        (
            {"request_logging": RequestLogging(sampling_rate=1, table="my-project.logs.iris")},
            "bq://PROJECT.DATASET.TABLE",
        ),
        ({"request_logging": RequestLogging(sampling_rate=1, table="bq://p.a.b.c")}, 'table is "bq://p.a.b.c"'),
        ({"labels": {"Team": "a"}}, 'labels has "Team"; a key begins with a lower-case letter'),
        ({"labels": {"1": "a"}}, 'labels has "1"'),
        ({"labels": {"a" * 64: "a"}}, "63 at most"),
        ({"labels": {"team": "A"}}, 'labels team is "A"'),
        ({"labels": {"team": "a b"}}, 'labels team is "a b"'),
        ({"labels": {"team": "a" * 64}}, "63 at most"),
        ({"labels": {"cpr-kit": "a"}}, "the kit's own"),
        ({"labels": {f"a{n}": "" for n in range(61)}}, "labels has 61"),
        ({"canary": CanaryRules(max_error_rate=1.5)}, "max_error_rate is 1.5; it is a share"),
        ({"canary": CanaryRules(max_latency_ratio=0)}, "max_latency_ratio is 0"),
        ({"canary": CanaryRules(timeout_s=0)}, "timeout_s is 0"),
    ],
)
def test_what_vertex_ai_refuses_is_refused_before_any_call(changes, message):
    with pytest.raises(ConfigError) as error:
        rules.check(target(**changes))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keep_previous": True}, "a psa endpoint takes one alone"),
        ({"access_logging": True}, "access_logging is not there for psa endpoints"),
        ({"request_logging": RequestLogging(sampling_rate=1, table=TABLE)}, "request_logging is not there for psa"),
        ({"inference_timeout_s": 60}, "a psa endpoint always has 60 s"),
    ],
)
def test_a_psa_endpoint_has_one_model_and_no_logging_of_its_own(changes, message):
    with pytest.raises(ConfigError) as error:
        rules.check(private(**changes))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ({"min_replicas": 0}, "min_replicas is 0; it is 1 at least: scaling to zero is in Vertex AI's v1beta1 API alone"),
        ({"min_replicas": 3}, "max_replicas is 2, less than min_replicas, which is 3"),
        ({"required_replicas": 3}, "1 to min_replicas, which is 2"),
        ({"required_replicas": 0}, "required_replicas is 0"),
        ({"machine_type": "big"}, 'machine_type is "big"; it is written like "n1-standard-4"'),
        ({"machine_type": "n-standard-4"}, "of a family that does not serve; did you mean"),
        ({"machine_type": "x1-standard-4"}, "of a family that does not serve"),
        ({"accelerator_count": 1}, "accelerator_type is missing"),
        ({"accelerator_type": "T4", "accelerator_count": 1}, "no machine that serves has"),
        ({"accelerator_type": "nvidia_tesla_t4", "accelerator_count": 1}, 'did you mean "NVIDIA_TESLA_T4"?'),
        ({"accelerator_type": "NVIDIA_TESLA_K80", "accelerator_count": 1}, "which no machine that serves has"),
        ({"accelerator_type": "NVIDIA_L4", "accelerator_count": 1}, "comes with g2-standard-4 or"),
        ({"accelerator_type": "NVIDIA_TESLA_T4", "accelerator_count": 3}, "there may be 1, 2, 4"),
        ({"accelerator_type": "NVIDIA_TESLA_T4", "accelerator_count": 0}, "accelerator_count is 0"),
        ({"machine_type": "e2-standard-4", "accelerator_type": "NVIDIA_TESLA_T4", "accelerator_count": 1}, "an n1 machine"),
        ({"machine_type": "n2-standard-4", "accelerator_type": "NVIDIA_B200", "accelerator_count": 1}, "it is a4-highgpu-8g"),
        ({"machine_type": "g2-standard-24", "accelerator_type": "NVIDIA_L4", "accelerator_count": 1}, "2 x NVIDIA_L4, not 1 x"),
        ({"tpu_topology": "2x2"}, "machine_type n1-standard-2 has no TPU"),
        ({"machine_type": "ct5lp-hightpu-4t", "tpu_topology": "2"}, 'it is written like "2x2"'),
        ({"machine_type": "ct5lp-hightpu-4t", "tpu_topology": "1x1"}, "1 TPU chip, and machine_type ct5lp-hightpu-4t has 4"),
        ({"reservation": ("all",)}, 'reservation is "all"; it is "any", "none", or a reservation\'s full name'),
        ({"reservation": ("any", RESERVATION)}, 'reservation has "any" and 1 more'),
        ({"reservation": (RESERVATION.replace("us-central1-a", "europe-west4-a"),)}, "is in europe-west4, and the model in"),
        ({"reservation": ("reservations/r",)}, "projects/PROJECT/zones/ZONE/reservations/NAME"),
        ({"autoscaling": {"memory": 60}}, 'autoscaling has "memory", which is no metric'),
        ({"autoscaling": {"cpu": 101}}, "autoscaling cpu is 101; it is a percentage from 1 to 100"),
        ({"autoscaling": {machines.CPU: 0}}, "is 0; it is a percentage"),
        ({"autoscaling": {"requests_per_minute": 0}}, "is 0; it is a number from 1 up"),
        ({"autoscaling": {"gpu": 60}}, "is a metric of accelerators, and the machine has none"),
        ({"autoscaling": {"pubsub.googleapis.com/subscription/num_undelivered_messages": 5}}, "v1beta1 API alone"),
    ],
)  # fmt: skip
def test_machines_and_their_number_are_checked(scale, message):
    with pytest.raises(ConfigError) as error:
        rules.check(target(scale=scale))
    assert message in str(error.value)


@pytest.mark.parametrize(
    "scale",
    [
        {"machine_type": "c3-highcpu-22"},
        {"machine_type": "n1-highmem-16", "accelerator_type": "NVIDIA_TESLA_V100", "accelerator_count": 8},
        {"machine_type": "g2-standard-24", "accelerator_type": "NVIDIA_L4", "accelerator_count": 2},
        {"machine_type": "a3-edgegpu-8g", "accelerator_type": "NVIDIA_H100_80GB", "accelerator_count": 8},
        {"machine_type": "ct5lp-hightpu-4t", "tpu_topology": "4x4"},
        {"machine_type": "tpu7x-standard-4t", "tpu_topology": "2x2x1"},
        {"reservation": (RESERVATION, RESERVATION + "2")},
        {"reservation": ("none",)},
        {"required_replicas": 1},
        {"max_replicas": 5, "autoscaling": {machines.REQUESTS: 1000, machines.CPU: 70}},
    ],
)
def test_machines_that_serve_pass(scale):
    assert rules.check(target(scale=scale)) == ()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"shared_memory_size_mb": 0}, "shared_memory_mb is 0"),
        ({"startup_probe": Probe(tcp=True, period_s=1.5)}, "startup_probe period_s is 1.5; Vertex AI takes whole seconds"),
        ({"health_probe": Probe(tcp=True, timeout_s=0.5)}, "health_probe timeout_s is 0.5"),
        ({"health_probe": Probe(tcp=True, initial_delay_s=0.5)}, "initial_delay_s is 0.5"),
        ({"health_probe": Probe(exec=("true",), port=80)}, "has exec, a command"),
        ({"health_probe": Probe(tcp=True, http_headers={"a": "b"})}, "has http_headers, and no http_path"),
        ({"health_probe": Probe(http_path="ready")}, 'http_path is "ready"; a path starts with "/"'),
        ({"health_probe": Probe(http_path="/ready", port=70000)}, "port is 70000"),
        ({"liveness_probe": Probe(tcp=True, timeout_s=0.5)}, "liveness_probe timeout_s is 0.5"),
        ({"liveness_probe": Probe(tcp=True, success_threshold=2)}, "liveness_probe success_threshold is 2"),
        ({"startup_probe": Probe(tcp=True, success_threshold=2)}, "startup_probe success_threshold is 2"),
    ],
)  # fmt: skip
def test_the_container_is_checked(spec, message):
    with pytest.raises(ConfigError) as error:
        rules.check(target(spec=spec))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": {"min_replicas": 1}}, "min_replicas is 1"),
        ({"scale": {"min_replicas": 1, "spot": True}}, "a spot machine may be taken away at any time"),
        ({"scale": {"max_replicas": 101}}, "the quota is 100"),
        ({"scale": {"autoscaling": {machines.CPU: 60}}}, "autoscaling has no effect"),
        (
            {
                "scale": {
                    "machine_type": "g2-standard-4",
                    "accelerator_type": "NVIDIA_L4",
                    "accelerator_count": 1,
                    "max_replicas": 3,
                    "autoscaling": {machines.CPU: 60},
                }
            },
            "an accelerator's duty cycle counts too",
        ),
        ({"scale": {"max_replicas": 3, "autoscaling": {machines.VLLM_WAITING: 5}}}, "vLLM containers alone"),
        ({"scale": {"machine_type": "n1-standard-3"}}, "known are n1-standard-32, n1-standard-8, n1-standard-4"),
        ({"scale": {"machine_type": "g2-standard-6"}}, "is none of the g2 machines that this kit knows"),
        ({"scale": {"machine_type": "ct6e-standard-2t"}}, "is none of the ct6e machines that this kit knows"),
        ({"explanation": explained(), "kind": "dedicated"}, "a dedicated endpoint does not explain"),
        (
            {"explanation": explained(parameters={"xraiAttribution": {}})},
            "xraiAttribution, which goes by a model's gradients",
        ),
        ({"explanation": explained(metadata={})}, "explanation has no metadata"),
        ({"explanation": explained(modality="image", inputBaselines=[0])}, "explanation has modality in its inputs"),
        ({"image": "us-central1-docker.pkg.dev/my-project/serving/iris:latest"}, "name one: iris:1.0"),
        ({"image": "us-central1-docker.pkg.dev/my-project/serving/iris"}, "name one: iris:1.0"),
        ({"checks": ()}, "has no [[check]]"),
        ({"container_logging": False}, "container_logging is off"),
    ],
)
def test_what_one_may_regret_is_a_warning_and_no_error(changes, message):
    found = rules.check(target(**changes))
    assert len(found) == 1
    assert message in found[0]


def test_a_psa_endpoint_is_warned_of():
    assert ["needs cpr down first" in each for each in rules.check(private())] == [True]


def test_a_canary_is_for_endpoints_that_split_and_can_be_asked():
    rules.check_canary(target(), 10)
    rules.check_canary(target(kind="dedicated"), 99)
    for refused, percent, message in (
        (private(), 10, "takes one model"),
        (connected(), 10, "in its own network alone"),
        (target(checks=()), 10, "[[check]] with request"),
        (target(), 0, "is 0 %"),
        (target(), 100, "is 100 %"),
    ):
        with pytest.raises(ConfigError) as error:
            rules.check_canary(refused, percent)
        assert message in str(error.value)


def test_how_long_a_request_may_take():
    assert [rules.timeout_s(each) for each in (target(), private(), connected())] == [60, 60, 600]
    assert rules.timeout_s(target(kind="dedicated", inference_timeout_s=1200)) == 1200


def test_accelerators_are_those_of_the_api():
    assert set(machines.ACCELERATORS) <= {each.name for each in types.AcceleratorType}


def test_metrics_are_those_of_the_api_and_the_sdk():
    """AutoscalingMetricSpec names three; Model.deploy has those of Prometheus too."""
    documented = types.AutoscalingMetricSpec.__doc__
    assert all(name in documented for name in machines.METRICS.values())
    source = Path(models.__file__).read_text()
    for name in (machines.GPU_UTILIZATION, machines.VLLM_CACHE, machines.VLLM_WAITING):
        assert name.rpartition("/")[2] in source


def test_each_family_has_sizes_that_are_none_of_another():
    for family in machines.FAMILIES:
        known = sizes.of(family) or tuple(machines.BUILT_IN[family])
        assert known
        assert all(name.startswith(f"{family}-") for name in known)


def test_metrics_have_short_names():
    assert machines.metric("cpu") == machines.metric(machines.CPU) == machines.CPU
    assert machines.metric("gpu") == machines.DUTY_CYCLE
