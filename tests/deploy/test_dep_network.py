"""The commands for private endpoints' networks: in their order, whole, and with the permissions they need."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from cpr_kit.contract import ContainerSpec
from cpr_kit.deploy import network
from cpr_kit.deploy.resources import Endpoint
from cpr_kit.deploy.target import Target

IMAGE = "europe-west4-docker.pkg.dev/models-prod/models/iris:1"
ATTACHMENT = "projects/tenant/regions/europe-west4/serviceAttachments/gkedpm-1"
PUBLIC = Target(
    project="models-prod",
    region="europe-west4",
    endpoint="iris",
    model="iris",
    image=IMAGE,
    spec=ContainerSpec(image_uri=IMAGE),
)
PSA = replace(PUBLIC, kind="psa", network="projects/415104041262/global/networks/shop")
PSC = replace(PUBLIC, kind="psc", project_allowlist=("shop-prod", "web-prod"))


def commands(steps):
    return [shlex.split(each.command) for each in steps]


@pytest.mark.parametrize("kind", ["public", "dedicated"])
def test_public_endpoints_need_no_step(kind):
    assert network.steps(replace(PUBLIC, kind=kind)) == ()


def test_a_peering_is_made_once_per_network_in_this_order():
    steps = network.steps(PSA)
    assert commands(steps) == [
        ["gcloud", "services", "enable", "servicenetworking.googleapis.com", "--project=415104041262"],
        [
            *("gcloud", "compute", "addresses", "create", "vertex-ai-prediction-peering-range", "--global"),
            *("--purpose=VPC_PEERING", "--prefix-length=16", "--network=shop", "--project=415104041262"),
        ],
        [
            *("gcloud", "services", "vpc-peerings", "connect", "--service=servicenetworking.googleapis.com"),
            *("--ranges=vertex-ai-prediction-peering-range", "--network=shop", "--project=415104041262"),
        ],
    ]
    assert {each.when for each in steps} == {network.ONCE}
    assert all(each.permissions and not each.variables for each in steps)


def test_a_peering_without_a_network_names_what_is_missing():
    steps = network.steps(replace(PSA, network=None))
    assert [dict(each.variables).keys() for each in steps] == [set(), {"NETWORK"}, {"NETWORK"}]
    assert '"--network=${NETWORK}"' in steps[1].command


def test_each_allowed_project_gets_an_address_that_leads_to_the_attachment():
    steps = network.steps(PSC, service_attachment=ATTACHMENT)
    assert [each.command.split("--project=")[1] for each in steps] == ["shop-prod"] * 3 + ["web-prod"] * 3
    assert {each.when for each in steps} == {network.AFTER}
    address, rule, shown = commands(steps)[:3]
    assert address[:5] == ["gcloud", "compute", "addresses", "create", "iris-address"]
    assert "--subnet=${SUBNET}" in address
    assert rule[:5] == ["gcloud", "compute", "forwarding-rules", "create", "iris-rule"]
    assert f"--target-service-attachment={ATTACHMENT}" in rule
    assert "--address=iris-address" in rule
    assert shown[:5] == ["gcloud", "compute", "forwarding-rules", "describe", "iris-rule"]
    assert "ATTACHMENT" not in dict(steps[1].variables)


def test_before_the_deployment_the_attachment_is_a_variable_and_a_command_shows_it():
    rule = network.steps(PSC)[1]
    assert '"--target-service-attachment=${ATTACHMENT}"' in rule.command
    assert '"${ENDPOINT}"' in dict(rule.variables)["ATTACHMENT"]
    made = Endpoint(id="8273", name="-", display_name="iris", kind="psc")
    rule = network.steps(PSC, made)[1]
    assert "describe 8273 " in dict(rule.variables)["ATTACHMENT"]


def test_the_lines_have_every_command_once_and_its_permissions():
    steps = network.steps(PSC)
    lines = network.lines(steps)
    for number, step in enumerate(steps, 1):
        assert lines.count(f"     {step.command}") == 1
        assert f"{number}. {step.title} ({step.when})" in lines
        assert f"   needs {', '.join(step.permissions)}" in lines


@pytest.mark.parametrize("target", [PSA, replace(PSA, network=None), PSC, replace(PSC, project_allowlist=())])
def test_no_step_asks_for_a_role_that_is_wider_than_its_permissions(target):
    for step in network.steps(target):
        assert not any("roles/" in each or "*" in each for each in step.permissions)
        assert shlex.split(step.command)[0] == "gcloud"
