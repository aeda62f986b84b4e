"""Every error that cpr_kit raises on purpose.

    CprError                    status 500   exit 1
    ├── RequestError            status 4xx   the caller of the model made a mistake
    │   └── MissingField                     also a KeyError: a key the request does not have
    ├── UsageError                exit 2     the user of the kit made a mistake
    │   ├── ConfigError                      cpr.toml, a flag or a CPR_* variable
    │   ├── SourceError                      the user's folder: file, class and line are named
    │   └── SpecError                        a container specification that Vertex AI would refuse
    ├── LackingError              exit 3     this machine lacks something
    │   ├── MissingExtra                     an optional library
    │   └── EngineUnavailable                no container engine answers
    ├── BuildError                exit 1, 3  the image could not be built: step, last lines, why, what to do
    ├── RegistryError             exit 4     a registry refused: cause and remedy
    │   └── RegistryLacking       exit 3     it was not reached, or nobody is logged in; a LackingError too
    ├── DeployError               exit 4     Vertex AI refused: cause and remedy
    │   ├── DeployLacking         exit 3     what it takes is not there: a bucket, a network; a LackingError too
    │   └── DeclinedError         exit 1     nobody refused, and the answer is no: no such endpoint, a lease, a plan
    │       └── RolledBack                   the new version failed its checks; the old one serves again
    ├── ContainerError            exit 1     a container died or never became healthy: its logs
    ├── StartError                exit 1     the model server could not start: cause and remedy
    └── PredictionError           exit 4     the model answered with an error

`status_code` is for the model server, `exit_code` for the command line, and `kind` for programs that read its JSON.
"""

from __future__ import annotations


class CprError(Exception):
    """Base of all; `str(error)` says what happened, with the value, and what to do next."""

    status_code = 500
    exit_code = 1


class RequestError(CprError):
    """The request is wrong. Raise it in your predictor; the caller gets the message and the status.

    >>> raise RequestError("each instance needs 4 numbers, instance 2 has 3")
    """

    status_code = 400

    def __init__(self, message: str, status_code: int = 400) -> None:
        if not 400 <= status_code <= 499:  # noqa: PLR2004
            raise ValueError(f"a RequestError has a status from 400 to 499, not {status_code}")
        super().__init__(message)
        self.message = message
        self.status_code = status_code

    def __str__(self) -> str:
        return self.message


class MissingField(RequestError, KeyError):
    """The request's JSON object has no such key. A KeyError too, so that `except KeyError` still works."""

    def __init__(self, field: str) -> None:
        super().__init__(f'the request has no "{field}"')


class UsageError(CprError):
    exit_code = 2


class ConfigError(UsageError):
    pass


class SourceError(UsageError):
    """Something in the user's folder is wrong: `where` is a file, or file:line."""

    def __init__(self, where: object, message: str) -> None:
        super().__init__(f"{where}: {message}")
        self.where = str(where)


class SpecError(UsageError):
    pass


class LackingError(CprError):
    exit_code = 3


class MissingExtra(LackingError):
    """An optional library is not installed; the message names the extra that brings it."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f'{library} is not installed here; run: pip install "cpr-kit[{extra}]"')


class EngineUnavailable(LackingError):
    pass


class BuildError(CprError):
    """The image could not be built. `step` is the instruction that failed, `tail` its last lines.

    `cause` and `remedy` say why and what to do, where that is known. The exit code is 3 when this machine is at
    fault (`lacking`): a disk, a network, an engine; 1 when what was to be built is.
    """

    def __init__(
        self, step: str, tail: tuple[str, ...] = (), *, cause: str = "", remedy: str = "", lacking: bool = False
    ) -> None:
        lines = [f"the build failed at: {step}", *(f"    {line}" for line in tail)]
        lines += [f"  why: {cause}"] * bool(cause) + [f"  do: {remedy}"] * bool(remedy)
        super().__init__("\n".join(lines))
        self.step = step
        self.tail = tail
        self.cause = cause
        self.remedy = remedy
        self.exit_code = LackingError.exit_code if lacking else BuildError.exit_code


class RegistryError(CprError):
    """A registry did not take or give an image: what it said, and what to do."""

    exit_code = 4

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause} | {remedy}")


class RegistryLacking(RegistryError, LackingError):
    """It was no registry that refused: none was reached, or nobody is logged in here."""

    exit_code = LackingError.exit_code


class DeployError(CprError):
    """Vertex AI refused a call, or a call to it failed: what it said, what to do."""

    exit_code = 4

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause} | {remedy}")
        self.cause = cause
        self.remedy = remedy


class DeployLacking(DeployError, LackingError):
    """What a deployment takes is not there: the bucket, the network. The remedy says how it comes to be."""

    exit_code = LackingError.exit_code


class DeclinedError(DeployError):
    """Nobody refused anything; what exists says no: no such endpoint, a lease, an old plan, no start."""

    exit_code = 1


class RolledBack(DeclinedError):
    """A new version failed the project's checks, or was slower than allowed. The old one serves again, alone."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause, "nothing of it is left; cpr run and cpr check show the version on this machine")


class ContainerError(CprError):
    """A container ended, or never became healthy. `logs` holds all that it wrote."""

    def __init__(self, message: str, logs: str = "") -> None:
        tail = logs.rstrip().splitlines()[-40:]
        shown = "\n--- the container's log ends with ---\n" + "\n".join(tail) if tail else ""
        super().__init__(message + shown)
        self.logs = logs


class StartError(CprError):
    """The model server could not start: one line of cause, one of remedy."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause} | {remedy}")
        self.cause = cause
        self.remedy = remedy


class PredictionError(CprError):
    """The model answered a prediction request with an error status."""

    exit_code = 4

    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(f"the model answered {status_code}: {message}")
        self.status_code = status_code


def kind(error: CprError) -> str:
    """The name that programs know an error by: that of its class here, or of the nearest one above it."""
    return next(each.__name__ for each in type(error).__mro__ if each.__module__ == __name__)
