"""The errors that the API answers with: google.rpc codes, over HTTP and gRPC alike."""

from __future__ import annotations

import enum

from cpr_kit.errors import CprError


class Code(enum.IntEnum):
    """google.rpc.Code; `http_status` is its counterpart in google/rpc/code.proto."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    @property
    def http_status(self) -> int:
        return _HTTP_STATUS[self]

    @classmethod
    def of_http(cls, status: int) -> Code:
        """The code whose HTTP status this is; the first by number where several share it."""
        return _OF_HTTP.get(status, cls.UNKNOWN if status >= _SERVER_FAULT else cls.INVALID_ARGUMENT)


_SERVER_FAULT = 500
_HTTP_STATUS = {
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
_OF_HTTP = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    409: Code.ABORTED,
    429: Code.RESOURCE_EXHAUSTED,
    499: Code.CANCELLED,
    500: Code.INTERNAL,
    501: Code.UNIMPLEMENTED,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}


class ApiError(CprError):
    """A refusal. `http_status` differs from the code's own where a container's status goes through."""

    def __init__(self, code: Code, message: str, *, http_status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.http_status = http_status or code.http_status

    def __str__(self) -> str:
        return self.message

    def body(self) -> dict[str, object]:
        """Google's JSON form of an error (AIP-193)."""
        return {"error": {"code": self.http_status, "message": self.message, "status": self.code.name}}


def invalid_argument(message: str) -> ApiError:
    return ApiError(Code.INVALID_ARGUMENT, message)


def not_found(message: str) -> ApiError:
    return ApiError(Code.NOT_FOUND, message)


def already_exists(message: str) -> ApiError:
    return ApiError(Code.ALREADY_EXISTS, message)


def aborted(message: str) -> ApiError:
    return ApiError(Code.ABORTED, message)


def failed_precondition(message: str) -> ApiError:
    return ApiError(Code.FAILED_PRECONDITION, message)


def permission_denied(message: str) -> ApiError:
    return ApiError(Code.PERMISSION_DENIED, message)


def resource_exhausted(message: str) -> ApiError:
    return ApiError(Code.RESOURCE_EXHAUSTED, message)


def unimplemented(message: str) -> ApiError:
    return ApiError(Code.UNIMPLEMENTED, message)


def unavailable(message: str) -> ApiError:
    return ApiError(Code.UNAVAILABLE, message)


def deadline_exceeded(message: str) -> ApiError:
    return ApiError(Code.DEADLINE_EXCEEDED, message)


def cancelled(message: str) -> ApiError:
    return ApiError(Code.CANCELLED, message)


def internal(message: str) -> ApiError:
    return ApiError(Code.INTERNAL, message)
