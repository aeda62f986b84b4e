"""What Vertex AI says when it refuses or fails, and what that usually means.

The texts of failed deployments are those that its users report ("Deploy", contract of the API and public threads);
each is explained by its likely causes, the most frequent first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cpr_kit.errors import DeclinedError, DeployError
from cpr_kit.harness.reasons import bare


@dataclass(frozen=True)
class Explained:
    """A failure text and what is behind it. `own` is the container's failure: Vertex AI has done what it was asked."""

    pattern: re.Pattern[str]
    cause: str
    remedy: str
    own: bool = False


def _about(pattern: str, cause: str, remedy: str, *, own: bool = False) -> Explained:
    return Explained(re.compile(pattern, re.IGNORECASE), cause, remedy, own)


DEPLOYMENTS = (
    _about(
        r"out of memory",
        "the container used more memory than its machine has; each worker may hold a model of its own",
        "take a larger machine_type, or fewer workers ([serve] workers); cpr run shows the memory here",
        own=True,
    ),
    _about(
        r"terminated: exit_code|exit_code|exited with code",
        "the container's program ended by itself, most often with an exception while it loaded the model",
        "read the log's last lines; cpr run shows the same start on this machine",
        own=True,
    ),
    _about(
        r"exited unexpectedly",
        "the container ended before it was ready: an exception while loading, a missing package, or a program "
        "built for another platform",
        "read the log's last lines; cpr run shows the same start on this machine, cpr doctor --deploy what is missing",
        own=True,
    ),
    _about(
        r"never became ready|not become ready|failed to become (healthy|ready)",
        "the health route did not answer 200 in time: another port or route than the specification names, a server "
        "that listens on 127.0.0.1 instead of 0.0.0.0, or a model that takes longer to load than deployment_timeout",
        "cpr check asks the image the same questions; a slow start needs [deploy] deployment_timeout and startup_probe",
        own=True,
    ),
    _about(
        r"image .*(not found|does not exist|cannot be pulled)|failed to pull|manifest unknown",
        "the image is not in the repository, or Vertex AI's service agent may not read it",
        "cpr push; for a repository of another project: cpr iam plan --image-project PROJECT",
    ),
    _about(
        r"storage\.objects\.(get|list)",
        "Vertex AI's service agent may not read the artifacts",
        "cpr iam plan --artifacts-project PROJECT shows the binding that lacks",
    ),
    _about(
        r"quota",
        "the project's quota for these machines or accelerators in this region is used up",
        "ask for more at IAM & Admin, Quotas; or fewer replicas, another machine_type or region",
    ),
    _about(
        r"stockout|resources? (are|is) (currently )?(insufficient|unavailable)|insufficient (capacity|resources)",
        "the region has no such machines left at the moment",
        "try again later, or another machine_type or region",
    ),
)

NETWORK = "look at the network, and at HTTPS_PROXY where there is a proxy"
# What gRPC, requests and google-auth say where no connection came about; a 503 of Vertex AI's says none of it.
_UNREACHED = re.compile(
    r"failed to connect to all addresses|DNS resolution failed|DNS query (cancelled|failed)|name resolution|"
    r"errors resolving|address lookup failed|"
    r"connection refused|no route to host|network is unreachable|failed to establish a new connection|"
    r"unable to connect to proxy|failed to resolve|connection timed out|connect timeout",
    re.IGNORECASE,
)
# gRPC fetches tokens by itself, and says UNAVAILABLE where it gets none, with the library's exception as text.
_NO_TOKEN = re.compile(r"Getting metadata from plugin failed with error: \(?['\"]?(.*)", re.DOTALL)
_REFUSED_LOGIN = re.compile(
    r"invalid_(grant|rapt|client)|unauthorized_client|deleted_client|access_denied|reauthentication", re.IGNORECASE
)
_QUOTE = re.compile(r"['\"],|['\"]\)")
_NO_CONNECTION = re.compile(r"(?:failed to|unable to)[^\"')]*", re.IGNORECASE)
_PERMISSION = re.compile(r"[Pp]ermission[s]? '?\[?([a-z]+\.[A-Za-z]+\.[A-Za-z]+)\]?'?")


def brief(error: Any) -> str:
    """The first line of what was said, with its code where there is one."""
    message = getattr(error, "message", None) or str(error)
    lines = str(message).strip().splitlines()
    text = lines[0] if lines else "no reason was given"
    if found := _NO_TOKEN.search(text):
        known = _NO_CONNECTION.search(found[1]) if unreached(text) else None
        return f"no token could be fetched: {bare(known[0] if known else re.split(_QUOTE, found[1])[0])}"
    code = getattr(getattr(error, "grpc_status_code", None), "name", "") or ""
    return f"{code}: {text}" if code and code not in text else text


def unreached(error: Any) -> bool:
    """Whether it says that no connection came about: nobody was there who could refuse anything."""
    return _UNREACHED.search(str(error)) is not None


def logged_out(error: Any) -> bool:
    """Whether it says that a login has ended: no patience brings it back."""
    return _NO_TOKEN.search(str(error)) is not None and _REFUSED_LOGIN.search(str(error)) is not None


def explained(text: str) -> Explained | None:
    """The likely cause of a failed deployment or upload, by its text."""
    return next((each for each in DEPLOYMENTS if each.pattern.search(text)), None)


def failed(what: str, text: str) -> DeployError:
    """An operation that Vertex AI accepted and that failed: its text, the likely cause, what to do.

    A container that does not start is a DeclinedError: nobody refused it.
    """
    known = explained(text)
    if known is None:
        return DeployError(
            f"{what} failed: {text.strip()}", "run it again; if it stays, the operation's page in the console has more"
        )
    cause = f"{what} failed: {text.strip()}\n  likely: {known.cause}"
    return (DeclinedError if known.own else DeployError)(cause, known.remedy)


def with_log(error: DeployError, lines: Sequence[str]) -> DeployError:
    """The same failure with the last lines of the container's log."""
    if lines[-1] in error.cause:  # Vertex AI's own text may end with them
        return error
    shown = ["  the container's log ends with:", *(f"    {line}" for line in lines)]
    return type(error)("\n".join([error.cause, *shown]), error.remedy)


def refused(what: str, error: Any, remedy: str = "") -> DeployError:
    """A call that was refused, with what to do about it."""
    return DeployError(f"Vertex AI refused to {what}: {brief(error)}", remedy or _remedy(error))


def _remedy(error: Any) -> str:
    code = getattr(getattr(error, "grpc_status_code", None), "name", "")
    text = str(error)
    if code == "PERMISSION_DENIED":
        if "SERVICE_DISABLED" in text or "has not been used" in text:
            return "enable the API: gcloud services enable aiplatform.googleapis.com"
        lacking = _PERMISSION.search(text)
        name = f" ({lacking[1]})" if lacking else ""
        return f"the caller lacks a permission{name}; cpr iam plan shows the bindings, cpr doctor --deploy who asks"
    if code == "NOT_FOUND":
        return "look at project, region and name in [deploy]; cpr status shows what exists"
    if code in ("RESOURCE_EXHAUSTED", "UNAVAILABLE"):
        return "wait a little and run the same command, which goes on where it stopped"
    known = explained(text)
    return known.remedy if known else "cpr doctor --deploy looks at everything that a deployment needs"
