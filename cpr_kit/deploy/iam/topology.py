"""Which project holds what of a model that is served: its image, its artifacts, its accounts, its callers."""

from __future__ import annotations

from dataclasses import dataclass

from cpr_kit.contract import EndpointKind
from cpr_kit.deploy.iam import names
from cpr_kit.deploy.iam.names import Account, Repository
from cpr_kit.errors import UsageError

NUMBER = "${SERVING_NUMBER}"


@dataclass(frozen=True, kw_only=True)
class Topology:
    """Which project holds what. Everything is in `serving` that is not said to be elsewhere.

    Members are as IAM writes them, buckets without gs://. Raises UsageError for a name that is none.
    """

    serving: str
    number: str | None = None
    """The serving project's number, which is in the name of its service agent."""
    callers: tuple[str, ...] = ()
    kind: EndpointKind = "public"
    image_project: str | None = None
    repository: Repository | None = None
    run_as: Account | None = None
    artifacts_project: str | None = None
    artifacts: str | None = None
    """The bucket where the artifacts lie."""
    staging: str | None = None
    """A bucket of the serving project that artifacts are copied to, from this machine or another region."""
    feature_store: str | None = None
    legacy_feature_store: bool = False
    deployer: str | None = None

    def __post_init__(self) -> None:
        projects = (self.serving, self.image_project, self.artifacts_project, self.feature_store)
        for each in filter(None, projects):
            names.project(each, "a project")
        for member in (*self.callers, *([self.deployer] if self.deployer else [])):
            if names.member(member, "a member") != member:
                raise UsageError(f'"{member}" is to be written out: {names.member(member, "a member")}')
        for bucket in filter(None, (self.artifacts, self.staging)):
            if names.bucket(f"gs://{bucket}", "a bucket") != bucket:
                raise UsageError(f'"{bucket}" is no bucket\'s name alone')
        if self.number is not None:
            names.number(self.number, "the serving project's number")
        if self.repository is not None:
            names.repository(f"{self.repository.location}/{self.repository.name}", "the repository")
        if self.run_as is not None and names.account(self.run_as.email, "the run-as account") != self.run_as:
            raise UsageError(f"{self.run_as.email} is no account of {self.run_as.project}")
        if self.feature_store is not None and self.run_as is None:
            raise UsageError(
                "a container reads a feature store as an account of its own, which needs --run-as NAME@PROJECT; "
                "without one it can read little but its artifacts"
            )

    @property
    def agent(self) -> str:
        number = self.number or NUMBER
        return f"serviceAccount:service-{number}@gcp-sa-aiplatform.iam.gserviceaccount.com"
