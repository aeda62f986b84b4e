"""The JSON of predict: what callers send, containers answer and callers get (PredictRequest, PredictResponse)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from cpr_kit.emulator.errors import invalid_argument
from cpr_kit.emulator.messages import PredictResponse
from cpr_kit.emulator.predict import mapping, values
from cpr_kit.emulator.predict.target import DeployedModel, Endpoint
from cpr_kit.emulator.settings import Settings

_OF_REQUEST = frozenset(("endpoint", "instances", "parameters", "labels"))
_OF_ANSWER = frozenset(("predictions", "metadata"))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The body that a container gets, and how many instances are in it."""

    body: bytes
    instances: int


def to_container(endpoint: Endpoint, body: bytes) -> Asked:
    """On shared endpoints the body goes through a PredictRequest, elsewhere it is as sent.

    "Invalid JSON payload received" is what Google's front ends say; "Empty instances." is UNCONFIRMED.
    """
    content = _parse(body)
    shared = endpoint.kind == "public"
    if shared and (unknown := content.keys() - _OF_REQUEST):
        raise invalid_argument(f'Invalid JSON payload received. Unknown name "{min(unknown)}": Cannot find field.')
    count = _count(content.get("instances"))
    if not shared:
        return Asked(body=body, instances=count)
    kept = {key: content[key] for key in ("instances", "parameters") if content.get(key) is not None}
    try:
        return Asked(body=orjson.dumps(values.as_floats(kept)), instances=count)
    except values.NotAValue as error:
        raise invalid_argument(f"Invalid JSON payload received. {error}.") from error


def message_to_container(request: Any) -> Asked:
    """The same, from a PredictRequest."""
    if not request.instances:
        raise invalid_argument("Empty instances.")
    try:
        content = {"instances": [values.to_json(instance) for instance in request.instances]}
        if request.HasField("parameters"):
            parameters = values.to_json(request.parameters)
            if parameters is not None:
                content["parameters"] = parameters
    except values.NotAValue as error:
        raise invalid_argument(f"Request contains an invalid argument: {error}.") from error
    return Asked(body=orjson.dumps(content), instances=len(request.instances))


class PredictionAnswer:
    """A container's 200, checked: an object with a list under "predictions"."""

    def __init__(self, body: bytes, asked: Asked, settings: Settings) -> None:
        self._body = body
        self._settings = settings
        try:
            content = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise mapping.bad_answer(f"the response is no JSON ({error})", body, settings) from error
        if not isinstance(content, dict) or content.get("predictions") is None:
            raise mapping.bad_answer("the response field predictions is missing", body, settings)
        if not isinstance(content["predictions"], list):
            raise mapping.bad_answer("the response field predictions is no list", body, settings)
        given = len(content["predictions"])
        if settings.check_prediction_count and given != asked.instances:
            why = f"{given} predictions for {asked.instances} instances"
            raise mapping.bad_answer(why, body, settings)
        self._content: dict[str, Any] = content

    def json(self, endpoint: Endpoint, model: DeployedModel) -> bytes:
        """The answer over REST; `model` says who gave it. Shared endpoints pass it through a PredictResponse."""
        own = {
            "deployedModelId": model.id,
            "model": model.model,
            "modelDisplayName": model.display_name,
            "modelVersionId": model.version,
        }
        as_it_is = endpoint.kind != "public"
        if as_it_is and self._content.keys() <= _OF_ANSWER:
            # Written behind what the container wrote: its numbers stay as they are, and nothing is done twice.
            return self._body.rstrip()[:-1] + b"," + orjson.dumps(own)[1:]
        kept = self._content
        if self._settings.drop_extra_keys:
            kept = {key: self._content[key] for key in ("predictions", "metadata") if key in self._content}
        try:
            return orjson.dumps((kept if as_it_is else values.as_floats(kept)) | own)
        except (values.NotAValue, orjson.JSONEncodeError) as error:
            raise mapping.bad_answer(str(error), self._body, self._settings) from error

    def message(self, model: DeployedModel) -> Any:
        """The same, as a PredictResponse."""
        response = PredictResponse(
            deployed_model_id=model.id,
            model=model.model,
            model_version_id=model.version,
            model_display_name=model.display_name,
        )
        try:
            for prediction in self._content["predictions"]:
                values.fill(response.predictions.add(), prediction)
            if self._content.get("metadata") is not None:
                values.fill(response.metadata, self._content["metadata"])
        except values.NotAValue as error:
            raise mapping.bad_answer(str(error), self._body, self._settings) from error
        return response


def _parse(body: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid_argument(f"Invalid JSON payload received. {error}") from error
    if not isinstance(content, dict):
        raise invalid_argument("Invalid JSON payload received. The request is no JSON object.")
    return content


def _count(instances: Any) -> int:
    if instances is None or instances == []:
        raise invalid_argument("Empty instances.")
    if not isinstance(instances, list):
        raise invalid_argument("Invalid value at 'instances': it is no list.")
    return len(instances)
