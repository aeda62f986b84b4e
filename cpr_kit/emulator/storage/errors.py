"""What Cloud Storage answers when it refuses: its own JSON form of an error, which names a reason.

Source: "HTTP status and error codes for JSON" of the Cloud Storage documentation; texts as the service sends them.
"""

from __future__ import annotations

from cpr_kit.emulator.errors import ApiError, Code


class StorageError(ApiError):
    """A refusal, with the reason that programs look at."""

    def __init__(self, code: Code, message: str, reason: str, *, http_status: int | None = None) -> None:
        super().__init__(code, message, http_status=http_status)
        self.reason = reason

    def body(self) -> dict[str, object]:
        error = {"message": self.message, "domain": "global", "reason": self.reason}
        return {"error": {"code": self.http_status, "message": self.message, "errors": [error]}}


class NotModified(StorageError):
    """The answer to a read whose "not match" condition did not hold: 304, without a body."""

    def __init__(self) -> None:
        super().__init__(Code.FAILED_PRECONDITION, "Not Modified", "notModified", http_status=304)


def no_bucket() -> StorageError:
    return StorageError(Code.NOT_FOUND, "The specified bucket does not exist.", "notFound")


def no_object(bucket: str, name: str) -> StorageError:
    return StorageError(Code.NOT_FOUND, f"No such object: {bucket}/{name}", "notFound")


def no_upload(upload_id: str) -> StorageError:
    return StorageError(Code.NOT_FOUND, f"No such resumable upload: {upload_id}", "notFound")


def no_call(method: str, path: str) -> StorageError:
    return StorageError(Code.NOT_FOUND, f"Not Found: {method} {path} is no call of Cloud Storage", "notFound")


def not_emulated(method: str, path: str) -> StorageError:
    return StorageError(Code.UNIMPLEMENTED, f"{method} {path} is not emulated", "notImplemented")


def invalid(message: str, reason: str = "invalid") -> StorageError:
    return StorageError(Code.INVALID_ARGUMENT, message, reason)


def required(parameter: str) -> StorageError:
    return invalid(f"Required parameter: {parameter}", "required")


def conflict(message: str) -> StorageError:
    return StorageError(Code.ALREADY_EXISTS, message, "conflict")


def condition_not_met() -> StorageError:
    message = "At least one of the pre-conditions you specified did not hold."
    return StorageError(Code.FAILED_PRECONDITION, message, "conditionNotMet", http_status=412)


def too_large(message: str) -> StorageError:
    return StorageError(Code.INVALID_ARGUMENT, message, "uploadTooLarge", http_status=413)


def range_not_satisfiable() -> StorageError:
    message = "The requested range cannot be satisfied."
    return StorageError(Code.OUT_OF_RANGE, message, "requestedRangeNotSatisfiable", http_status=416)
