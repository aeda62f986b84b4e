"""What a request ends with when it does not succeed: gRPC's code, and the HTTP status that goes with it."""

from __future__ import annotations

from cpr_kit.errors import CprError

_HTTP = {  # google/rpc/code.proto names both
    "CANCELLED": (1, 499),
    "UNKNOWN": (2, 500),
    "INVALID_ARGUMENT": (3, 400),
    "DEADLINE_EXCEEDED": (4, 504),
    "NOT_FOUND": (5, 404),
    "ALREADY_EXISTS": (6, 409),
    "PERMISSION_DENIED": (7, 403),
    "RESOURCE_EXHAUSTED": (8, 429),
    "FAILED_PRECONDITION": (9, 400),
    "ABORTED": (10, 409),
    "OUT_OF_RANGE": (11, 400),
    "UNIMPLEMENTED": (12, 501),
    "INTERNAL": (13, 500),
    "UNAVAILABLE": (14, 503),
    "DATA_LOSS": (15, 500),
    "UNAUTHENTICATED": (16, 401),
}
_NAMES = {number: name for name, (number, _) in _HTTP.items()}


class ServingError(CprError):
    """The request, or the model under it, ended with an error: `code` is gRPC's name for it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.number, self.status_code = _HTTP[code]

    @classmethod
    def numbered(cls, number: int, message: str) -> ServingError:
        """TensorFlow's errors carry the code's number."""
        return cls(_NAMES.get(number, "UNKNOWN"), message)


def invalid(message: str) -> ServingError:
    return ServingError("INVALID_ARGUMENT", message)
