"""Models and their versions (ModelService)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from google.protobuf.empty_pb2 import Empty

from cpr_kit.emulator import listing, masks, names
from cpr_kit.emulator.errors import already_exists, failed_precondition, invalid_argument, not_found
from cpr_kit.emulator.filters import snake_case
from cpr_kit.emulator.messages import (
    CopyModelOperationMetadata,
    CopyModelRequest,
    CopyModelResponse,
    DeleteModelRequest,
    DeleteModelVersionRequest,
    DeleteOperationMetadata,
    ExportModelOperationMetadata,
    ExportModelRequest,
    ExportModelResponse,
    ListModelsResponse,
    ListModelVersionsResponse,
    Model,
    UploadModelOperationMetadata,
    UploadModelRequest,
    UploadModelResponse,
)
from cpr_kit.emulator.names import Name
from cpr_kit.emulator.operations import Commit, Job, Operation
from cpr_kit.emulator.resources import containers, versions
from cpr_kit.emulator.resources.state import MANAGED_BUCKET, State, check_etag, now
from cpr_kit.emulator.resources.versions import DEFAULT

OF_MODEL = {"display_name", "description", "labels"}
OF_VERSION = {"version_description", "labels"}
"""What UpdateModel changes: of the model, under a name without version, or of one version (UpdateModelRequest)."""
_ALL_VERSIONS = "-"
_OUTPUT_ONLY = (
    *("training_pipeline", "deployed_models", "model_source_info", "original_model_info", "metadata_artifact"),
    *("satisfies_pzs", "satisfies_pzi", "checkpoints", "supported_export_formats"),
    *("supported_deployment_resources_types", "supported_input_storage_formats", "supported_output_storage_formats"),
)
"""Fields that only the service fills in; a caller's are passed over (AIP-203)."""


class Models:
    """`ingest` gives the id of the image that a reference names now, and raises where there is none.

    `changed` is called with each endpoint that shows what has changed here.
    """

    def __init__(self, state: State, ingest: Callable[[str], str], changed: Callable[[str], None]) -> None:
        self._state = state
        self._ingest = ingest
        self._changed = changed
        self.calls: dict[str, Callable[[Any], Any]] = {
            "ModelService.UploadModel": self.upload,
            "ModelService.GetModel": self.get,
            "ModelService.ListModels": self.list,
            "ModelService.ListModelVersions": self.list_versions,
            "ModelService.UpdateModel": self.update,
            "ModelService.DeleteModel": self.delete,
            "ModelService.DeleteModelVersion": self.delete_version,
            "ModelService.MergeVersionAliases": self.merge_aliases,
            "ModelService.CopyModel": self.copy,
            "ModelService.ExportModel": self.export,
        }
        operations = state.operations
        operations.register("UploadModel", UploadModelRequest, self._upload)
        operations.register("CopyModel", CopyModelRequest, self._copy)
        operations.register("DeleteModel", DeleteModelRequest, self._delete)
        operations.register("DeleteModelVersion", DeleteModelVersionRequest, self._delete_version)
        operations.register("ExportModel", ExportModelRequest, self._export)

    # Upload

    def upload(self, request: Any) -> Operation:
        parent = self._state.name(request.parent)
        model = request.model
        names.check_display_name(model.display_name)
        names.check_labels(dict(model.labels))
        versions.check_aliases(model.version_aliases)
        if model.HasField("container_spec"):
            containers.read(model.container_spec)
        if model.artifact_uri and not model.artifact_uri.startswith("gs://"):
            raise invalid_argument(f'model.artifact_uri is "{model.artifact_uri}"; it must be a gs:// directory.')
        if request.model_id and request.parent_model:
            raise invalid_argument("Give either model_id, for a new model, or parent_model, for a new version.")
        plan = self._reserve(parent, request.model_id, request.parent_model)
        name = plan["model"]
        return self._state.operations.start("UploadModel", name, request, plan, UploadModelOperationMetadata())

    def _reserve(self, parent: Name, model_id: str, parent_model: str) -> dict[str, str]:
        """The name of the model that a version is for, and the version's number; `new` is "yes" or ""."""
        if parent_model:
            model = self._state.name(parent_model, "models")
            if model.parent != parent.parent:
                raise invalid_argument(f"The parent model {model.plain} is not in {parent.parent}.")
            if not versions.of(self._state, model.plain):
                raise not_found(f"The Model {model.plain} does not exist.")
            return {"model": model.plain, "version": self._next_version(model.plain), "new": ""}
        if model_id:
            names.check_id("model_id", model_id, names.MODEL_ID)
        name = f"{parent.parent}/models/{model_id or names.new_id()}"
        taken = any(plan["model"] == name for plan in self._state.operations.running("UploadModel", "CopyModel"))
        if taken or versions.of(self._state, name):
            raise already_exists(f"The Model {name} already exists.")
        # One that could not be uploaded left no version.
        self._state.store.delete_value(f"next:version of {name}")
        return {"model": name, "version": self._next_version(name), "new": "yes"}

    def _next_version(self, name: str) -> str:
        return str(self._state.store.next(f"version of {name}"))

    async def _upload(self, job: Job) -> Commit:
        model = Model()
        model.CopyFrom(job.request.model)
        for field in _OUTPUT_ONLY:
            model.ClearField(field)
        await self._take(model, model.artifact_uri, job)
        return lambda: UploadModelResponse(model=job.plan["model"], model_version_id=self._add(model, job).version_id)

    async def _take(self, model: Any, source: str, job: Job) -> None:
        """What the service takes of a model at upload: the image that the reference names now, and its artifacts."""
        reference = model.container_spec.image_uri
        if reference:
            found = await asyncio.to_thread(self._ingest, reference)
            self._state.store.set_value(f"image of {job.plan['model']}@{job.plan['version']}", found)
        if source:
            copying = asyncio.ensure_future(asyncio.to_thread(self._copy_artifacts, source, job.plan))
            try:
                await asyncio.shield(copying)
            except asyncio.CancelledError:
                await asyncio.wait({copying})
                raise

    def _copy_artifacts(self, source: str, plan: Any) -> None:
        """Later changes in the user's bucket do not count (Model.artifact_uri)."""
        target = managed_uri(self._state, plan)
        for left in self._state.depot.list(f"{target}/"):  # by an upload of this version that did not get to its end
            self._state.depot.delete(left)
        if not self._state.depot.copy_folder(source.rstrip("/"), target):
            number = target.removeprefix("gs://").partition("/")[0].rpartition("-")[2]
            raise failed_precondition(
                f"Service account `service-{number}@gcp-sa-aiplatform.iam.gserviceaccount.com` does not have "
                f"[storage.objects.list, storage.objects.get] IAM permissions to the directory {source}, or it is "
                "empty. Here: there is no object under it in the emulator's storage."
            )

    def _add(self, model: Any, job: Job) -> Any:
        """Put a new version into the registry, under its model."""
        name, version = job.plan["model"], job.plan["version"]
        others = versions.of(self._state, name)
        if not others and not job.plan["new"]:
            raise not_found(f"The Model {name} does not exist.")
        aliases = set(model.version_aliases) | (set() if others else {DEFAULT})
        if job.plan["new"]:
            versions.set_labels(self._state, name, model.labels)
            model.ClearField("labels")
        model.name, model.version_id = name, version
        model.ClearField("version_aliases")
        present = now()
        model.create_time.CopyFrom(others[0].create_time if others else present)
        for stamp in (model.update_time, model.version_create_time, model.version_update_time):
            stamp.CopyFrom(present)
        versions.describe(model)
        self._state.versions.put(f"{name}@{version}", model)
        versions.assign(self._state, name, version, aliases)
        return model

    # Read

    def get(self, request: Any) -> Any:
        name = self._state.name(request.name, "models")
        return self._shown(versions.find(self._state, name), versioned=bool(name.version))

    def list(self, request: Any) -> Any:
        parent = self._state.name(request.parent)
        found = [self._shown(model) for model in versions.defaults(self._state, f"{parent.parent}/models/")]
        page, token = self._state.page(found, request, listing.MODELS, parent.parent)
        return ListModelsResponse(models=page, next_page_token=token)

    def list_versions(self, request: Any) -> Any:
        name = self._state.name(request.name, "models").plain
        found = [self._shown(model, versioned=True) for model in versions.of(self._state, name)]
        if not found:
            raise not_found(f"The Model {name} does not exist.")
        page, token = self._state.page(found, request, listing.MODEL_VERSIONS, name)
        return ListModelVersionsResponse(models=page, next_page_token=token)

    def _shown(self, model: Any, *, versioned: bool = False) -> Any:
        """A version as the service shows it, with the model's labels and where it is deployed.

        One that was asked for by version has it in its name: ModelRegistry.update_version sends that name back.
        """
        for key, value in versions.labels(self._state, model.name).items():
            model.labels.setdefault(key, value)
        model.etag = versions.etag_of(self._state, model)
        for endpoint, deployed in versions.deployed(self._state, model.name, model.version_id):
            model.deployed_models.add(endpoint=endpoint, deployed_model_id=deployed)
        if versioned:
            model.name = f"{model.name}@{model.version_id}"
        return model

    # Change

    def update(self, request: Any) -> Any:
        """Of the model or of one version, by the name, and never of both (UpdateModelRequest)."""
        name = self._state.name(request.model.name, "models")
        of_version = name.version not in ("", _ALL_VERSIONS)
        given = {snake_case(path.partition(".")[0]) for path in request.update_mask.paths}
        other = (OF_MODEL - OF_VERSION if of_version else OF_VERSION - OF_MODEL) & given
        if other:
            what = "a version, as in models/M@1" if of_version else "the model and no version, as in models/M"
            wanted = "the model's, whose name has no version" if of_version else "a version's, as in models/M@1"
            raise failed_precondition(
                f"The name {request.model.name} is that of {what}; {', '.join(sorted(other))} is {wanted}."
            )
        with self._state.store.transaction():
            return self._update_version(name, request) if of_version else self._update_model(name, request)

    def _update_version(self, name: Name, request: Any) -> Any:
        model = versions.find(self._state, name)
        check_etag(
            self._state, request.model.etag, (versions.etag_of(self._state, model),), f"{model.name}@{model.version_id}"
        )
        masks.apply(model, request.model, request.update_mask, allowed=OF_VERSION)
        names.check_labels(dict(model.labels))
        model.version_update_time.CopyFrom(now())
        self._state.versions.put(f"{model.name}@{model.version_id}", model)
        return self._shown(model, versioned=True)

    def _update_model(self, name: Name, request: Any) -> Any:
        model = versions.find(self._state, replace(name, rest=name.rest.partition("@")[0]))
        # The SDK's Model.update sends the etag of whichever version it was made of.
        present = [versions.etag_of(self._state, each) for each in versions.of(self._state, model.name)]
        check_etag(self._state, request.model.etag, present, model.name)
        changed = Model(
            display_name=model.display_name,
            description=model.description,
            labels=versions.labels(self._state, model.name),
        )
        masks.apply(changed, request.model, request.update_mask, allowed=OF_MODEL)
        names.check_display_name(changed.display_name)
        names.check_labels(dict(changed.labels))
        versions.set_labels(self._state, model.name, changed.labels)
        for each in versions.of(self._state, model.name):
            each.display_name, each.description = changed.display_name, changed.description
            each.update_time.CopyFrom(now())
            self._state.versions.put(f"{model.name}@{each.version_id}", each)
        for endpoint, _ in versions.deployed(self._state, model.name):
            self._changed(endpoint)
        return self._shown(versions.find(self._state, self._state.name(model.name)))

    def merge_aliases(self, request: Any) -> Any:
        """`-alias` removes one; one that is both added and removed stays as it is (MergeVersionAliasesRequest)."""
        name = self._named_version(request.name)
        model = versions.find(self._state, name)
        removed = {alias[1:] for alias in request.version_aliases if alias.startswith("-")}
        added = {alias for alias in request.version_aliases if not alias.startswith("-")}
        versions.check_aliases(added | removed)
        added, removed = added - removed, removed - added
        if DEFAULT in removed:
            raise invalid_argument('The alias "default" cannot be removed; assign it to another version.')
        with self._state.store.transaction():
            versions.assign(self._state, model.name, model.version_id, added, removed)
        model = versions.find(self._state, self._state.name(f"{model.name}@{model.version_id}"))
        return self._shown(model, versioned=True)

    def _named_version(self, text: str) -> Name:
        name = self._state.name(text, "models")
        if not name.version:
            raise invalid_argument(f"{text} names no version, as in {text}@1.")
        return name

    def delete(self, request: Any) -> Operation:
        name = self._state.name(request.name, "models")
        if name.version:
            raise invalid_argument(f"{request.name} names a version; DeleteModelVersion deletes one.")
        found = versions.of(self._state, name.plain)
        if not found:
            raise not_found(f"The Model {name.plain} does not exist.")
        versions.check_unused(self._state, name.plain, [model.version_id for model in found])
        plan = {"model": name.plain}
        return self._state.operations.start("DeleteModel", name.plain, request, plan, DeleteOperationMetadata())

    async def _delete(self, job: Job) -> Commit:
        def commit() -> Empty:
            name = job.plan["model"]
            found = [model.version_id for model in versions.of(self._state, name)]
            versions.check_unused(self._state, name, found)
            for version in found:
                self._remove(name, version)
            self._state.store.delete_value(f"next:version of {name}")
            versions.set_labels(self._state, name, {})
            return Empty()

        return commit

    def delete_version(self, request: Any) -> Operation:
        model = versions.find(self._state, self._named_version(request.name))
        self._check_not_last(model.name, model.version_id)
        versions.check_unused(self._state, model.name, [model.version_id])
        plan = {"model": model.name, "version": model.version_id}
        return self._state.operations.start("DeleteModelVersion", model.name, request, plan, DeleteOperationMetadata())

    async def _delete_version(self, job: Job) -> Commit:
        def commit() -> Empty:
            name, version = job.plan["model"], job.plan["version"]
            self._check_not_last(name, version)
            versions.check_unused(self._state, name, [version])
            self._remove(name, version)
            versions.ensure_default(self._state, name)
            return Empty()

        return commit

    def _check_not_last(self, name: str, version: str) -> None:
        if [each.version_id for each in versions.of(self._state, name)] == [version]:
            raise failed_precondition(f"{name}@{version} is the only version of its model; delete the model instead.")

    def _remove(self, name: str, version: str) -> None:
        self._state.versions.delete(f"{name}@{version}")
        self._state.store.delete_value(f"image of {name}@{version}")
        for uri in self._state.depot.list(managed_uri(self._state, {"model": name, "version": version}) + "/"):
            self._state.depot.delete(uri)

    # Copy and export

    def copy(self, request: Any) -> Operation:
        parent = self._state.name(request.parent)
        source = versions.find(self._state, self._state.name(request.source_model, "models"))
        plan = self._reserve(parent, request.model_id, request.parent_model)
        plan["source"] = f"{source.name}@{source.version_id}"
        return self._state.operations.start("CopyModel", plan["model"], request, plan, CopyModelOperationMetadata())

    async def _copy(self, job: Job) -> Commit:
        """A copy has neither the aliases nor the id of its origin (Copy models in Model Registry)."""
        source = self._state.versions.get(job.plan["source"])
        if source is None:
            raise not_found(f"The Model {job.plan['source']} does not exist.")
        origin, _, version = job.plan["source"].partition("@")
        artifacts = managed_uri(self._state, {"model": origin, "version": version}) if source.artifact_uri else ""
        source.ClearField("version_aliases")
        for key, value in versions.labels(self._state, origin).items():
            source.labels.setdefault(key, value)
        await self._take(source, artifacts, job)
        source.model_source_info.copy = True
        source.original_model_info.model = job.plan["source"]
        return lambda: CopyModelResponse(model=job.plan["model"], model_version_id=self._add(source, job).version_id)

    def export(self, request: Any) -> Operation:
        model = versions.find(self._state, self._state.name(request.name, "models"))
        output = request.output_config
        prefix = output.artifact_destination.output_uri_prefix
        if output.export_format_id not in ("", "custom-trained"):
            raise invalid_argument(f'The export format "{output.export_format_id}" is not one of: custom-trained.')
        if not prefix.startswith("gs://") or not model.artifact_uri:
            raise invalid_argument(
                "Give output_config.artifact_destination.output_uri_prefix a gs:// directory."
                if model.artifact_uri
                else f"The Model {model.name} has no artifacts to export."
            )
        stamp = now().ToDatetime().isoformat(timespec="milliseconds")
        target = f"{prefix.rstrip('/')}/model-export-{model.display_name}-{stamp}Z"  # as OutputConfig has it
        plan = {"model": model.name, "version": model.version_id, "target": target}
        metadata = ExportModelOperationMetadata()
        metadata.output_info.artifact_output_uri = target
        return self._state.operations.start("ExportModel", model.name, request, plan, metadata)

    async def _export(self, job: Job) -> Commit:
        await asyncio.to_thread(self._state.depot.copy_folder, managed_uri(self._state, job.plan), job.plan["target"])
        response: Commit = ExportModelResponse
        return response


def managed_uri(state: State, plan: Any) -> str:
    """Where the service keeps its copy of a version's artifacts: AIP_STORAGE_URI."""
    name = state.name(plan["model"], "models")
    bucket = MANAGED_BUCKET.format(number=name.project)
    return f"gs://{bucket}/{name.location}/models/{name.id}/{plan['version']}/artifacts"
