"""Who needs which right where, so that one project's model can be built, deployed and called: a plan of bindings.

Pure: from a `Topology` to a `Plan`. The rules are those of "Who needs what" in Vertex AI's access control documents
(general/access-control, general/iam-permissions, general/custom-service-account). No plan has an owner, editor or
admin role: where the documents name one, a custom role with the permissions that the step can need stands instead.
"""

from __future__ import annotations

from collections.abc import Iterator

from cpr_kit.deploy.iam.bindings import Binding, CustomRole, Plan, Resource, Unknown
from cpr_kit.deploy.iam.names import Account, Repository
from cpr_kit.deploy.iam.topology import NUMBER, Topology

REPOSITORY = "${IMAGE_REPOSITORY}"
LOCATION = "${IMAGE_LOCATION}"
BUCKET = "${ARTIFACTS_BUCKET}"


_ACCESS = "general/access-control"
_PERMISSIONS = "general/iam-permissions"
_CUSTOM_ACCOUNT = "general/custom-service-account"
_ADMIN = "serviceAccountAdmin"


def make(topology: Topology) -> Plan:
    """The smallest set of bindings for a topology."""
    bindings = (*_callers(topology), *_agent(topology), *_run_as(topology), *_deployer(topology))
    used = " ".join(f"{each.member} {each.resource.name} {each.resource.location}" for each in bindings)
    unknown = tuple(each for each in _unknowns(topology) if each.placeholder in used)
    return Plan(serving=topology.serving, bindings=bindings, notes=tuple(_notes(topology)), unknown=unknown)


def _callers(topology: Topology) -> Iterator[Binding]:
    """No role on a single endpoint exists for these ("general/endpoint-access-control"), so it is the project's."""
    reason = f"sends requests to endpoints of {topology.serving} (predict, rawPredict), and may do nothing else there"
    custom = CustomRole(
        id="cprKitCaller",
        project=topology.serving,
        title="Call Vertex AI endpoints",
        permissions=("aiplatform.endpoints.predict",),
    )
    if topology.kind != "public":
        reason += "; the SDK reads the endpoint first, for where it answers"
        custom = CustomRole(
            id="cprKitEndpointCaller",
            project=topology.serving,
            title="Find and call Vertex AI endpoints",
            permissions=("aiplatform.endpoints.get", "aiplatform.endpoints.predict"),
        )
    for caller in topology.callers:
        yield Binding(
            who="caller",
            purpose="calls",
            member=caller,
            role=custom.name,
            custom=custom,
            resource=_project(topology.serving),
            reason=reason,
            source=_PERMISSIONS,
        )


def _agent(topology: Topology) -> Iterator[Binding]:
    """What the service agent lacks outside its own project; inside, roles/aiplatform.serviceAgent covers it."""
    image_project = _image_project(topology)
    if image_project != topology.serving:
        yield Binding(
            who="vertex",
            purpose="pulls the image",
            member=topology.agent,
            role="roles/artifactregistry.reader",
            resource=_repository(topology),
            reason=f"Vertex AI of {topology.serving} pulls the image as its service agent, never as the run-as account",
            source=_ACCESS,
        )
    if topology.artifacts_project not in (None, topology.serving):
        yield Binding(
            who="vertex",
            purpose="copies the artifacts",
            member=topology.agent,
            role="roles/storage.objectViewer",
            resource=_artifacts(topology),
            reason="Vertex AI copies the artifacts as the model is uploaded",
            source=_ACCESS,
        )
    if topology.run_as is not None:
        yield from _agent_on_run_as(topology, topology.run_as)


def _agent_on_run_as(topology: Topology, run_as: Account) -> Iterator[Binding]:
    resource = Resource(kind="service account", name=run_as.email, project=run_as.project)
    custom = CustomRole(
        id="cprKitRunAs",
        project=run_as.project,
        title="Let Vertex AI run models as a service account",
        permissions=(
            "iam.serviceAccounts.get",
            "iam.serviceAccounts.getIamPolicy",
            "iam.serviceAccounts.setIamPolicy",
        ),
    )
    yield Binding(
        who="vertex",
        purpose="prepares the account",
        member=topology.agent,
        role=custom.name,
        custom=custom,
        resource=resource,
        reason="Vertex AI prepares the account for the machines that serve the model",
        source=f"{_CUSTOM_ACCOUNT}, step 4",
        unconfirmed=(
            f"the document names the predefined {_ADMIN} role here, which could also create, disable and delete "
            "accounts; this custom role has what of it can concern an account that exists. That it suffices is "
            "UNCONFIRMED: if DeployModel is refused over this account, grant the document's role on this one account"
        ),
    )
    if run_as.project != topology.serving:
        yield Binding(
            who="vertex",
            purpose="makes tokens",
            member=topology.agent,
            role="roles/iam.serviceAccountTokenCreator",
            resource=resource,
            reason=f"the account belongs to {run_as.project}: Vertex AI of {topology.serving} makes its tokens",
            source=_CUSTOM_ACCOUNT,
        )


def _run_as(topology: Topology) -> Iterator[Binding]:
    if topology.run_as is None or topology.feature_store is None:
        return
    member, resource = topology.run_as.member, _project(topology.feature_store)
    if topology.legacy_feature_store:
        yield Binding(
            who="run-as",
            purpose="reads features",
            member=member,
            role="roles/aiplatform.featurestoreDataViewer",
            resource=resource,
            reason="the container reads feature values (readFeatureValues) as this account",
            source=_ACCESS,
        )
        return
    custom = CustomRole(
        id="cprKitFeatureReader",
        project=topology.feature_store,
        title="Fetch feature values",
        permissions=("aiplatform.featureViews.fetchFeatureValues",),
    )
    yield Binding(
        who="run-as",
        purpose="fetches features",
        member=member,
        role=custom.name,
        custom=custom,
        resource=resource,
        reason="the container fetches feature values (fetchFeatureValues) as this account",
        source=_PERMISSIONS,
    )


def _deployer(topology: Topology) -> Iterator[Binding]:
    if topology.deployer is None:
        return

    def binding(purpose: str, role: str, resource: Resource, reason: str, source: str = _ACCESS) -> Binding:
        assert topology.deployer is not None
        return Binding(
            who="deployer",
            purpose=purpose,
            member=topology.deployer,
            role=role,
            resource=resource,
            reason=reason,
            source=source,
        )

    yield binding(
        "deploys",
        "roles/aiplatform.user",
        _project(topology.serving),
        "uploads models, makes endpoints, deploys, shifts traffic: no narrower predefined role has all of these",
    )
    yield binding(
        "pushes the image",
        "roles/artifactregistry.writer",
        _repository(topology),
        "pushes the image, and looks up what is there",
    )
    if topology.staging is not None:
        yield binding(
            "stages the artifacts",
            "roles/storage.objectUser",
            Resource(kind="bucket", name=topology.staging, project=topology.serving),
            "copies the artifacts there, mends what is half there, removes it with cpr down: objects, no policies",
            "storage/access-control/iam-roles",
        )
    if topology.artifacts is not None and topology.artifacts != topology.staging:
        reason = "reads the artifacts, to tell a changed model from an unchanged one"
        yield binding("reads the artifacts", "roles/storage.objectViewer", _artifacts(topology), reason)
    if topology.run_as is not None:
        account = topology.run_as
        yield binding(
            "acts as the account",
            "roles/iam.serviceAccountUser",
            Resource(kind="service account", name=account.email, project=account.project),
            "names the account as the one that the container runs as (iam.serviceAccounts.actAs)",
            _CUSTOM_ACCOUNT,
        )


def _project(name: str) -> Resource:
    return Resource(kind="project", name=name, project=name)


def _image_project(topology: Topology) -> str:
    return topology.image_project or topology.serving


def _repository(topology: Topology) -> Resource:
    where = topology.repository or Repository(LOCATION, REPOSITORY)
    return Resource(kind="repository", name=where.name, project=_image_project(topology), location=where.location)


def _artifacts(topology: Topology) -> Resource:
    project = topology.artifacts_project or topology.serving
    return Resource(kind="bucket", name=topology.artifacts or BUCKET, project=project)


def _unknowns(topology: Topology) -> Iterator[Unknown]:
    images, artifacts = _image_project(topology), topology.artifacts_project or topology.serving
    yield Unknown(
        placeholder=NUMBER,
        meaning=f"the project number of {topology.serving} (--serving-number)",
        command=f"gcloud projects describe {topology.serving} --format='value(projectNumber)'",
    )
    yield Unknown(
        placeholder=LOCATION,
        meaning=f"the region of the image's repository in {images} (--repository REGION/NAME)",
        command=f"gcloud artifacts repositories list --project={images}",
    )
    yield Unknown(
        placeholder=REPOSITORY,
        meaning=f"the name of the image's repository in {images} (--repository REGION/NAME)",
        command=f"gcloud artifacts repositories list --project={images}",
    )
    yield Unknown(
        placeholder=BUCKET,
        meaning=f"the bucket with the artifacts in {artifacts} (--artifacts gs://BUCKET)",
        command=f"gcloud storage buckets list --project={artifacts} --format='value(name)'",
    )


def _notes(topology: Topology) -> Iterator[str]:
    """What a reader of the plan should know, and no binding says."""
    if topology.callers:
        yield (
            "callers get their right on the project: Vertex AI takes no IAM policy on a single endpoint "
            "(general/endpoint-access-control)"
        )
    if topology.callers and topology.kind == "psa":
        yield "whether IAM is checked for calls to a psa endpoint is UNCONFIRMED; who is in the network may reach it"
    if topology.run_as is not None:
        yield "Vertex AI itself lets the run-as account read the model's artifacts; it needs no binding for them"
        if topology.run_as.project != topology.serving:
            yield (
                f"an organisation policy of {topology.run_as.project} may forbid the use of its service accounts in "
                "other projects (UNCONFIRMED); DeployModel then says so"
            )
    if topology.feature_store is not None and not topology.legacy_feature_store:
        yield (
            "the SDK's FeatureView also reads the view and its store, which needs aiplatform.featureViews.get and "
            "aiplatform.featureOnlineStores.get; a plain fetchFeatureValues call does not"
        )
    if topology.deployer is None:
        yield "the rights of whoever runs cpr push and cpr up are left out; --deployer MEMBER adds them"
    elif topology.staging is None:
        yield (
            "the deployer's right to a staging bucket is left out, which cpr up copies artifacts to where [deploy] "
            "names one; --staging gs://BUCKET adds it"
        )
