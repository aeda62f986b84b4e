"""What each kind of endpoint lets through: which calls, how many bytes, for how long ("Choose an endpoint type")."""

from __future__ import annotations

from typing import Literal

from cpr_kit.contract import MAX_BODY, EndpointKind
from cpr_kit.emulator.errors import ApiError, Code, failed_precondition
from cpr_kit.emulator.predict.target import Endpoint
from cpr_kit.emulator.settings import Settings

Verb = Literal[
    "predict",
    "rawPredict",
    "streamRawPredict",
    "explain",
    "invoke",
    "chat",
    "directPredict",
    "directRawPredict",
    "streamDirectPredict",
    "streamDirectRawPredict",
    "serverStreamingPredict",
    "streamingPredict",
    "streamingRawPredict",
]

TIMEOUT_S = 60.0
"""Shared public and private services access, fixed."""
DEFAULT_TIMEOUT_S = 600.0
MAX_TIMEOUT_S = 3600.0
"""Dedicated and Private Service Connect: clientConnectionConfig.inferenceTimeout."""

_NAMES: dict[EndpointKind, str] = {
    "public": "a shared public endpoint",
    "dedicated": "a dedicated public endpoint",
    "psc": "a Private Service Connect endpoint",
    "psa": "a private endpoint in a peered network (VPC)",
}
_ONLY: dict[Verb, tuple[EndpointKind, ...]] = {
    "explain": ("public",),
    "invoke": ("dedicated", "psc"),
}
# The documents' table has no streaming on shared endpoints, but the API and its SDK offer it there: UNCONFIRMED.
_MOST: tuple[EndpointKind, ...] = ("public", "dedicated", "psc")


def allow(endpoint: Endpoint, verb: Verb) -> None:
    """Refuse a call that this kind of endpoint does not have. Peered networks have one URL alone: the container's."""
    if endpoint.kind == "psa":
        raise failed_precondition(
            f"{verb} is not supported on {_NAMES['psa']} ({endpoint.name}); "
            "it is asked over plain HTTP at its deployed model's privateEndpoints.predictHttpUri."
        )
    kinds = _ONLY.get(verb, _MOST)
    if endpoint.kind not in kinds:
        raise failed_precondition(
            f"{verb} is not supported on {_NAMES[endpoint.kind]} ({endpoint.name}); "
            f"it is on {' and '.join(_NAMES[kind] for kind in kinds)}."
        )


def timeout_s(endpoint: Endpoint) -> float:
    """How long a request may take before the client gets a 504."""
    if endpoint.kind in {"public", "psa"}:
        return TIMEOUT_S
    return min(max(endpoint.timeout_s or DEFAULT_TIMEOUT_S, 1.0), MAX_TIMEOUT_S)


def max_body(endpoint: Endpoint) -> int:
    """The bytes of a request, and of its answer."""
    return MAX_BODY[endpoint.kind]


def check_request(endpoint: Endpoint, size: int, settings: Settings) -> None:
    if size > max_body(endpoint):
        raise too_large("Request", max_body(endpoint), settings)


def too_large(what: Literal["Request", "Response"], limit: int, settings: Settings) -> ApiError:
    """The words are those of Google's front end; whether Vertex AI has the same is UNCONFIRMED."""
    status = settings.too_large_status
    message = f"{what} payload size exceeds the limit: {limit} bytes."
    return ApiError(Code.of_http(status), message, http_status=status)
