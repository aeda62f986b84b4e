"""A target that every rule lets pass, to be changed in one field."""

from dataclasses import replace

from cpr_kit.contract import ContainerSpec
from cpr_kit.deploy.target import CheckRequest, Scale, Target

IMAGE = "us-central1-docker.pkg.dev/my-project/serving/iris:1"
CHECK = CheckRequest(name="two_rows.json", body=b'{"instances": [[1, 2, 3, 4]]}')
NETWORK = "projects/123456789012/global/networks/default"


def target(**changes):
    scale = Scale(**{"min_replicas": 2, "max_replicas": 2, **changes.pop("scale", {})})
    spec = replace(ContainerSpec.kit(IMAGE), **changes.pop("spec", {}))
    whole = Target(
        project="my-project",
        region="us-central1",
        endpoint="iris",
        model="iris",
        image=IMAGE,
        spec=spec,
        scale=scale,
        checks=(CHECK,),
    )
    return replace(whole, **changes)


def private(**changes):
    return target(kind="psa", network=NETWORK, **changes)


def connected(**changes):
    return target(kind="psc", project_allowlist=("my-project",), **changes)
