"""From a specification to one run on this machine: environment, mounts, port. Decides; starts nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cpr_kit import contract
from cpr_kit.contract import ContainerSpec, Deployment, Launch
from cpr_kit.engine.protocol import Engine, Gpus, Mount, Run

# Both paths are those of google.cloud.aiplatform.prediction, so that code which names them keeps working.
MODEL_FOLDER = "/tmp_cpr_local_model"  # noqa: S108
KEY_FILE = "/tmp/keys/cred_key.json"  # noqa: S108
CREDENTIALS = "GOOGLE_APPLICATION_CREDENTIALS"
PROJECT = "GOOGLE_CLOUD_PROJECT"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user of an endpoint may choose about one run."""

    artifact_uri: str | None = None
    credential_path: str | os.PathLike[str] | None = None
    host_port: int | None = None
    gpus: Gpus | None = None
    sealed: bool = False
    deployment: Deployment = field(default_factory=Deployment)


@dataclass(frozen=True, kw_only=True)
class Plan:
    run: Run
    launch: Launch


def make(spec: ContainerSpec, options: Options, engine: Engine, environ: Mapping[str, str] = os.environ) -> Plan:
    """Raises ValueError, naming it, for a folder of artifacts or a key file that is not there."""
    model = _model_mount(options.artifact_uri)
    key = _key_mount(options.credential_path, environ)
    storage_uri = engine.locate(model) if model else options.artifact_uri or options.deployment.storage_uri
    launch = contract.launch(
        spec,
        replace(options.deployment, storage_uri=storage_uri),
        port=engine.listen_port(spec.port, options.host_port),
    )
    identity = {CREDENTIALS: engine.locate(key)} if key else {}
    run = Run(
        image=spec.image_uri,
        port=launch.port,
        env={**_log_format(spec, engine, environ), **_project(environ), **identity, **launch.env},
        command=launch.command,
        args=launch.args,
        host_port=options.host_port,
        mounts=tuple(mount for mount in (model, key) if mount),
        shared_memory_size_mb=spec.shared_memory_size_mb,
        gpus=options.gpus,
        sealed=options.sealed,
    )
    return Plan(run=run, launch=launch)


def _log_format(spec: ContainerSpec, engine: Engine, environ: Mapping[str, str]) -> dict[str, str]:
    """Plain lines for the people who read the log here, unless the image says otherwise."""
    image = engine.image(spec.image_uri)
    if image is not None and image.env.get(contract.LOG_FORMAT):
        return {}
    return {contract.LOG_FORMAT: environ.get(contract.LOG_FORMAT) or "text"}


def _model_mount(artifact_uri: str | None) -> Mount | None:
    if not artifact_uri or artifact_uri.startswith("gs://"):
        return None
    folder = Path(artifact_uri).expanduser().resolve()
    if not folder.is_dir():
        reason = "is a file" if folder.exists() else "does not exist"
        raise ValueError(f'artifact_uri is a gs:// URI or a folder of this machine, but "{folder}" {reason}.')
    return Mount(source=folder, target=MODEL_FOLDER)


def _key_mount(credential_path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Mount | None:
    given = credential_path or environ.get(CREDENTIALS)
    if not given:
        return None
    key = Path(given).expanduser().resolve()
    if not key.is_file():
        origin = "credential_path" if credential_path else f"the environment variable {CREDENTIALS}"
        raise ValueError(f'The key file from {origin} does not exist: "{given}".')
    return Mount(source=key, target=KEY_FILE)


def _project(environ: Mapping[str, str]) -> dict[str, str]:
    """The project that code in the container sees: that of aiplatform.init, else the environment's."""
    initializer = sys.modules.get("google.cloud.aiplatform.initializer")
    config = getattr(initializer, "global_config", None)
    # Not `config.project`: without an init that property asks the metadata server, for seconds.
    project = getattr(config, "_project", None) or environ.get(PROJECT)
    return {PROJECT: str(project)} if project else {}
