"""One region's Vertex AI, as far as a deployment needs it, over google-cloud-aiplatform's own clients.

Whatever changes something can be called again: what exists already is found by its id, and what is gone is gone.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cpr_kit.contract import ContainerSpec
from cpr_kit.deploy.resources import Endpoint, Version
from cpr_kit.deploy.target import OURS, Target
from cpr_kit.deploy.vertex import calls, failures, messages
from cpr_kit.deploy.vertex.calls import Caller, Patience, Report
from cpr_kit.errors import DeployError

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1 import EndpointServiceClient, ModelServiceClient


class Vertex:
    """`report` gets a line for each wait and each repeated call."""

    def __init__(
        self, project: str, region: str, *, report: Report = calls.silent, patience: Patience | None = None
    ) -> None:
        self.project = project
        self.region = region
        self.report = report
        self._call = Caller(patience, report)

    @property
    def parent(self) -> str:
        return f"projects/{self.project}/locations/{self.region}"

    @functools.cached_property
    def _endpoints(self) -> EndpointServiceClient:
        with calls.libraries():
            from google.cloud.aiplatform_v1 import EndpointServiceClient
        return EndpointServiceClient(credentials=self._call.credentials, client_options=self._options())

    @functools.cached_property
    def _models(self) -> ModelServiceClient:
        with calls.libraries():
            from google.cloud.aiplatform_v1 import ModelServiceClient
        return ModelServiceClient(credentials=self._call.credentials, client_options=self._options())

    def _options(self) -> dict[str, str]:
        return {"api_endpoint": f"{self.region}-aiplatform.googleapis.com"}

    # Endpoints.

    def endpoint(self, name: str) -> Endpoint | None:
        """By id, else by display name. Raises DeployError where several have that display name."""
        from google.api_core import exceptions

        try:
            message = self._call(
                f"show endpoint {name}",
                self._endpoints.get_endpoint,
                name=f"{self.parent}/endpoints/{name}",
                means=("NotFound", "InvalidArgument"),
            )
            return messages.endpoint(message)
        except (exceptions.NotFound, exceptions.InvalidArgument):  # a display name need not have the form of an id
            named = self.endpoints(name)
        ours = [each for each in named if each.labels.get(OURS) == name]
        if ours:
            return ours[0]  # of several, which two runs at once may make where they cannot choose the id, the oldest
        if len(named) > 1:
            raise DeployError(
                f'{len(named)} endpoints of {self.parent} are named "{name}": {", ".join(each.id for each in named)}',
                "give the one that is meant another display name, or choose another name: [deploy] endpoint",
            )
        return named[0] if named else None

    def endpoints(self, display_name: str = "") -> list[Endpoint]:
        """The oldest first."""
        where = f'display_name="{display_name}"' if display_name else ""
        found = self._call(
            "list endpoints",
            lambda: list(self._endpoints.list_endpoints(request={"parent": self.parent, "filter": where})),
        )
        return sorted(map(messages.endpoint, found), key=lambda each: str(each.created))

    def again(self, endpoint: Endpoint, *, means: Sequence[str] = ()) -> Endpoint:
        """The endpoint as it is now. `means` are exceptions of google.api_core, raised as they are."""
        what = f"show endpoint {endpoint.display_name}"
        return messages.endpoint(self._call(what, self._endpoints.get_endpoint, means=means, name=endpoint.name))

    def create_endpoint(self, target: Target, labels: Mapping[str, str]) -> tuple[Endpoint, bool]:
        """Of the target's kind, and whether this call made it: where another run was quicker, the one that is there."""
        from google.api_core import exceptions

        message = messages.endpoint_for(target)
        message.labels.update(labels)
        # The id of an endpoint with Private Service Connect cannot be used again for 7 days: it gets one of its own.
        chosen = {} if target.kind == "psc" else {"endpoint_id": target.endpoint}
        is_new = True
        try:
            operation = self._call(
                f"create endpoint {target.endpoint}",
                self._endpoints.create_endpoint,
                request={"parent": self.parent, "endpoint": message, **chosen},
                means=("AlreadyExists",),
            )
            self._done(operation, f"create endpoint {target.endpoint}")
        except exceptions.AlreadyExists:
            is_new = False
            self.settle(f"{self.parent}/endpoints/{target.endpoint}")
        found = self.endpoint(target.endpoint) if chosen else next(iter(self.endpoints(target.endpoint)), None)
        if found is None:
            raise DeployError(f"endpoint {target.endpoint} was created and is not there", "run it again")
        return found, is_new

    def update_endpoint(self, endpoint: Endpoint, fields: Mapping[str, Any]) -> Endpoint:
        """Write some fields, if nobody has changed the endpoint since it was read. Raises Aborted if so."""
        with calls.libraries():
            from google.cloud.aiplatform_v1 import types

        from google.api_core import exceptions

        what = f"change endpoint {endpoint.display_name}"
        message = types.Endpoint(name=endpoint.name, etag=endpoint.etag, **fields)
        refusals = ("Aborted", "NotFound", "FailedPrecondition", "InvalidArgument")
        try:
            changed = self._call(
                what,
                self._endpoints.update_endpoint,
                endpoint=message,
                update_mask={"paths": list(fields)},
                means=refusals,
            )
        except (exceptions.FailedPrecondition, exceptions.InvalidArgument) as error:
            # Which code an etag that is no longer true gets, no document says.
            if self.again(endpoint).etag != endpoint.etag:
                raise exceptions.Aborted(f"{endpoint.display_name} has changed since it was read") from error  # type: ignore[no-untyped-call]
            raise failures.refused(what, error) from error
        return messages.endpoint(changed)

    def set_inference_timeout(self, endpoint: Endpoint, target: Target) -> None:
        """The one field that UpdateEndpointLongRunning changes."""
        with calls.libraries():
            from google.cloud.aiplatform_v1 import types

        wanted = messages.endpoint_for(target).client_connection_config
        what = f"change the inference timeout of {endpoint.display_name}"
        message = types.Endpoint(name=endpoint.name, client_connection_config=wanted)
        self._done(self._call(what, self._endpoints.update_endpoint_long_running, request={"endpoint": message}), what)

    def set_traffic(self, endpoint: Endpoint, split: Mapping[str, int]) -> Endpoint:
        """`split` gives percent by deployed model; those left out get none."""
        return self.update_endpoint(endpoint, {"traffic_split": dict(split)})

    def delete_endpoint(self, endpoint: Endpoint) -> None:
        self._delete(f"delete endpoint {endpoint.display_name}", self._endpoints.delete_endpoint, endpoint.name)

    # Deployed models.

    def deploy(
        self, endpoint: Endpoint, target: Target, version: Version, deployed_id: str, split: Mapping[str, int]
    ) -> None:
        """Start the version's containers. `split` as in DeployModel: "0" stands for the new one."""
        from google.api_core import exceptions

        what = f"deploy {version} to {endpoint.display_name}"
        name = f"{self.parent}/models/{version.model}@{version.number}"
        message = messages.deployed_for(target, name, str(version), deployed_id)
        try:
            operation = self._call(
                what,
                self._endpoints.deploy_model,
                request={"endpoint": endpoint.name, "deployed_model": message, "traffic_split": dict(split)},
                means=("AlreadyExists", "FailedPrecondition", "InvalidArgument"),
            )
        except (exceptions.AlreadyExists, exceptions.FailedPrecondition, exceptions.InvalidArgument) as error:
            # Begun by another run, or by this one's call whose answer was lost; else it is refused.
            failed = self.settle(endpoint.name)
            if any(each.id == deployed_id for each in self.again(endpoint).deployed):
                return
            raise (failures.failed(what, failed) if failed else failures.refused(what, error)) from error
        self._done(operation, what)

    def undeploy(self, endpoint: Endpoint, deployed_id: str) -> None:
        """One without traffic, or the last one; nothing where it is gone already."""
        from google.api_core import exceptions

        what = f"undeploy {deployed_id} from {endpoint.display_name}"
        try:
            operation = self._call(
                what,
                self._endpoints.undeploy_model,
                endpoint=endpoint.name,
                deployed_model_id=deployed_id,
                means=("NotFound", "InvalidArgument", "FailedPrecondition"),
            )
            self._done(operation, what)
        except (exceptions.NotFound, exceptions.InvalidArgument, exceptions.FailedPrecondition) as error:
            self.settle(endpoint.name)  # an earlier call, of another run or with a lost answer, may be at it
            if any(each.id == deployed_id for each in self.again(endpoint).deployed):
                raise failures.refused(what, error) from error

    def rescale(self, endpoint: Endpoint, target: Target, deployed_id: str) -> None:
        """Replicas, metrics and logging of what is deployed: all that MutateDeployedModel can change."""
        with calls.libraries():
            from google.cloud.aiplatform_v1 import types

        scale = messages.resources(target.scale)
        message = types.DeployedModel(
            id=deployed_id, dedicated_resources=scale, disable_container_logging=not target.container_logging
        )
        paths = [
            *(f"dedicated_resources.{name}" for name in ("min_replica_count", "max_replica_count")),
            *(["dedicated_resources.required_replica_count"] if target.scale.required_replicas else []),
            "dedicated_resources.autoscaling_metric_specs",
            "disable_container_logging",
        ]
        what = f"change the scale of {deployed_id}"
        operation = self._call(
            what,
            self._endpoints.mutate_deployed_model,
            request={"endpoint": endpoint.name, "deployed_model": message, "update_mask": {"paths": paths}},
        )
        self._done(operation, what)

    # Models.

    def versions(self, model: str) -> list[Version]:
        """All versions, the oldest first; none where there is no such model."""
        from google.api_core import exceptions

        name = f"{self.parent}/models/{model}"
        try:
            found = self._call(
                f"list the versions of {model}",
                lambda: list(self._models.list_model_versions(name=name)),
                means=("NotFound",),
            )
        except exceptions.NotFound:
            return []
        return sorted(map(messages.version, found), key=lambda each: int(each.number))

    def upload(
        self,
        target: Target,
        spec: ContainerSpec,
        artifact_uri: str | None,
        labels: Mapping[str, str],
        *,
        mark: str,
        alias: str,
    ) -> None:
        """A new version of the target's model, or its first one. Which one it became, `versions` says."""
        from google.api_core import exceptions

        message = messages.model_for(target, spec, artifact_uri, labels, mark)
        message.version_aliases = [alias]
        what = f"upload a version of {target.model}"
        name = f"{self.parent}/models/{target.model}"
        known = {"parent_model": name} if self.versions(target.model) else {"model_id": target.model}
        request = {"parent": self.parent, "model": message, **known}
        try:
            operation = self._call(what, self._models.upload_model, request=request, means=("AlreadyExists",))
        except exceptions.AlreadyExists:  # the first version, by another run or by this one's lost answer
            if failed := self.settle(name):
                raise failures.failed(what, failed) from None
            return
        self._done(operation, what)

    def alias(self, version: Version, names: Sequence[str]) -> None:
        """Give aliases to a version; a name with "-" before it is taken from it. A name leaves who had it."""
        self._call(
            f"set the aliases {', '.join(names)} of {version}",
            self._models.merge_version_aliases,
            name=f"{self.parent}/models/{version.model}@{version.number}",
            version_aliases=list(names),
        )

    def delete_version(self, version: Version) -> None:
        """The model with it, where it is the last one."""
        model = f"{self.parent}/models/{version.model}"
        if [each.number for each in self.versions(version.model)] == [version.number]:
            self._delete(f"delete model {version.model}", self._models.delete_model, model)
        else:
            name = f"{model}@{version.number}"
            self._delete(f"delete {version}", self._models.delete_model_version, name)

    # Operations.

    def settle(self, *names: str) -> str:
        """Wait until no operation runs on these resources: what a killed run has begun goes on without it.

        What the last one of them failed with; "" where none did.
        """
        failed = ""
        for operation in self._running(names):
            self.report(f"an operation that an earlier call began is still running: {operation}")
            ended = self._watch(operation, "wait for an earlier call's operation")
            failed = ended.error.message if ended.HasField("error") else failed
        return failed

    def _running(self, names: Sequence[str]) -> list[str]:
        """Asked of the location and of each resource: that the one holds the others' is not written anywhere."""
        found = {}
        for parent in (self.parent, *names):
            for operation in self._listed(parent):
                resource = operation.name.partition("/operations/")[0]
                if not operation.done and any(_is_same(resource, name) for name in names):
                    found[operation.name] = operation
        return list(found)

    def _listed(self, parent: str) -> list[Any]:
        from google.api_core import exceptions

        found: list[Any] = []
        request = {"name": parent}
        while True:
            try:
                page = self._call(
                    "list operations",
                    self._models.list_operations,
                    request=request,
                    means=("NotFound", "InvalidArgument"),
                )
            except (exceptions.NotFound, exceptions.InvalidArgument):
                return found
            found += page.operations
            if not page.next_page_token:
                return found
            request["page_token"] = page.next_page_token

    def last_took_s(self, endpoint: Endpoint) -> float | None:
        """How long the endpoint's last successful deployment took; None where nobody says."""
        ended = [
            _times(operation.metadata)
            for operation in self._listed(endpoint.name)
            if operation.HasField("response") and operation.metadata.type_url.endswith(".DeployModelOperationMetadata")
        ]
        return max(ended)[1] if ended else None

    def _done(self, operation: Any, what: str) -> None:
        """Raises DeployError with the likely cause when the operation fails."""
        ended = self._watch(operation.operation.name, what)
        if ended.HasField("error"):
            raise failures.failed(what, ended.error.message)

    def _watch(self, name: str, what: str) -> Any:
        return self._call.wait(what, lambda: self._models.get_operation({"name": name}))

    def _delete(self, what: str, call: Any, name: str) -> None:
        from google.api_core import exceptions

        try:
            self._done(self._call(what, call, name=name, means=("NotFound",)), what)
        except exceptions.NotFound:
            self.report(f"{name.rpartition('/')[2]} is gone already")


def _is_same(resource: str, name: str) -> bool:
    """Names come with the project's number or with its id: what follows decides."""
    return resource.split("/")[2:] == name.split("/")[2:]


def _times(metadata: Any) -> tuple[datetime, float]:
    from google.cloud.aiplatform_v1.types import endpoint_service

    message = endpoint_service.DeployModelOperationMetadata.deserialize(metadata.value)
    begun, ended = message.generic_metadata.create_time, message.generic_metadata.update_time
    return ended, (ended - begun).total_seconds()
