"""A file's ExplanationSpec, as the REST API and the SDK's tutorials write it -> one form of JSON, checked.

The rules are those of the messages ExplanationSpec, ExplanationParameters, SampledShapleyAttribution and
ExplanationMetadata, as far as they speak of custom images.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cpr_kit.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1 import types

_PATHS = (1, 50)
_FORM = '{"parameters": {"sampledShapleyAttribution": {"pathCount": 10}}, "metadata": {"inputs": {}, "outputs": {}}}'
_METHODS = ("sampled_shapley_attribution", "integrated_gradients_attribution", "xrai_attribution", "examples")
_GRADIENTS = ("integrated_gradients_attribution", "xrai_attribution")
_WHERE = "[deploy] explanation"
_FIELD = re.compile(r"Failed to parse (\S+) field")
_UNKNOWN = re.compile(r'has no field named "([^"]*)"')
_KNOWN = re.compile(r"Available Fields\S* \S+: \"\[(.*)\]\"")


def read(content: bytes, where: str) -> str:
    """The same text for the same specification, however the file is written. Raises ConfigError, MissingExtra."""
    try:
        value = json.loads(content)
    except ValueError as error:  # UnicodeDecodeError is one
        raise ConfigError(f"{where}, which is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{where}, which holds no JSON object; an ExplanationSpec is written {_FORM}")
    spec = _parsed(json.dumps(value), where)
    _check(spec, where)
    from google.protobuf import json_format

    return json.dumps(json_format.MessageToDict(type(spec).pb(spec)), sort_keys=True)


def message(text: str) -> types.ExplanationSpec:
    """The API's message of what `read` gave."""
    return _parsed(text, _WHERE)


def warnings(text: str) -> Iterator[str]:
    """What Vertex AI takes, and cannot explain a custom container with."""
    spec = message(text)
    method = _method(spec)
    if method in _GRADIENTS:
        yield (
            f"explanation has {_json_name(method)}, which goes by a model's gradients, and of a custom container "
            "Vertex AI sees requests and answers alone; sampledShapleyAttribution needs no more than those"
        )
    ignored = sorted({field for each in spec.metadata.inputs.values() for field in _given(each)} - {"inputBaselines"})
    if ignored:
        yield (
            f"explanation has {', '.join(ignored)} in its inputs, which are for Vertex AI's own TensorFlow images; "
            "for a custom container inputBaselines count alone"
        )
    if not spec.metadata.inputs:
        yield "explanation has no metadata; of a custom container Vertex AI knows neither the features nor the output"


def _parsed(text: str, where: str) -> types.ExplanationSpec:
    try:
        from google.cloud.aiplatform_v1 import types
        from google.protobuf import json_format
    except ImportError as error:
        raise MissingExtra("google-cloud-aiplatform", "vertex") from error
    found = types.ExplanationSpec()
    try:
        json_format.Parse(text, types.ExplanationSpec.pb(found))
    except json_format.ParseError as error:
        raise ConfigError(f"{where}, which is no ExplanationSpec: {_words(error)}; it is written {_FORM}") from error
    return found


def _words(error: Exception) -> str:
    """What protobuf's reader stumbled over, without its words for it."""
    fields = _FIELD.findall(str(error))
    unknown = _UNKNOWN.search(str(error))
    if unknown is None:
        return f"{fields[-1] if fields else 'it'} has a value of another kind"
    known = _KNOWN.search(str(error))
    names = known[1].replace("'", "") if known else ""
    return f"{unknown[1]} is unknown{names and f' (known are {names})'}"


def _check(spec: types.ExplanationSpec, where: str) -> None:
    method = _method(spec)
    if not method:
        known = ", ".join(map(_json_name, _METHODS))
        raise ConfigError(f"{where}, whose parameters name no method; known are {known}: {_FORM}")
    paths = spec.parameters.sampled_shapley_attribution.path_count
    if method == _METHODS[0] and not _PATHS[0] <= paths <= _PATHS[1]:
        raise ConfigError(f"{where}, whose pathCount is {paths}; it is {_PATHS[0]} to {_PATHS[1]}")
    if "metadata" not in spec:
        return
    if not spec.metadata.inputs:
        raise ConfigError(f"{where}, whose metadata has no inputs; they are named as in an instance")
    if len(spec.metadata.outputs) != 1:
        raise ConfigError(
            f"{where}, whose metadata has {len(spec.metadata.outputs)} outputs; it is one, named as the field of a "
            "prediction that is to be explained"
        )


def _method(spec: types.ExplanationSpec) -> str:
    return next((name for name in _METHODS if name in spec.parameters), "")


def _given(message: Any) -> Iterator[str]:
    """The fields that are set, by their names in JSON."""
    yield from (field.json_name for field, _ in type(message).pb(message).ListFields())


def _json_name(field: str) -> str:
    first, *rest = field.split("_")
    return first + "".join(word.capitalize() for word in rest)
