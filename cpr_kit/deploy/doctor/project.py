"""The project as a deployment needs it: the API, the permissions, the accounts, the endpoint's name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from cpr_kit.contract import EndpointKind
from cpr_kit.deploy.target import OURS, Target
from cpr_kit.deploy.vertex.rest import Google, Reply
from cpr_kit.finding import Finding

Look = Callable[[], Iterator[Finding]]
PERMISSIONS = (
    *("aiplatform.models.upload", "aiplatform.models.get", "aiplatform.models.list"),
    *("aiplatform.models.update", "aiplatform.models.delete"),
    *("aiplatform.endpoints.create", "aiplatform.endpoints.get", "aiplatform.endpoints.list"),
    *("aiplatform.endpoints.update", "aiplatform.endpoints.deploy", "aiplatform.endpoints.undeploy"),
    *("aiplatform.endpoints.delete", "aiplatform.endpoints.predict"),
)
"""What cpr up, status, rollback and down ask of Vertex AI ("Vertex AI IAM permissions"); roles/aiplatform.user."""

_PROJECTS = "https://cloudresourcemanager.googleapis.com/v1/projects"
_ACCOUNTS = "https://iam.googleapis.com/v1/projects/-/serviceAccounts"
_ACT_AS = "iam.serviceAccounts.actAs"


def looks(target: Target, google: Google) -> tuple[tuple[str, Look], ...]:
    found: list[tuple[str, Look]] = [
        ("Vertex AI", partial(_api, target, google)),
        ("permissions", partial(_permissions, target, google)),
    ]
    if target.service_account:
        found.append(("service account", partial(_account, target, google, target.service_account)))
    return (*found, ("endpoint", partial(_endpoint, target, google)))


def _vertex(target: Target) -> str:
    host = f"https://{target.region}-aiplatform.googleapis.com"
    return f"{host}/v1/projects/{target.project}/locations/{target.region}/endpoints"


def _api(target: Target, google: Google) -> Iterator[Finding]:
    """The cheapest real call there is."""
    reply = google.get(_vertex(target), pageSize=1)
    where = f"{target.region}-aiplatform.googleapis.com"
    if reply.passed:
        yield Finding("Vertex AI", True, f"{where} answers for {target.project}")
        return
    yield Finding("Vertex AI", False, f"{where} for {target.project}: {reply}", _remedy(target, google, reply))


def _remedy(target: Target, google: Google, reply: Reply) -> str:
    project = target.project
    if reply.disabled:
        return f"gcloud services enable aiplatform.googleapis.com --project={project}"
    if reply.forbidden:
        return f"{_grant(target, google)}; a project that does not exist is refused the same way: gcloud projects list"
    if reply.absent or reply.code == "INVALID_ARGUMENT":
        return f"look at [deploy] project, which is {project}: gcloud projects list"
    if reply.status == 401:  # noqa: PLR2004
        return "log in again: gcloud auth application-default login"
    if not reply.status:
        return "check the network, and HTTPS_PROXY where there is a proxy"
    return "try again later"


def _grant(target: Target, google: Google) -> str:
    who = google.principal
    member = f"serviceAccount:{who}" if who.endswith(".gserviceaccount.com") else f"user:{who or 'YOU'}"
    return f"cpr iam plan --serving {target.project} --deployer {member} shows what is needed"


def _permissions(target: Target, google: Google) -> Iterator[Finding]:
    """What these credentials may do in the project, as Resource Manager says it of them."""
    reply = google.post(f"{_PROJECTS}/{target.project}:testIamPermissions", {"permissions": list(PERMISSIONS)})
    if not reply.passed:
        yield Finding.noted("permissions", f"could not be asked: Resource Manager answered {reply}")
        return
    lacking = [each for each in PERMISSIONS if each not in reply.body.get("permissions", ())]
    if lacking:
        detail = f"{google.principal or 'whoever these credentials are of'} lacks {', '.join(lacking)}"
        yield Finding("permissions", False, f"{detail} in {target.project}", _grant(target, google))
        return
    yield Finding("permissions", True, f"all {len(PERMISSIONS)} that a deployment needs in {target.project}")


def _account(target: Target, google: Google, email: str) -> Iterator[Finding]:
    """Whether the container may be told to run as it (iam.serviceAccounts.actAs, "Use a custom service account")."""
    reply = google.post(f"{_ACCOUNTS}/{email}:testIamPermissions", {"permissions": [_ACT_AS]})
    name = "service account"
    plan = f"cpr iam plan --serving {target.project} --run-as {email} --deployer MEMBER"
    if reply.absent:
        new, _, domain = email.partition("@")
        create = f"gcloud iam service-accounts create {new} --project={domain.partition('.')[0]}"
        yield Finding(name, False, f"{email} does not exist, or may not be seen from here", f"{create}; then: {plan}")
    elif not reply.passed:
        yield Finding.noted(name, f"{email} could not be asked about: {reply}")
    elif _ACT_AS not in reply.body.get("permissions", ()):
        yield Finding(name, False, f"{email}: these credentials may not use it ({_ACT_AS})", plan)
    else:
        yield Finding(name, True, f"{email} may be used; that Vertex AI may use it too shows in the deployment alone")


def _endpoint(target: Target, google: Google) -> Iterator[Finding]:
    """Whether the name is free, or that of an endpoint of this kind."""
    found, refusal = _found(target, google)
    name = target.endpoint
    if refusal is not None:
        yield Finding.noted("endpoint", f"{name} could not be looked for: {refusal}")
    elif not found:
        yield Finding("endpoint", True, f"{name} is free in {target.region}; cpr up makes it")
    elif len(found) > 1:
        ids = ", ".join(_id(each) for each in found)
        detail = f'{len(found)} endpoints in {target.region} are named "{name}": {ids}'
        yield Finding("endpoint", False, detail, "name one by its id: [deploy] endpoint")
    else:
        yield from _of_kind(target, found[0])


def _found(target: Target, google: Google) -> tuple[list[Mapping[str, Any]], Reply | None]:
    """The endpoint by its id, else those with that display name."""
    reply = google.get(f"{_vertex(target)}/{target.endpoint}")
    if reply.passed:
        return [reply.body], None
    if not (reply.absent or reply.code == "INVALID_ARGUMENT"):  # a display name need not have the form of an id
        return [], reply
    reply = google.get(_vertex(target), filter=f'display_name="{target.endpoint}"')
    return (list(reply.body.get("endpoints", ())), None) if reply.passed else ([], reply)


def _of_kind(target: Target, endpoint: Mapping[str, Any]) -> Iterator[Finding]:
    kind = _kind(endpoint)
    deployed = len(endpoint.get("deployedModels", ()))
    if kind != target.kind:
        detail = f"{target.endpoint} is {kind} and cpr.toml says {target.kind}; an endpoint's kind never changes"
        yield Finding("endpoint", False, detail, f'another [deploy] endpoint, or kind = "{kind}"')
    elif OURS not in endpoint.get("labels", {}):
        yield Finding.noted(
            "endpoint",
            f"{target.endpoint} exists ({kind}, {deployed} deployed models) and was not made by cpr up, which will "
            "deploy to it and never delete it",
        )
    else:
        yield Finding(
            "endpoint", True, f"{target.endpoint} exists ({kind}, {deployed} deployed models), made by cpr up"
        )


def _kind(endpoint: Mapping[str, Any]) -> EndpointKind:
    """By the fields of the API's Endpoint message."""
    if endpoint.get("privateServiceConnectConfig", {}).get("enablePrivateServiceConnect"):
        return "psc"
    if endpoint.get("network"):
        return "psa"
    return "dedicated" if endpoint.get("dedicatedEndpointEnabled") else "public"


def _id(endpoint: Mapping[str, Any]) -> str:
    return str(endpoint.get("name", "")).rpartition("/")[2]
