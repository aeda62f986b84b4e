"""Versions of models, their aliases, and where they are deployed (Model versioning with Model Registry)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cpr_kit.emulator import names
from cpr_kit.emulator.errors import failed_precondition, invalid_argument, not_found
from cpr_kit.emulator.messages import Model
from cpr_kit.emulator.names import Name
from cpr_kit.emulator.resources.state import State, etag

DEFAULT = "default"
"""Exactly one version of a model has this alias."""
_INPUTS = ("jsonl", "bigquery", "csv", "tf-record", "tf-record-gzip", "file-list")
_OUTPUTS = ("jsonl", "bigquery")


def of(state: State, model: str) -> list[Any]:
    """A model's versions, the oldest first."""
    return state.versions.under(f"{model}@")


def defaults(state: State, prefix: str) -> Iterator[Any]:
    """Of each model its default version."""
    return (model for model in state.versions.under(prefix) if DEFAULT in model.version_aliases)


def find(state: State, name: Name) -> Any:
    """The version that a name means: by number, by alias, or the default one."""
    wanted = name.version or DEFAULT
    if wanted.isdigit():
        found = state.versions.get(f"{name.plain}@{wanted}")
        if found is not None:
            return found
    for model in of(state, name.plain):
        if wanted in model.version_aliases:
            return model
    raise not_found(f"The Model {name} does not exist.")


def labels(state: State, model: str) -> dict[str, str]:
    """The labels of the model itself, which each of its versions shows beside its own (UpdateModelRequest.model)."""
    found: dict[str, str] = json.loads(state.store.value(_labels(model)) or "{}")
    return found


def set_labels(state: State, model: str, given: Mapping[str, str]) -> None:
    if given:
        state.store.set_value(_labels(model), json.dumps(dict(given)))
    else:
        state.store.delete_value(_labels(model))


def _labels(model: str) -> str:
    return f"labels of {model}"


def check_aliases(aliases: Iterable[str]) -> None:
    for alias in aliases:
        names.check_id("version alias", alias, names.ALIAS)


def assign(
    state: State, model: str, version: str, added: set[str], removed: frozenset[str] | set[str] = frozenset()
) -> None:
    """Give a version aliases, which other versions lose, and take some away."""
    for each in of(state, model):
        mine = each.version_id == version
        before = list(each.version_aliases)
        after = [alias for alias in before if alias not in (removed if mine else added)]
        after += sorted(added - set(after)) if mine else []
        if after != before:
            del each.version_aliases[:]
            each.version_aliases.extend(after)
            state.versions.put(f"{model}@{each.version_id}", each)


def ensure_default(state: State, model: str) -> None:
    """When the default version is gone, the newest one is it."""
    left = of(state, model)
    if left and not any(DEFAULT in each.version_aliases for each in left):
        assign(state, model, left[-1].version_id, {DEFAULT})


def deployed(state: State, model: str, version: str = "") -> Iterator[tuple[str, str]]:
    """Endpoint and deployed model id of each place that a model, or one version, is deployed at."""
    location = model.partition("/models/")[0]
    for endpoint in state.endpoints.under(f"{location}/endpoints/"):
        for each in endpoint.deployed_models:
            if each.model == model and version in ("", each.model_version_id):
                yield endpoint.name, each.id


def check_unused(state: State, model: str, versions: Iterable[str]) -> None:
    """Raises for a version that is deployed, or is just being deployed (DeleteModel)."""
    for version in versions:
        places = [f"{endpoint} ({identity})" for endpoint, identity in deployed(state, model, version)]
        places += [
            plan["endpoint"]
            for plan in state.operations.running("DeployModel")
            if (plan["model"], plan["version"]) == (model, version)
        ]
        if places:
            raise failed_precondition(
                f"The Model {model}@{version} is deployed or being deployed at the following Endpoint(s): "
                f"{', '.join(places)}."
            )


def check_servable(model: Any) -> None:
    if not model.HasField("container_spec"):
        raise invalid_argument(f"The Model {model.name}@{model.version_id} has no container_spec, so it cannot serve.")


def etag_of(state: State, model: Any) -> str:
    """Of a version as it is kept, with the labels of its model. Where it is deployed is the endpoints' to say."""
    shown = Model()
    shown.CopyFrom(model)
    for key, value in labels(state, model.name).items():
        shown.labels.setdefault(key, value)
    return etag(shown)


def describe(model: Any) -> None:
    """The fields that a custom container's model has from the service."""
    if not model.HasField("container_spec"):
        return
    del model.supported_deployment_resources_types[:]
    model.supported_deployment_resources_types.append(Model.DeploymentResourcesType.Value("DEDICATED_RESOURCES"))
    del model.supported_input_storage_formats[:], model.supported_output_storage_formats[:]
    model.supported_input_storage_formats.extend(_INPUTS)
    model.supported_output_storage_formats.extend(_OUTPUTS)
    if model.artifact_uri and not model.supported_export_formats:
        artifact = Model.ExportFormat.ExportableContent.Value("ARTIFACT")
        model.supported_export_formats.add(id="custom-trained", exportable_contents=[artifact])
    if not model.model_source_info.copy:
        model.model_source_info.source_type = 2  # CUSTOM
    model.predict_schemata.SetInParent()
