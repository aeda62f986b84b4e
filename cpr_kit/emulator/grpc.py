"""The API over gRPC: one generic handler for every method of the SDK's own table."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
from google.api import httpbody_pb2
from google.cloud.location import locations_pb2
from google.longrunning import operations_pb2
from google.protobuf.empty_pb2 import Empty

from cpr_kit.emulator import transcoding
from cpr_kit.emulator.catalogue import Catalogue, Method
from cpr_kit.emulator.errors import ApiError, Code, unimplemented
from cpr_kit.emulator.faults import FaultError
from cpr_kit.emulator.predict.calls import Predictions
from cpr_kit.emulator.predict.target import Endpoint
from cpr_kit.emulator.resources.refused import SERVED, failure
from cpr_kit.emulator.service import Seen, Service, resource_of

if TYPE_CHECKING:
    from typing_extensions import Self

_API = "google.cloud.aiplatform."
_MAX_MESSAGE = 64 * 2**20
_DEADLINE_SHARE = 0.8
"""Of what a caller's deadline leaves, a call that waits uses this much."""
_OPERATIONS = {
    "GetOperation": (operations_pb2.GetOperationRequest, operations_pb2.Operation),
    "WaitOperation": (operations_pb2.WaitOperationRequest, operations_pb2.Operation),
    "ListOperations": (operations_pb2.ListOperationsRequest, operations_pb2.ListOperationsResponse),
    "CancelOperation": (operations_pb2.CancelOperationRequest, Empty),
    "DeleteOperation": (operations_pb2.DeleteOperationRequest, Empty),
}
_LOCATIONS = {
    "GetLocation": (locations_pb2.GetLocationRequest, locations_pb2.Location),
    "ListLocations": (locations_pb2.ListLocationsRequest, locations_pb2.ListLocationsResponse),
}
_STATUS = {code.value[0]: code for code in grpc.StatusCode}


class Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, service: Service, predictions: Predictions, catalogue: Catalogue) -> None:
        self._service = service
        self._predictions = predictions
        self._methods = dict(catalogue.methods)
        for call, (request, response) in (*_OPERATIONS.items(), *_LOCATIONS.items()):
            name = "Operations" if call in _OPERATIONS else "Locations"
            self._methods[f"{name}/{call}"] = Method(f"{name}.{call}", request, response)
        self._predicting: dict[str, Callable[[Any, Any, Seen], Awaitable[Any]]] = {
            "PredictionService.Predict": self._predict,
            "PredictionService.RawPredict": self._raw,
            "PredictionService.Explain": self._explain,
        }

    def service(self, details: Any) -> Any:
        """The handler of a path such as /google.cloud.aiplatform.v1.ModelService/GetModel."""
        package, _, call = details.method.lstrip("/").partition("/")
        version, _, service = package.rpartition(".")
        method = self._methods.get(f"{service}/{call}")
        if method is None:
            return self._not_served(details.method) if package.startswith(_API) else None
        beta = version.endswith("v1beta1")
        options = {
            "request_deserializer": method.request.FromString,
            "response_serializer": lambda message: message.SerializeToString(),
        }
        if method.name == "PredictionService.StreamRawPredict":
            return grpc.unary_stream_rpc_method_handler(self._stream, **options)
        if method.client_streams or method.server_streams:
            kind = "stream" if method.client_streams else "unary", "stream" if method.server_streams else "unary"
            handler = getattr(grpc, f"{kind[0]}_{kind[1]}_rpc_method_handler")
            return handler(self._direct_stream(method), **options)

        async def answer(request: Any, context: Any) -> Any:
            return await self._answer(method, request, context, beta=beta)

        return grpc.unary_unary_rpc_method_handler(answer, **options)

    async def _answer(self, method: Method, request: Any, context: Any, *, beta: bool) -> Any:
        with self._refusing() as refusal, self._service.seen("gRPC", method.short, resource_of(request)) as seen:
            await self._service.strike(method.name, seen)
            if method.name in self._predicting:
                return await self._predicting[method.name](request, context, seen)
            if method.name.startswith("PredictionService."):
                self._refuse_direct(method, request, context)
            message = await self._service.call(method, request, self._hold(context))
            if isinstance(message, operations_pb2.Operation):
                operations = self._service.state.operations
                if operations.is_beta(message.name, mark=beta):
                    message = transcoding.to_beta(message)
            return message
        assert refusal.error is not None
        return await _abort(context, refusal.error)

    def _not_served(self, path: str) -> Any:
        """A method of another of the API's services."""

        async def refuse(_: bytes, context: Any) -> None:
            with self._refusing() as refusal, self._service.seen("gRPC", path.rpartition("/")[2], ""):
                raise unimplemented(f"{path} is not served by the emulator, which has {SERVED}.")
            assert refusal.error is not None
            await _abort(context, refusal.error)

        return grpc.unary_unary_rpc_method_handler(refuse)

    def _refusing(self) -> _Refusing:
        return _Refusing(self._service.fleet.report)

    def _hold(self, context: Any) -> float:
        remaining = context.time_remaining()
        longest = self._service.state.settings.hold_s
        return longest if remaining is None else min(longest, remaining * _DEADLINE_SHARE)

    # Predictions

    def _target(self, request: Any, context: Any) -> Endpoint:
        return self._service.target_over_grpc(request.endpoint, _metadata(context))

    async def _predict(self, request: Any, context: Any, seen: Seen) -> Any:
        endpoint = self._target(request, context)
        await self._service.strike_replica(endpoint, seen)
        return await self._predictions.predict_message(endpoint, request)

    async def _raw(self, request: Any, context: Any, seen: Seen) -> Any:
        endpoint = self._target(request, context)
        await self._service.strike_replica(endpoint, seen)
        answer = await self._predictions.raw_message(endpoint, request.http_body, _metadata(context))
        await context.send_initial_metadata(tuple(answer.metadata.items()))
        return answer.body

    async def _explain(self, request: Any, context: Any, _seen: Seen) -> Any:
        self._predictions.explain(self._target(request, context), request.deployed_model_id)

    def _refuse_direct(self, method: Method, request: Any, context: Any) -> None:
        if "endpoint" not in request.DESCRIPTOR.fields_by_name:  # of publishers' models
            raise unimplemented(f"{method.name} is not served by the emulator, which has {SERVED}.")
        verb = method.short[0].lower() + method.short[1:]
        self._predictions.direct(self._target(request, context), verb)  # type: ignore[arg-type]

    async def _stream(self, request: Any, context: Any) -> AsyncIterator[httpbody_pb2.HttpBody]:
        with self._refusing() as refusal, self._service.seen("gRPC", "StreamRawPredict", request.endpoint) as seen:
            await self._service.strike("PredictionService.StreamRawPredict", seen)
            endpoint = self._target(request, context)
            await self._service.strike_replica(endpoint, seen)
            chunks = self._predictions.stream_messages(endpoint, request.http_body, _metadata(context))
            async with contextlib.aclosing(chunks):  # type: ignore[type-var]
                async for chunk in chunks:
                    yield chunk
        if refusal.error is not None:
            await _abort(context, refusal.error)

    def _direct_stream(self, method: Method) -> Callable[[Any, Any], Awaitable[None]]:
        """Calls for containers that speak gRPC: refused with the reason, once the endpoint is known."""

        async def refuse(request: Any, context: Any) -> None:
            with self._refusing() as refusal, self._service.seen("gRPC", method.short, "") as seen:
                first = request
                if method.client_streams:
                    first = await anext(aiter(request), None)
                if first is not None:
                    seen.resource = getattr(first, "endpoint", "") or getattr(first, "model", "")
                    self._refuse_direct(method, first, context)
            if refusal.error is not None:
                await _abort(context, refusal.error)

        return refuse


class _Refusing:
    """Holds the ApiError that ended its block: gRPC's own way to end a call is an exception too."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self.error: ApiError | None = None
        self._report = report

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _at: object) -> bool:
        if isinstance(error, ApiError):
            self.error = error
        elif isinstance(error, Exception):
            self.error = failure(error, self._report)
        return self.error is not None


async def _abort(context: Any, error: ApiError) -> None:
    if isinstance(error, FaultError) and error.retry_after_s is not None:
        context.set_trailing_metadata((("retry-after", f"{error.retry_after_s:g}"),))
    await context.abort(_STATUS[Code(error.code)], error.message)


def _metadata(context: Any) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


async def serve(handlers: tuple[grpc.GenericRpcHandler, ...], credentials: grpc.ServerCredentials) -> tuple[Any, int]:
    """A server on a free port of 127.0.0.1, started, and the port."""
    server = grpc.aio.server(
        options=(
            ("grpc.max_receive_message_length", _MAX_MESSAGE),
            ("grpc.max_send_message_length", _MAX_MESSAGE),
            ("grpc.so_reuseport", 0),
        )
    )
    server.add_generic_rpc_handlers(handlers)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    return server, port
