"""The calls on buckets: "Buckets", "Projects: serviceAccount" and the bucket's IAM in the JSON API reference."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cpr_kit.emulator import permissions
from cpr_kit.emulator.errors import ApiError
from cpr_kit.emulator.storage import errors, listing, names, wire
from cpr_kit.emulator.storage.conditions import NONE, Conditions
from cpr_kit.emulator.storage.objects import Objects
from cpr_kit.emulator.storage.records import POLICY, PROJECT, Bucket, bucket_fields


class BucketCalls:
    def __init__(self, objects: Objects, number_of: Callable[[str], str], denied: Collection[str] = ()) -> None:
        self._objects = objects
        self._denied = denied
        self._number_of = number_of

    def routes(self) -> list[Route]:
        bucket, iam = "/storage/v1/b/{bucket}", "/storage/v1/b/{bucket}/iam"
        return [
            Route("/storage/v1/projects/{project}/serviceAccount", self.service_account, methods=["GET"]),
            Route("/storage/v1/b", self.list, methods=["GET"]),
            Route("/storage/v1/b", self.insert, methods=["POST"]),
            Route(bucket, self.get, methods=["GET"]),
            Route(bucket, self.patch, methods=["PATCH", "PUT"]),
            Route(bucket, self.delete, methods=["DELETE"]),
            Route(iam, self.get_policy, methods=["GET"]),
            Route(iam, self.set_policy, methods=["PUT"]),
            Route(f"{iam}/testPermissions", self.test_permissions, methods=["GET"]),
            Route(bucket + "/o/{object}/iam/testPermissions", self.test_permissions, methods=["GET"]),
        ]

    async def list(self, request: Request) -> Response:
        query = request.query_params
        _project(request)
        limit, prefix = listing.limit(query), query.get("prefix", "")
        try:
            start = max(listing.read_token(query.get("pageToken", "")).decode(), prefix)
        except UnicodeDecodeError:
            raise errors.invalid("Invalid page token.") from None
        found = await run_in_threadpool(self._objects.buckets, start, limit + 1)
        found = [bucket for bucket in found if bucket.name.startswith(prefix)]
        body: dict[str, Any] = {"kind": "storage#buckets"}
        if found[:limit]:
            body["items"] = [self._resource(bucket, request) for bucket in found[:limit]]
        if len(found) > limit:
            body["nextPageToken"] = listing.token(found[limit].name.encode())
        return wire.answer(body)

    async def insert(self, request: Request) -> Response:
        project = _project(request)
        self._number(project)
        body = await wire.json_body(request)
        if "name" not in body:
            raise errors.required("name")
        name, fields = names.check_new_bucket(body["name"]), {**bucket_fields(body), PROJECT: project}
        return self._answer(await run_in_threadpool(self._objects.make_bucket, name, fields), request)

    async def get(self, request: Request) -> Response:
        return self._answer(await self._find(request), request)

    async def patch(self, request: Request) -> Response:
        """PUT, which is "update", gives a bucket these fields alone."""
        fields, conditions = bucket_fields(await wire.json_body(request)), _conditions(request)
        change, name = self._objects.change_bucket, wire.path(request, "bucket")
        return self._answer(
            await run_in_threadpool(change, name, fields, conditions, whole=request.method == "PUT"), request
        )

    async def delete(self, request: Request) -> Response:
        name = wire.path(request, "bucket")
        await run_in_threadpool(self._objects.remove_bucket, name, _conditions(request))
        return Response(status_code=204)

    async def get_policy(self, request: Request) -> Response:
        return self._policy(await self._find(request))

    async def set_policy(self, request: Request) -> Response:
        policy = {POLICY: {"bindings": [], **await wire.json_body(request)}}
        change, name = self._objects.change_bucket, wire.path(request, "bucket")
        return self._policy(await run_in_threadpool(change, name, policy, NONE, whole=False))

    async def test_permissions(self, request: Request) -> Response:
        """All that are asked for but those that a setting denies."""
        await run_in_threadpool(self._objects.bucket, wire.path(request, "bucket"))
        found = permissions.granted(request.query_params.getlist("permissions"), self._denied)
        return wire.answer({"kind": "storage#testIamPermissionsResponse", "permissions": found})

    async def service_account(self, request: Request) -> Response:
        address = f"service-{self._number(wire.path(request, 'project'))}@gs-project-accounts.iam.gserviceaccount.com"
        return wire.answer({"kind": "storage#serviceAccount", "email_address": address})

    async def _find(self, request: Request) -> Bucket:
        return await run_in_threadpool(self._objects.bucket, wire.path(request, "bucket"), _conditions(request))

    def _answer(self, bucket: Bucket, request: Request) -> Response:
        return wire.answer(self._resource(bucket, request))

    def _resource(self, bucket: Bucket, request: Request) -> dict[str, Any]:
        resource = bucket.resource(wire.base(request), self._number(bucket.fields.get(PROJECT, "")))
        for hidden in (POLICY, PROJECT):
            resource.pop(hidden, None)
        return resource

    def _number(self, project: str) -> str:
        try:
            return self._number_of(project)
        except ApiError as error:
            raise errors.invalid(f"Invalid argument: {error}.") from error

    def _policy(self, bucket: Bucket) -> Response:
        policy = {"bindings": [], "version": 1, **bucket.fields.get(POLICY, {})}
        return wire.answer(
            {**policy, "kind": "storage#policy", "resourceId": f"projects/_/buckets/{bucket.name}", "etag": bucket.etag}
        )


def _project(request: Request) -> str:
    project = request.query_params.get("project")
    if not project:
        raise errors.required("project")
    return project


def _conditions(request: Request) -> Conditions:
    return Conditions.of(request.query_params, request.headers)
