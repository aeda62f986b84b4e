"""The API over HTTP: every binding of the SDK's own table, and the predictions, whose bodies are never transcoded."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import orjson
from google.cloud.location import locations_pb2
from google.longrunning import operations_pb2

from cpr_kit.contract import MAX_BODY
from cpr_kit.emulator import front, transcoding
from cpr_kit.emulator.catalogue import Binding, Catalogue, Method
from cpr_kit.emulator.errors import ApiError, Code, invalid_argument, not_found
from cpr_kit.emulator.faults import FaultError
from cpr_kit.emulator.predict.calls import Answer, Predictions, StreamAnswer
from cpr_kit.emulator.predict.limits import too_large
from cpr_kit.emulator.predict.target import Endpoint
from cpr_kit.emulator.resources.refused import SERVED, failure
from cpr_kit.emulator.service import Seen, Service, resource_of

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
T = TypeVar("T")

HOLD_S = 8.0
"""The SDK's REST client waits 10 s for an operation's answer, so no call is held longer than this."""
_MAX_CONTROL_BODY = 10_000_000
_VERBS = {
    "predict": "Predict",
    "rawPredict": "RawPredict",
    "streamRawPredict": "StreamRawPredict",
    "explain": "Explain",
    "directPredict": "DirectPredict",
    "directRawPredict": "DirectRawPredict",
    "serverStreamingPredict": "ServerStreamingPredict",
}
_PREDICTION = re.compile(r"/(?:v1|v1beta1)/(projects/[^/]+/locations/[^/]+/endpoints/[^/:]+):(\w+)")
_INVOKE = re.compile(
    r"/(?:v1|v1beta1)/(projects/[^/]+/locations/[^/]+/endpoints/[^/:]+)(?:/deployedModels/([^/]+))?/invoke(/.*)?"
)
_CHAT = re.compile(r"/(?:v1|v1beta1)/(projects/[^/]+/locations/[^/]+/endpoints/[^/:]+)/chat/completions")
_PRIVATE = re.compile(r"/private/(projects/[^/]+/locations/[^/]+/endpoints/[^/:]+)/v1/models/([^/:]+)(:predict)?")
_OPERATION = re.compile(r"/(projects/.+/operations/[^/:]+)(?::(\w+))?")
_OPERATIONS = re.compile(r"/(projects/.+)/operations")
_LOCATION = re.compile(r"/(projects/[^/]+/locations/[^/:]+)")
_LOCATIONS = re.compile(r"/(projects/[^/]+)/locations")
_OPERATION_CALLS = {
    ("GET", ""): ("GetOperation", operations_pb2.GetOperationRequest),
    ("DELETE", ""): ("DeleteOperation", operations_pb2.DeleteOperationRequest),
    ("POST", "cancel"): ("CancelOperation", operations_pb2.CancelOperationRequest),
    ("POST", "wait"): ("WaitOperation", operations_pb2.WaitOperationRequest),
}
_READS = (
    (_OPERATIONS, "Operations.ListOperations", operations_pb2.ListOperationsRequest),
    (_LOCATION, "Locations.GetLocation", locations_pb2.GetLocationRequest),
    (_LOCATIONS, "Locations.ListLocations", locations_pb2.ListLocationsRequest),
)


class Rest:
    """An ASGI application."""

    def __init__(self, service: Service, predictions: Predictions, catalogue: Catalogue) -> None:
        self._service = service
        self._predictions = predictions
        self._catalogue = catalogue

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        answer: Answer | StreamAnswer
        try:
            answer = await self._answer(scope, headers, receive)
        except ApiError as error:
            if isinstance(error, FaultError) and error.cuts:
                await front.cut(scope, receive)
                return
            answer = _refusal(error)
        except Exception as error:  # noqa: BLE001 - a caller gets Google's form of an error, whatever is wrong
            answer = _refusal(failure(error, self._service.fleet.report))
        if isinstance(answer, StreamAnswer):
            await _stream(answer, receive, send, self._service.fleet.report)
            return
        await _send_whole(send, answer)

    async def _answer(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> Answer | StreamAnswer:
        path = scope["path"]
        if match := _PREDICTION.fullmatch(path):
            verb = _VERBS.get(match[2])
            if verb is not None:
                _check_post(scope, path)
                with self._service.seen("REST", verb, match[1]) as seen:
                    return await self._predict(verb, match[1], headers, receive, seen)
        if match := _PRIVATE.fullmatch(path):
            return await self._private(scope, match, headers, receive)
        if match := _INVOKE.fullmatch(scope.get("raw_path", path.encode()).decode("latin-1").partition("?")[0]):
            return await self._invoke(scope, match, headers, receive)
        if match := _CHAT.fullmatch(path):
            with self._service.seen("REST", "ChatCompletions", match[1]):
                return self._predictions.chat(self._service.target(match[1], headers.get("host", "")))
        return await self._control(scope, receive)

    # Predictions

    async def _predict(
        self, verb: str, name: str, headers: Mapping[str, str], receive: Receive, seen: Seen
    ) -> Answer | StreamAnswer:
        await self._service.strike(f"PredictionService.{verb}", seen)
        endpoint = self._service.target(name, headers.get("host", ""))
        await self._service.strike_replica(endpoint, seen)
        body = await self._body(endpoint, headers, receive)
        if verb == "Predict":
            return await _while_there(receive, self._predictions.predict_json(endpoint, body))
        if verb == "RawPredict":
            answer = await _while_there(receive, self._predictions.raw(endpoint, body, headers))
            seen.answered(answer.status)
            return answer
        if verb == "StreamRawPredict":
            stream = await _while_there(receive, self._predictions.stream(endpoint, body, headers))
            return _kept(stream, seen)
        if verb == "Explain":
            self._predictions.explain(endpoint, str(_object(body).get("deployedModelId") or ""))
        return self._predictions.direct(endpoint, verb[0].lower() + verb[1:])  # type: ignore[arg-type]

    async def _private(
        self, scope: Scope, match: re.Match[str], headers: Mapping[str, str], receive: Receive
    ) -> Answer:
        """The URIs of a model in a peered network: `predictHttpUri` and `healthHttpUri` (PrivateEndpoints)."""
        name, model, predict = match.groups()
        with self._service.seen("REST", "Predict" if predict else "Health", name) as seen:
            endpoint = self._service.target(name)
            if predict:
                _check_post(scope, scope["path"])
                await self._service.strike("PredictionService.Predict", seen)
                await self._service.strike_replica(endpoint, seen)
                body = await self._body(endpoint, headers, receive)
                answer = await _while_there(receive, self._predictions.private(endpoint, model, body, headers))
                seen.answered(answer.status)
                return answer
            deployed = endpoint.models.get(model)
            healthy = (
                deployed is not None and deployed.container is not None and deployed.container.choose() is not None
            )
            return Answer(status=200 if healthy else 503, headers={"content-type": "application/json"}, body=b"{}")

    async def _invoke(
        self, scope: Scope, match: re.Match[str], headers: Mapping[str, str], receive: Receive
    ) -> StreamAnswer:
        name, model, path = match.groups()
        with self._service.seen("REST", "Invoke", name) as seen:
            await self._service.strike("PredictionService.Invoke", seen)
            endpoint = self._service.target(name, headers.get("host", ""))
            await self._service.strike_replica(endpoint, seen)
            body = await self._body(endpoint, headers, receive)
            query = scope["query_string"].decode("latin-1")
            wanted = (path or "") + (f"?{query}" if query else "")
            answering = self._predictions.invoke(endpoint, wanted, body, headers, model or "")
            return _kept(await _while_there(receive, answering), seen)

    async def _body(self, endpoint: Endpoint, headers: Mapping[str, str], receive: Receive) -> bytes:
        """No more of a body is read than the endpoint lets through."""
        limit = MAX_BODY[endpoint.kind]
        refusal = too_large("Request", limit, self._service.state.settings)
        return await _read(headers, receive, limit, refusal)

    # All the other calls

    async def _control(self, scope: Scope, receive: Receive) -> Answer:
        version, _, rest = scope["path"].lstrip("/").partition("/")
        path = f"/{rest}"
        if version not in ("v1", "v1beta1", "ui"):
            raise not_found(f"{scope['method']} {scope['path']} is no call of the API.")
        beta = version == "v1beta1"
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = ApiError(Code.INVALID_ARGUMENT, f"The request is larger than {_MAX_CONTROL_BODY} bytes.")
        body = await _read(headers, receive, _MAX_CONTROL_BODY, refusal)
        with self._service.seen("REST", f"{scope['method']} {path}", "") as seen:
            method, request = self._request(scope["method"], path, query, body, beta=beta)
            seen.method, seen.resource = method.short, resource_of(request)
            await self._service.strike(method.name, seen)
            message = await self._service.call(method, request, HOLD_S)
            if isinstance(message, operations_pb2.Operation):
                begun = beta and not method.name.startswith("Operations.")
                beta = self._service.state.operations.is_beta(message.name, mark=begun)
        as_numbers = any("enum-encoding=int" in value for name, value in query if name.endswith("alt"))
        content = transcoding.write(message, enums_as_numbers=as_numbers, beta=beta)
        return Answer(status=200, headers={"content-type": "application/json; charset=UTF-8"}, body=content)

    def _request(
        self, verb: str, path: str, query: list[tuple[str, str]], body: bytes, *, beta: bool
    ) -> tuple[Method, Any]:
        found = self._catalogue.find(verb, path)
        if found is not None:
            binding, fields = found
            return binding.method, transcoding.read(binding, fields, query, body, beta=beta)
        if match := _OPERATION.fullmatch(path):
            call = _OPERATION_CALLS.get((verb, match[2] or ""))
            if call is not None:
                return _mixed_in(f"Operations.{call[0]}", call[1], match[1], query, body)
        for pattern, name, kind in _READS if verb == "GET" else ():
            if match := pattern.fullmatch(path):
                return _mixed_in(name, kind, match[1], query, b"")
        others = self._catalogue.verbs(path)
        if others:
            raise not_found(f"{verb} {path} is no call of the API; this path takes {', '.join(others)}.")
        raise not_found(f"{verb} {path} is no call that the emulator knows, which has {SERVED}.")


def _kept(stream: StreamAnswer, seen: Seen) -> StreamAnswer:
    """One that nobody will get is closed, which tells the container."""
    seen.answered(stream.status)
    if seen.lost is not None:
        stream.close()
    return stream


def _mixed_in(call: str, kind: type[Any], name: str, query: list[tuple[str, str]], body: bytes) -> tuple[Method, Any]:
    """A call of operations or locations, which every service has, and the SDK's own table of bindings has not."""
    method = Method(call, kind, operations_pb2.Operation)
    binding = Binding(method, _OPERATION, ("name",), "*" if body else "")
    return method, transcoding.read(binding, {"name": name}, query, body, beta=False)


def _check_post(scope: Scope, path: str) -> None:
    if scope["method"] != "POST":
        raise not_found(f"{scope['method']} {path} is no call of the API; predictions are asked for with POST.")


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid_argument(f"Invalid JSON payload received. {error}") from error
    return content if isinstance(content, dict) else {}


async def _read(headers: Mapping[str, str], receive: Receive, limit: int, refusal: ApiError) -> bytes:
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise refusal
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ApiError(Code.CANCELLED, "The client has left.")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise refusal
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _while_there(receive: Receive, answering: Coroutine[Any, Any, T]) -> T:
    """Once the body is read: a caller that leaves ends the container's request too, as behind Envoy."""
    task, going = asyncio.current_task(), True
    assert task is not None

    def left(_: object) -> None:
        if going:
            task.cancel()

    gone = asyncio.ensure_future(receive())
    gone.add_done_callback(left)
    try:
        return await answering
    except asyncio.CancelledError:
        if not gone.done() or gone.cancelled():
            raise
        raise ApiError(Code.CANCELLED, "The client has left.") from None
    finally:
        going = False
        gone.cancel()


def _refusal(error: ApiError) -> Answer:
    headers = {"content-type": "application/json; charset=UTF-8"}
    if isinstance(error, FaultError) and error.retry_after_s is not None:
        headers["retry-after"] = f"{error.retry_after_s:g}"
    return Answer(status=error.http_status, headers=headers, body=json.dumps(error.body()).encode())


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]


async def _send_whole(send: Send, answer: Answer) -> None:
    headers = [*_encoded(answer.headers), (b"content-length", str(len(answer.body)).encode())]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _stream(answer: StreamAnswer, receive: Receive, send: Send, report: Callable[[str], None]) -> None:
    """What the container sends, as it comes. A client that leaves ends the container's request too."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def pass_on() -> None:
        await send({"type": "http.response.start", "status": answer.status, "headers": _encoded(answer.headers)})
        async for chunk in answer.chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    tasks = {asyncio.ensure_future(gone()), asyncio.ensure_future(pass_on())}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    except ApiError as error:  # midway: uvicorn closes the connection of what is not complete
        report(f"a stream was cut: {error}")
    finally:
        for task in tasks:
            task.cancel()
        answer.close()
