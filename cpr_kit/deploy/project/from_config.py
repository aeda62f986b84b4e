"""cpr.toml -> one `Target` per region: everything is read and checked here, before any call."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cpr_kit import check_files
from cpr_kit.config import Config
from cpr_kit.contract import MAX_BODY, ContainerSpec, EndpointKind, check_environment
from cpr_kit.deploy.project import explanation, machines, regions, reservations, rules
from cpr_kit.deploy.target import CheckRequest, Scale, Target
from cpr_kit.deploy_config import DeploySection
from cpr_kit.errors import ConfigError, SpecError
from cpr_kit.prebuilt import catalogue, layout, tf_serving

_PLACEHOLDER = "{region}"
_PLATFORM = "linux/amd64"
MAX_DEPLOYMENT_TIMEOUT_S = 7200
"""ModelContainerSpec.deployment_timeout."""


def targets(
    config: Config, spec: ContainerSpec, *, regions: Sequence[str] = (), files: bool = True
) -> tuple[Target, ...]:
    """`spec.image_uri` is the image's name, in one region's repository; `regions` replaces those of cpr.toml.

    Where there are several regions, each has the image in its own repository of the same name. Without `files` neither
    artifacts nor requests are looked at: what is only asked about, or taken away, needs none. Raises ConfigError.
    """
    deploy = config.deploy
    wanted = _regions(deploy, regions)
    moves = not files or len(wanted) > 1 or len(deploy.regions) > 1 or wanted != (deploy.regions or wanted)
    if config.image.platform.lower() != _PLATFORM:
        raise ConfigError(f"[image] platform is {config.image.platform}; Vertex AI runs {_PLATFORM} alone")
    common = _common(config, spec)
    if files:
        common = replace(
            common, artifacts=_artifacts(config), checks=_requests(config), explanation=_explanation(config)
        )
    if moves and files:
        _check_staging(common.staging)
    found = tuple(_in_region(common, region, moves=moves) for region in wanted)
    for target in found:
        rules.check(target)
        if files:
            _check_server(target)
        if deploy.canary and files:
            rules.check_canary(target, deploy.canary)
    return found


def warnings(config: Config, target: Target) -> tuple[str, ...]:
    """Where what [serve] says does not fit the endpoint; `rules.check` has the other warnings."""
    return tuple(_of_serving(config, target))


def _check_server(target: Target) -> None:
    """Whether a server that others wrote will find its model. Raises ConfigError, SpecError."""
    if prebuilt := catalogue.parse(target.image):
        layout.check(prebuilt, target.artifacts)
    else:
        tf_serving.check(target.spec, target.artifacts)


def _regions(deploy: DeploySection, given: Sequence[str]) -> tuple[str, ...]:
    wanted = tuple(given) or deploy.regions
    if not wanted:
        raise ConfigError('[deploy] regions (CPR_DEPLOY_REGIONS, --region) is missing; write regions = ["us-central1"]')
    for region in wanted:
        regions.check(region)
        if wanted.count(region) > 1:
            raise ConfigError(f'[deploy] regions names "{region}" {wanted.count(region)} times')
    return wanted


def _common(config: Config, spec: ContainerSpec) -> Target:
    """What is the same in every region, but for the files; the region is still empty."""
    deploy = config.deploy
    if not deploy.project:
        raise ConfigError(
            '[deploy] project (CPR_DEPLOY_PROJECT, GOOGLE_CLOUD_PROJECT) is missing; write project = "my-project"'
        )
    if not deploy.endpoint:
        raise ConfigError(
            f'[deploy] endpoint (CPR_DEPLOY_ENDPOINT) is missing; name it: endpoint = "{_suggested(config.folder)}"'
        )
    return Target(
        project=deploy.project,
        region="",
        endpoint=deploy.endpoint,
        model=deploy.model or deploy.endpoint,
        image=_tagged(spec.image_uri),
        spec=_spec(deploy, spec),
        kind=_kind(config),
        network=deploy.network,
        project_allowlist=deploy.project_allowlist,
        staging=deploy.staging,
        scale=_scale(deploy),
        service_account=deploy.service_account,
        labels=deploy.labels,
        access_logging=deploy.access_logging,
        container_logging=deploy.container_logging,
        request_logging=deploy.request_logging,
        inference_timeout_s=deploy.inference_timeout,
        keep_previous=deploy.keep_previous,
        canary=deploy.canary_rules,
    )


def _kind(config: Config) -> EndpointKind:
    """The server's own limits follow [serve] endpoint_kind, so that may be the one place where the kind is said."""
    return config.deploy.kind or config.serve.endpoint_kind


def _check_staging(staging: str | None) -> None:
    if staging is not None and _PLACEHOLDER not in staging:
        raise ConfigError(
            f'[deploy] staging is "{staging}", and there are several regions, each with a bucket of its own; write '
            f'{_PLACEHOLDER} where they differ: staging = "gs://my-bucket-{_PLACEHOLDER}/models"'
        )


def _in_region(common: Target, region: str, *, moves: bool) -> Target:
    if catalogue.is_prebuilt(common.image):
        image = catalogue.in_region(common.image, region)
    else:
        image = regions.in_region(common.image, region) if moves else common.image
    staging = common.staging
    return replace(
        common,
        region=region,
        image=image,
        spec=replace(common.spec, image_uri=image),
        scale=replace(common.scale, reservation=reservations.in_region(common.scale.reservation, region)),
        staging=staging.replace(_PLACEHOLDER, region).rstrip("/") if staging is not None else None,
    )


def _tagged(image: str) -> str:
    name = image.rpartition("/")[2]
    if "@" in name:
        raise ConfigError(f'[image] name is "{image}"; an image is pushed under a name and a tag, without a digest')
    return image if ":" in name else f"{image}:latest"


def _spec(deploy: DeploySection, spec: ContainerSpec) -> ContainerSpec:
    try:
        check_environment(deploy.env)
    except SpecError as error:
        raise ConfigError(f"[deploy] env: {error}") from error
    timeout = deploy.deployment_timeout
    if timeout is not None and timeout > MAX_DEPLOYMENT_TIMEOUT_S:
        raise ConfigError(f"[deploy] deployment_timeout is {timeout}; it is {MAX_DEPLOYMENT_TIMEOUT_S} s (2 h) at most")
    return replace(
        spec,
        env={**spec.env, **deploy.env},
        deployment_timeout_s=timeout or spec.deployment_timeout_s,
        startup_probe=deploy.startup_probe or spec.startup_probe,
        health_probe=deploy.health_probe or spec.health_probe,
        liveness_probe=deploy.liveness_probe or spec.liveness_probe,
    )


def _scale(deploy: DeploySection) -> Scale:
    """Machines that come with GPUs have those without being asked; one GPU is attached where no number is given.

    Required replicas are those that always run where nobody says it (DedicatedResources.required_replica_count).
    """
    accelerator, count = deploy.accelerator_type, deploy.accelerator_count
    fixed = machines.built_in(deploy.machine_type)
    if fixed is not None and accelerator is None and not count:
        accelerator, count = fixed
    elif accelerator is not None and count is None:
        count = fixed[1] if fixed is not None else 1
    return Scale(
        machine_type=deploy.machine_type,
        accelerator_type=accelerator,
        accelerator_count=count or 0,
        tpu_topology=deploy.tpu_topology,
        min_replicas=deploy.min_replicas,
        max_replicas=deploy.min_replicas if deploy.max_replicas is None else deploy.max_replicas,
        required_replicas=deploy.min_replicas if deploy.required_replicas is None else deploy.required_replicas,
        autoscaling=_metrics(deploy.autoscaling),
        spot=deploy.spot,
        reservation=deploy.reservation,
    )


def _metrics(named: Mapping[str, int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, target in named.items():
        full = machines.metric(name)
        if full in found:
            raise ConfigError(f"[deploy] autoscaling names {full} twice: once as {name}")
        found[full] = target
    return found


def _artifacts(config: Config) -> str | None:
    uri = config.artifact_uri
    if uri is None or uri.startswith("gs://"):
        return uri
    path = os.path.abspath(Path(uri).expanduser())  # noqa: PTH100 - without "..", and links stay as they are named
    if not Path(path).is_dir():
        raise ConfigError(
            f"[model] artifacts is {config.model.artifacts}, and {path} is no folder; "
            "train the model first, or name another"
        )
    return path


def _explanation(config: Config) -> str | None:
    name = config.deploy.explanation
    if name is None:
        return None
    where = f"[deploy] explanation (CPR_DEPLOY_EXPLANATION) names {name}"
    return explanation.read(_content(config.folder, name, where), where)


def _requests(config: Config) -> tuple[CheckRequest, ...]:
    check_files.check(config.folder, config.checks)
    return tuple(
        CheckRequest(
            name=check.request,
            body=_content(config.folder, check.request, f"[[check]] names {check.request}"),
            content_type=check.content_type,
            expected=None
            if check.expect is None
            else _content(config.folder, check.expect, f"[[check]] names {check.expect}"),
        )
        for check in config.checks
    )


def _content(folder: Path, name: str, where: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{where}, and {folder / name} cannot be read: {reason}") from error


def _suggested(folder: Path) -> str:
    letters = "".join(each if each.isascii() and each.isalnum() else "-" for each in folder.name.lower()).strip("-")
    return letters if letters[:1].isalpha() else "my-model"


def _of_serving(config: Config, target: Target) -> Iterator[str]:
    serve, limit, longest = config.serve, MAX_BODY[target.kind], rules.timeout_s(target)
    if serve.max_body is None and MAX_BODY[serve.endpoint_kind] != limit:
        yield (
            f"[deploy] kind is {target.kind}, but [serve] endpoint_kind is {serve.endpoint_kind}: the server takes "
            f'requests of {MAX_BODY[serve.endpoint_kind]} bytes; write [serve] endpoint_kind = "{target.kind}"'
        )
    if serve.max_body is not None and serve.max_body > limit:
        yield f"[serve] max_body is {serve.max_body}; a {target.kind} endpoint lets {limit} bytes through"
    if serve.request_timeout > longest:
        yield f"[serve] request_timeout is {serve.request_timeout:g} s; a {target.kind} endpoint waits {longest} s"
