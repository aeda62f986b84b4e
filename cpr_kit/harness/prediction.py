"""Reads a reply as the cloud's client does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cpr_kit.errors import PredictionError

if TYPE_CHECKING:
    import requests

_OK = 200


class Prediction(NamedTuple):
    """What the cloud's `Endpoint.predict` returns, field by field."""

    predictions: list[Any]
    deployed_model_id: str
    metadata: Any = None
    model_version_id: str | None = None
    model_resource_name: str | None = None
    explanations: Sequence[Any] | None = None


def read(response: requests.Response, deployed_model_id: str) -> Prediction:
    """Read a reply as the cloud's client does. Raises PredictionError when it is no prediction."""
    if response.status_code != _OK:
        raise PredictionError(response.status_code, error_message(response))
    reply = _json(response)
    if not isinstance(reply, dict) or not isinstance(reply.get("predictions"), list):
        raise PredictionError(_OK, f'the reply is no JSON object with a list "predictions": {response.text[:500]}')
    return Prediction(
        predictions=reply["predictions"],
        deployed_model_id=reply.get("deployedModelId", deployed_model_id),
        metadata=reply.get("metadata"),
        model_version_id=reply.get("modelVersionId"),
        model_resource_name=reply.get("model"),
        explanations=reply.get("explanations"),
    )


def error_message(response: requests.Response) -> str:
    """The message of an error reply in any of the usual forms, else its text."""
    reply = _json(response)
    if isinstance(reply, dict):
        error = reply.get("error", reply.get("detail", reply.get("message")))
        if isinstance(error, dict):
            error = error.get("message")
        if error is not None:
            return str(error)
    return response.text.strip() or response.reason or "no message"


def _json(response: requests.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None
