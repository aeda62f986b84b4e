"""The calls on objects but for uploads: "Objects" in the JSON API reference, and the plain form of a public URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cpr_kit.emulator.storage import downloads, errors, listing, wire
from cpr_kit.emulator.storage.conditions import Conditions, number
from cpr_kit.emulator.storage.objects import NewObject, Objects, Reference
from cpr_kit.emulator.storage.records import Object, object_fields


class ObjectCalls:
    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def routes(self) -> list[Route]:
        all_, one = "/storage/v1/b/{bucket}/o", "/storage/v1/b/{bucket}/o/{object}"
        target = "b/{target_bucket}/o/{target_object}"
        return [
            Route(all_, self.list, methods=["GET"]),
            Route(one, self.get, methods=["GET"]),
            Route(one, self.patch, methods=["PATCH", "PUT"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(f"/download{one}", self.download, methods=["GET"]),
            Route(f"{one}/copyTo/{target}", self.copy, methods=["POST"]),
            Route(f"{one}/rewriteTo/{target}", self.rewrite, methods=["POST"]),
            Route(f"{one}/moveTo/o/{{target_object}}", self.move, methods=["POST"]),
            Route(f"{one}/compose", self.compose, methods=["POST"]),
        ]

    def public(self) -> Route:
        """Of storage.googleapis.com/BUCKET/OBJECT; it comes after all others."""
        return Route("/{bucket}/{object:path}", self.get_public, methods=["GET"])

    async def list(self, request: Request) -> Response:
        bucket, query = wire.path(request, "bucket"), listing.Query.of(request.query_params)
        page = await run_in_threadpool(self._objects.page, bucket, query)
        body: dict[str, Any] = {"kind": "storage#objects"}
        if page.items:
            base = wire.base(request)
            body["items"] = [found.resource(base) for found in page.items]
        if page.prefixes:
            body["prefixes"] = page.prefixes
        if page.token is not None:
            body["nextPageToken"] = listing.token(page.token)
        return wire.answer(body)

    async def get(self, request: Request) -> Response:
        if request.query_params.get("alt") == "media":
            return await self.download(request)
        return self._answer(await run_in_threadpool(self._objects.find, wire.reference(request)), request)

    async def download(self, request: Request) -> Response:
        return await downloads.media(self._objects, wire.reference(request), request)

    async def get_public(self, request: Request) -> Response:
        """Its errors are XML, as that form's are."""
        try:
            return await self.download(request)
        except errors.NotModified:
            raise
        except errors.StorageError as error:
            body = (
                f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{_xml_code(error)}</Code>"
                f"<Message>{escape(error.message)}</Message></Error>"
            )
            return Response(body, error.http_status, media_type="application/xml; charset=UTF-8")

    async def patch(self, request: Request) -> Response:
        """PUT, which is "update", gives an object these fields alone."""
        wanted, fields = wire.reference(request), object_fields(await wire.json_body(request))
        return self._answer(
            await run_in_threadpool(self._objects.change, wanted, fields, whole=request.method == "PUT"), request
        )

    async def delete(self, request: Request) -> Response:
        await run_in_threadpool(self._objects.remove, wire.reference(request))
        return Response(status_code=204)

    async def copy(self, request: Request) -> Response:
        return self._answer(await self._copied(request), request)

    async def rewrite(self, request: Request) -> Response:
        """In one call, whatever its size: the bytes are linked."""
        found = await self._copied(request)
        size = str(found.size)
        done = {"kind": "storage#rewriteResponse", "totalBytesRewritten": size, "objectSize": size, "done": True}
        return wire.answer({**done, "resource": found.resource(wire.base(request))})

    async def move(self, request: Request) -> Response:
        source = wire.reference(request, prefix="ifSource")
        target = wire.new_object(request, source.bucket, wire.path(request, "target_object"), {})
        return self._answer(await run_in_threadpool(self._objects.copy, source, target, move=True), request)

    async def compose(self, request: Request) -> Response:
        body = await wire.json_body(request)
        bucket, given = wire.path(request, "bucket"), body.get("sourceObjects")
        if not isinstance(given, list):
            raise errors.required("sourceObjects")
        destination = body.get("destination") or {}
        if not isinstance(destination, dict):
            raise errors.invalid("Invalid value for destination: it is no object resource")
        # A client sends back all it knows of the object that is replaced, and its checksums are no longer true.
        target = wire.new_object(request, bucket, wire.path(request, "object"), object_fields(destination))
        sources = [_source(bucket, source) for source in given]
        return self._answer(await run_in_threadpool(self._objects.compose, sources, target), request)

    async def _copied(self, request: Request) -> Object:
        body = await wire.json_body(request)
        return await run_in_threadpool(
            self._objects.copy, wire.reference(request, prefix="ifSource"), _target(request, body)
        )

    def _answer(self, found: Object, request: Request) -> Response:
        return wire.answer(found.resource(wire.base(request)), headers={"etag": found.etag})


def _target(request: Request, body: Mapping[str, Any]) -> NewObject:
    """A body that says nothing but the storage class leaves the source's fields as they are."""
    bucket, name = wire.path(request, "target_bucket"), wire.path(request, "target_object")
    said = object_fields(body)
    return wire.new_object(request, bucket, name, body if said.keys() - {"storageClass"} else {})


def _source(bucket: str, source: object) -> Reference:
    """One of those that are composed: {"name", "generation", "objectPreconditions": {"ifGenerationMatch"}}."""
    if not isinstance(source, dict) or not isinstance(source.get("name"), str):
        raise errors.invalid(f"Invalid value for sourceObjects: {source!r} has no name")
    conditions = source.get("objectPreconditions") or {}
    if not isinstance(conditions, dict):
        raise errors.invalid(f"Invalid value for objectPreconditions: {conditions!r}")
    return Reference(
        bucket=bucket,
        name=source["name"],
        generation=number(_texts(source), "generation"),
        conditions=Conditions.of(_texts(conditions)),
    )


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """An int64 comes as a string or a number."""
    return {name: str(value) for name, value in values.items() if value is not None}


def _xml_code(error: errors.StorageError) -> str:
    if error.reason == "notFound":
        return "NoSuchBucket" if error.message == errors.no_bucket().message else "NoSuchKey"
    return "PreconditionFailed" if error.reason == "conditionNotMet" else "InvalidArgument"
