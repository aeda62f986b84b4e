"""Why a deployment failed, in the words in which Vertex AI says it (contract.md 4.3), with the end of the log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cpr_kit.emulator.errors import ApiError, failed_precondition
from cpr_kit.engine.protocol import Container
from cpr_kit.errors import ContainerError

TAIL = 20
"""The lines of a log at a message's end. The service only names the log; whoever reads it here wants the reason."""

_NEVER_READY = (
    "model server never became ready. Please validate that your model file or container configuration are valid."
)


def explain(
    container: Container | None, error: Exception, log: Path, *, names: Mapping[str, str] | None = None
) -> ApiError:
    """What became of a container that was to become ready; None: the engine could not even start it.

    `names` has what the user calls the images that the engine knows by their ids.
    """
    where = f"Model server logs can be found at {log}."
    seen = str(error)
    if isinstance(error, ContainerError):
        seen = seen.partition("\n")[0] if error.logs else seen
    for identity, name in (names or {}).items():
        seen = seen.replace(identity, name)
    if container is None:
        return failed_precondition(f"Model server exited unexpectedly. {where}\n\n{seen}")
    return failed_precondition("\n".join((f"{_cause(container)} {where}", "", seen, *_tail(container))))


def _cause(container: Container) -> str:
    if container.status() == "running":
        return _NEVER_READY
    if container.out_of_memory():
        return "Model server terminated: model server container out of memory."
    code = container.exit_code()
    return (
        "Model server exited unexpectedly. "
        f"Model server terminated: model server container terminated: exit_code: {code}."
    )


def _tail(container: Container) -> list[str]:
    return container.logs().rstrip().splitlines()[-TAIL:] or ["(it wrote nothing)"]
