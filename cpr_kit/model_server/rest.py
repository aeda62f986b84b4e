"""TensorFlow Serving's REST API ("RESTful API" in its guide): status, metadata and predictions of one model."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cpr_kit.model_server import json_form, messages
from cpr_kit.model_server.flags import Flags
from cpr_kit.model_server.status import ServingError, invalid
from cpr_kit.model_server.versions import Model

logger = logging.getLogger(__name__)

_ROUTE = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
    r"(?::(?P<verb>classify|regress|predict)|/(?P<metadata>metadata))?\Z",
    re.IGNORECASE,
)
_METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH"]


def application(model: Model, flags: Flags, executor: Executor) -> Starlette:
    """The server's ASGI application. Models are asked in the executor's threads."""
    api = _Api(model, flags, executor)
    return Starlette(routes=[Route("/{path:path}", api.answer, methods=_METHODS)])


class _Api:
    def __init__(self, model: Model, flags: Flags, executor: Executor) -> None:
        self._model = model
        self._executor = executor
        self._timeout_s = flags.rest_api_timeout_in_ms / 1000
        own = f"/v1/models/{flags.model_name}"
        self._also = {("GET", flags.health_route): own, ("POST", flags.predict_route): f"{own}:predict"}

    async def answer(self, request: Request) -> Response:
        try:
            return _json(await self._answered(request))
        except ServingError as error:
            return _json(json.dumps({"error": error.message}).encode(), error.status_code)
        except Exception:
            logger.exception("%s %s", request.method, request.url.path)
            return _json(b'{"error": "an error inside the server; its log has it"}', 500)

    async def _answered(self, request: Request) -> bytes:
        path = self._also.get((request.method, request.url.path), request.url.path)
        found = _ROUTE.match(path)
        verb = (found["verb"] or "").lower() if found else ""
        if found is None or request.method != ("POST" if verb else "GET"):
            if not path.lower().startswith("/v1/"):
                raise ServingError("NOT_FOUND", f"Malformed request: {request.method} {request.url.path}")
            raise invalid(f"Malformed request: {request.method} {request.url.path}")
        if found["label"]:
            raise invalid(f"Unrecognized servable version label: {found['label']}")
        version = int(found["version"]) if found["version"] else None
        if verb in ("classify", "regress"):
            raise ServingError("UNIMPLEMENTED", f":{verb} takes tf.Example, which is not read here; use :predict")
        body = await request.body()
        return await self._timed(lambda: self._done(found["name"], version, verb or found["metadata"], body))

    async def _timed(self, call: Callable[[], bytes]) -> bytes:
        loop = asyncio.get_running_loop()
        try:
            return await asyncio.wait_for(loop.run_in_executor(self._executor, call), self._timeout_s)
        except asyncio.TimeoutError as error:
            raise ServingError("DEADLINE_EXCEEDED", f"Timed out after {self._timeout_s:g} s") from error

    def _done(self, name: str, version: int | None, what: str | None, body: bytes) -> bytes:
        if not what:
            return _dumped({"model_version_status": [_line(state) for state in self._model.states(name, version)]})
        servable = self._model.find(name, version)
        if what.lower() == "metadata":
            return _metadata(messages.metadata(name, servable))
        asked = json_form.read(body, servable.signature)
        return json_form.write(servable.predict(asked.signature, asked.inputs), in_rows=asked.in_rows)


def _line(state: Any) -> dict[str, Any]:
    return {
        "version": str(state.version),
        "state": state.state,
        "status": {"error_code": "UNKNOWN" if state.error else "OK", "error_message": state.error},
    }


def _metadata(response: Any) -> bytes:
    from google.protobuf import json_format
    from tensorflow_serving.apis import get_model_metadata_pb2

    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    shown = json_format.MessageToDict(
        signatures, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    spec = response.model_spec
    return _dumped(
        {
            "model_spec": {"name": spec.name, "signature_name": "", "version": str(spec.version.value)},
            "metadata": {"signature_def": shown},
        }
    )


def _dumped(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")
