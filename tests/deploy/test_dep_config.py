import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpr_kit.config import Config
from cpr_kit.config_values import variables
from cpr_kit.contract import Probe
from cpr_kit.deploy_config import CanaryRules, RequestLogging
from cpr_kit.deploy_config import PREFIX, DeploySection
from cpr_kit.errors import ConfigError

EVERY_KEY = """
[deploy]
project = "my-project"
regions = ["us-central1", "europe-west4"]
endpoint = "iris"
model = "iris-model"
kind = "dedicated"
network = "projects/1/global/networks/default"
project_allowlist = ["a", "b"]
machine_type = "n1-standard-4"
accelerator_type = "NVIDIA_TESLA_T4"
accelerator_count = 1
tpu_topology = "2x4"
min_replicas = 2
max_replicas = 4
required_replicas = 1
autoscaling = { cpu = 70, requests_per_minute = 1000 }
spot = true
reservation = ["projects/p/zones/us-central1-a/reservations/r"]
service_account = "runner@my-project.iam.gserviceaccount.com"
staging = "gs://my-models-{region}/iris"
labels = { team = "flowers" }
access_logging = true
container_logging = false
request_logging = { sampling_rate = 0.1, table = "bq://my-project.logs" }
inference_timeout = 120
deployment_timeout = 1800
startup_probe = { exec = ["cat", "/tmp/ready"], period_s = 5, failure_threshold = 60 }
env = { MODE = "fast" }
liveness_probe = { http_path = "/alive" }
explanation = "explanation.json"
keep_previous = true
canary = 10

[deploy.health_probe]
http_path = "/ready"
port = 8081
http_headers = { X-Probe = "1" }

[deploy.canary_rules]
requests = 50
max_latency_ratio = 2
"""
SECTION = DeploySection(
    project="my-project",
    regions=("us-central1", "europe-west4"),
    endpoint="iris",
    model="iris-model",
    kind="dedicated",
    network="projects/1/global/networks/default",
    project_allowlist=("a", "b"),
    machine_type="n1-standard-4",
    accelerator_type="NVIDIA_TESLA_T4",
    accelerator_count=1,
    tpu_topology="2x4",
    min_replicas=2,
    max_replicas=4,
    required_replicas=1,
    autoscaling={"cpu": 70, "requests_per_minute": 1000},
    spot=True,
    reservation=("projects/p/zones/us-central1-a/reservations/r",),
    service_account="runner@my-project.iam.gserviceaccount.com",
    staging="gs://my-models-{region}/iris",
    labels={"team": "flowers"},
    access_logging=True,
    container_logging=False,
    request_logging=RequestLogging(sampling_rate=0.1, table="bq://my-project.logs"),
    inference_timeout=120,
    deployment_timeout=1800,
    startup_probe=Probe(exec=("cat", "/tmp/ready"), period_s=5.0, failure_threshold=60),
    health_probe=Probe(http_path="/ready", port=8081, http_headers={"X-Probe": "1"}),
    liveness_probe=Probe(http_path="/alive"),
    explanation="explanation.json",
    env={"MODE": "fast"},
    keep_previous=True,
    canary=10,
    canary_rules=CanaryRules(requests=50, max_latency_ratio=2.0),
)


@pytest.fixture
def read(tmp_path):
    def read_text(text, environ=()):
        (tmp_path / "cpr.toml").write_text(text)
        return Config.read(tmp_path, dict(environ)).deploy

    return read_text


def test_every_key_is_read(read):
    assert read(EVERY_KEY) == SECTION
    defaults = DeploySection()
    untouched = [
        name for name in DeploySection.__dataclass_fields__ if getattr(SECTION, name) == getattr(defaults, name)
    ]
    assert untouched == []


def test_without_the_section_there_are_defaults(read):
    assert read("") == DeploySection()


def test_every_key_is_documented():
    text = (Path(__file__).parents[2] / "docs" / "deploy_config.md").read_text()
    missing = [name for name in DeploySection.__dataclass_fields__ if f"| `{name}`" not in text]
    missing += [name for name in CanaryRules.__dataclass_fields__ if f"| `{name}`" not in text]
    missing += [name for name in RequestLogging.__dataclass_fields__ if f"`{name}`" not in text]
    missing += [name for name in Probe.__dataclass_fields__ if f"`{name}`" not in text]
    assert missing == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("regoins = []", 'key "regoins" is unknown; did you mean "regions"?'),
        ('region = "us-central1"', 'key "region" is unknown; write a list: regions = ["us-central1"]'),
        ('regions = "us-central1"', 'regions is "us-central1"; it is a list of strings: ["us-central1"]'),
        ("kind = 'private'", '"public" or "dedicated" or "psc" or "psa"'),
        ("min_replicas = -1", "min_replicas is -1; it is a whole number from 0 up"),
        ("max_replicas = 0", "max_replicas is 0; it is a whole number from 1 up"),
        ("canary = 100", "canary (CPR_DEPLOY_CANARY, --canary) is 100"),
        ("canary = '10%'", 'canary is "10%"; it is a whole number from 0 up'),
        ("autoscaling = { cpu = 60.5 }", "it is a table of whole numbers"),
        ("autoscaling = { cpu = true }", "it is a table of whole numbers"),
        ("labels = { a = 1 }", "labels is {a = 1}; it is a table of strings"),
        ("request_logging = { sampling_rate = 1 }", "[deploy] request_logging: table is missing"),
        ("request_logging = true", "[deploy] request_logging is not a table"),
        ("request_logging = { rate = 1 }", 'request_logging: key "rate" is unknown'),
        ("startup_probe = {}", "[deploy] startup_probe: a probe has one action"),
        ("startup_probe = { tcp = true, exec = ['a'] }", "this one has 2"),
        ("startup_probe = { tcp = true, period = 5 }", 'key "period" is unknown; did you mean "period_s"?'),
        ("startup_probe = { tcp = true, period_s = 0.5 }", "a probe's period is at least 1 s"),
        ("canary_rules = { requests = 0 }", "canary_rules requests is 0; it is a whole number from 1 up"),
        ("deployment_resource_pool = 'p'", "resource pools take prebuilt TensorFlow and PyTorch containers alone"),
        ("scale_to_zero = true", "v1beta1 API alone"),
    ],
)
def test_what_is_wrong_is_named(read, text, message):
    with pytest.raises(ConfigError) as error:
        read(f"[deploy]\n{text}")
    assert message in str(error.value)


def test_one_reservation_need_not_be_a_list(read):
    assert read('[deploy]\nreservation = "any"').reservation == ("any",)
    assert read("", {"CPR_DEPLOY_RESERVATION": "none"}).reservation == ("none",)
    with pytest.raises(ConfigError, match="reservation is 5; it is a list of strings"):
        read("[deploy]\nreservation = 5")


def test_the_environment_wins_over_the_file(read):
    environ = {
        "CPR_DEPLOY_REGIONS": "asia-east1,europe-west1",
        "CPR_DEPLOY_KIND": "psc",
        "CPR_DEPLOY_MIN_REPLICAS": "3",
        "CPR_DEPLOY_SPOT": "false",
        "CPR_DEPLOY_STAGING": "",
        "CPR_DEPLOY_CANARY": "0",
    }
    found = read(EVERY_KEY, environ)
    assert (found.regions, found.kind, found.min_replicas) == (("asia-east1", "europe-west1"), "psc", 3)
    assert (found.spot, found.staging, found.canary) == (False, None, 0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("CPR_DEPLOY_KIND", "private", 'CPR_DEPLOY_KIND is "private"'),
        ("CPR_DEPLOY_MIN_REPLICAS", "two", 'CPR_DEPLOY_MIN_REPLICAS is "two"; it is a whole number from 0 up'),
        ("CPR_DEPLOY_SPOT", "perhaps", "it is true or false"),
        ("CPR_DEPLOY_CANARY", "100", "canary (CPR_DEPLOY_CANARY, --canary) is 100"),
        ("CPR_DEPLOY_REGION", "us-central1", "CPR_DEPLOY_REGIONS=us-central1"),
    ],
)
def test_a_variable_with_a_bad_value_is_named(read, name, value, message):
    with pytest.raises(ConfigError) as error:
        read("", {name: value})
    assert message in str(error.value)


def test_googles_variable_stands_in_for_a_missing_project(read):
    google = {"GOOGLE_CLOUD_PROJECT": "theirs"}
    assert read("", google).project == "theirs"
    assert read("[deploy]\nproject = 'mine'", google).project == "mine"
    assert read("", {**google, "CPR_DEPLOY_PROJECT": "mine"}).project == "mine"
    assert read("", {**google, "CPR_DEPLOY_PROJECT": ""}).project == "theirs"
    assert read("", {"GOOGLE_CLOUD_PROJECT": ""}).project is None


def test_tables_have_no_variable():
    names = variables(DeploySection, PREFIX)
    assert names["min_replicas"] == "CPR_DEPLOY_MIN_REPLICAS"
    tables = {"autoscaling", "labels", "request_logging", "startup_probe", "health_probe"}
    tables |= {"liveness_probe", "env", "canary_rules"}
    assert set(DeploySection.__dataclass_fields__) - names.keys() == tables


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PROBES = st.dictionaries(st.sampled_from(sorted(Probe.__dataclass_fields__)), VALUES, max_size=4)
KEYS = st.sampled_from(sorted(DeploySection.__dataclass_fields__))
TABLES = st.dictionaries(KEYS, VALUES | PROBES, max_size=6)


def toml(value):
    """Near enough to TOML: what is not is for the reader to refuse."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {toml(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")


@settings(max_examples=200)
@given(table=TABLES)
def test_any_text_gives_a_section_or_says_what_is_wrong(table):
    text = "[deploy]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in table.items())
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cpr.toml").write_text(text, "utf-8")
        try:
            found = Config.read(Path(folder), {}).deploy
        except ConfigError as error:
            assert "cpr.toml" in str(error) or "[deploy]" in str(error)
        else:
            assert isinstance(found, DeploySection)


@settings(max_examples=200)
@given(environ=st.dictionaries(st.sampled_from(sorted(variables(DeploySection, PREFIX).values())), st.text(max_size=8)))
def test_any_variable_gives_a_section_or_is_named(environ):
    try:
        found = DeploySection().overridden(environ)
    except ConfigError as error:
        assert PREFIX in str(error)
    else:
        assert isinstance(found, DeploySection)
