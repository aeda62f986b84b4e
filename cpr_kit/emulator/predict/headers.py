"""Which headers go to a container, which come back, and those that say who answered (PredictionService.RawPredict)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from cpr_kit.emulator.errors import invalid_argument
from cpr_kit.emulator.predict.target import DeployedModel, Endpoint
from cpr_kit.emulator.settings import Settings

PREDICTION: Mapping[str, str] = {"content-type": "application/json; charset=UTF-8"}

_OF_THE_BODY = ("content-type", "content-encoding")
_NOT_IN_A_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OWN = "x-vertex-ai-"
_GOOGLE = ("x-goog-", "x-forwarded-", "x-google-")
"""Read by Google's front ends, or written by them."""


def to_container(sent: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Those of the body always; the caller's x-* and Accept by the setting, since no document says (UNCONFIRMED)."""
    kept = _kept(sent, (*_OF_THE_BODY, "accept") if settings.pass_request_headers else _OF_THE_BODY, settings)
    for name, value in kept.items():
        if not value.isprintable() and _NOT_IN_A_HEADER.search(value):  # only gRPC can bring one: HttpBody.content_type
            raise invalid_argument(f"The {name} has a control character: {value[:80]!r}.")
    return kept


def to_caller(answered: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """A container's x-* come back where the caller's go there: one user's x-request-id was seen both ways."""
    return {name: value for name, value in _kept(answered, _OF_THE_BODY, settings).items() if not name.startswith(_OWN)}


def identity(endpoint: Endpoint, model: DeployedModel, settings: Settings) -> dict[str, str]:
    """Who answered; the SDK's predict(use_raw_predict=True) reads the last three."""
    found = {"x-vertex-ai-endpoint-id": endpoint.id, "x-vertex-ai-deployed-model-id": model.id}
    if settings.model_headers_on_raw_predict:
        found |= {"x-vertex-ai-model": model.model, "x-vertex-ai-model-version-id": model.version}
    return found


def own(answered: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in answered.items() if name.startswith(_OWN)}


def _kept(found: Mapping[str, str], always: tuple[str, ...], settings: Settings) -> dict[str, str]:
    kept = {}
    for name, value in found.items():
        lower = name.lower()
        passes = settings.pass_request_headers and lower.startswith("x-") and not lower.startswith(_GOOGLE)
        if (passes or lower in always) and value:
            kept[lower] = value
    return kept
