"""What a client sees when a container misbehaves: contract.md 1.7, with what is UNCONFIRMED there from the settings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from cpr_kit.emulator.errors import (
    ApiError,
    Code,
    deadline_exceeded,
    failed_precondition,
    resource_exhausted,
    unavailable,
)
from cpr_kit.emulator.predict.target import DeployedModel
from cpr_kit.emulator.settings import Settings

_BAD_REQUEST, _SERVER_FAULT = 400, 500
_OWN_CODE = {400: Code.FAILED_PRECONDITION, 500: Code.INTERNAL, 503: Code.UNAVAILABLE}
_RESET = "upstream connect error or disconnect/reset before headers. reset reason: "
"""Envoy's words, as "upstream request timeout" are: UNCONFIRMED."""
_MAX_TRAILER = 2048


def refused(status: int, body: bytes, settings: Settings) -> ApiError:
    """The container answered with an error: its body is the message, word for word."""
    text = body.decode(errors="replace")
    if status in _OWN_CODE:
        return ApiError(_OWN_CODE[status], text)
    if status < _BAD_REQUEST:  # a redirect, which nobody follows
        return ApiError(Code.INTERNAL, f"The model server answered with HTTP status {status}. {text}".rstrip())
    if settings.other_errors_keep_status:
        return ApiError(Code.of_http(status), text, http_status=status)
    return ApiError(Code.INTERNAL if status >= _SERVER_FAULT else Code.FAILED_PRECONDITION, text)


def bad_answer(why: str, body: bytes, settings: Settings) -> ApiError:
    """A 200 that is no prediction response. The words are those that explain is known to use."""
    status = settings.not_json_status
    code = _OWN_CODE.get(status) or Code.of_http(status)
    text = body.decode(errors="replace")
    return ApiError(code, f"Invalid response from prediction server - {why}. Response: {text}", http_status=status)


def not_ready(model: DeployedModel, settings: Settings) -> ApiError:
    """No replica gets traffic: one that is scaled to zero says so, the others are Envoy's words (UNCONFIRMED)."""
    if model.min_replicas == 0:
        return resource_exhausted(settings.scale_to_zero_message)
    return unavailable("no healthy upstream")


def unreachable() -> ApiError:
    return unavailable(f"{_RESET}connection failure")


def broken() -> ApiError:
    """The container went away, or spoke no HTTP, while it had the request."""
    return unavailable(f"{_RESET}connection termination")


def too_slow() -> ApiError:
    return deadline_exceeded("upstream request timeout")


def no_invoke_route(model: DeployedModel) -> ApiError:
    return failed_precondition(
        f"DeployedModel {model.id} ({model.model}) does not serve invoke: "
        'its containerSpec has no invokeRoutePrefix "/*".'
    )


def invoke_alone(model: DeployedModel) -> ApiError:
    """ModelContainerSpec.invoke_route_prefix: every other way to predict is off."""
    return failed_precondition(
        f"DeployedModel {model.id} ({model.model}) is asked by invoke alone: its containerSpec has invokeRoutePrefix."
    )


@contextlib.contextmanager
def in_trailers() -> Iterator[None]:
    """Over gRPC a message travels in the trailers, where clients allow 8 KB in all: a longer one hides the status."""
    try:
        yield
    except ApiError as error:
        text = error.message.encode()
        if len(text) <= _MAX_TRAILER:
            raise
        short = text[:_MAX_TRAILER].decode(errors="ignore")
        raise ApiError(error.code, f"{short}... ({len(text)} bytes in all)", http_status=error.http_status) from error
