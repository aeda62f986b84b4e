"""TensorFlow Serving's gRPC API by tensorflow_serving.apis' own messages: PredictionService and ModelService."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cpr_kit.errors import StartError
from cpr_kit.model_server import messages
from cpr_kit.model_server.status import ServingError, invalid
from cpr_kit.model_server.versions import Model

logger = logging.getLogger(__name__)

_ANY_SIZE = -1


def start(model: Model, port: int, threads: int) -> Any:
    """The server, listening; `stop(grace)` ends it. Raises StartError when the port is taken."""
    import grpc
    from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

    limits = [("grpc.max_receive_message_length", _ANY_SIZE), ("grpc.max_send_message_length", _ANY_SIZE)]
    server = grpc.server(
        ThreadPoolExecutor(threads, thread_name_prefix="grpc"), options=[*limits, ("grpc.so_reuseport", 0)]
    )
    services = _Services(model)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(services, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(services, server)
    try:
        bound = server.add_insecure_port(f"0.0.0.0:{port}")
    except RuntimeError:
        bound = 0
    if not bound:
        raise StartError(f"cannot listen on 0.0.0.0:{port}", "give another port with --port")
    server.start()
    return server


class _Services:
    """The methods' names are the service's. What is not served here answers UNIMPLEMENTED with the reason."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
        def answer() -> Any:
            servable = self._model.find(request.model_spec.name, _version(request.model_spec))
            signature, inputs = messages.asked(servable, request)
            outputs = servable.predict(signature, inputs, list(request.output_filter))
            return messages.answered(request.model_spec.name, servable, signature, outputs)

        return _answered(answer, context)

    def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        def answer() -> Any:
            if not request.metadata_field:
                raise invalid("GetModelMetadataRequest.metadata_field is required")
            for field in request.metadata_field:
                if field != "signature_def":
                    raise invalid(f"Metadata field {field} is not supported")
            servable = self._model.find(request.model_spec.name, _version(request.model_spec))
            return messages.metadata(request.model_spec.name, servable)

        return _answered(answer, context)

    def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        from tensorflow_serving.apis import get_model_status_pb2

        def answer() -> Any:
            response = get_model_status_pb2.GetModelStatusResponse()
            for state in self._model.states(request.model_spec.name, _version(request.model_spec)):
                line = response.model_version_status.add()
                line.version = state.version
                line.state = get_model_status_pb2.ModelVersionStatus.State.Value(state.state)
                line.status.error_code = 2 if state.error else 0
                line.status.error_message = state.error
            return response

        return _answered(answer, context)

    def Classify(self, _request: Any, context: Any) -> Any:  # noqa: N802
        return _answered(_unserved, context)

    Regress = MultiInference = Classify

    def HandleReloadConfigRequest(self, _request: Any, context: Any) -> Any:  # noqa: N802
        return _answered(_unserved, context)


def _unserved() -> Any:
    raise ServingError("UNIMPLEMENTED", "this server answers Predict, GetModelMetadata and GetModelStatus")


def _version(spec: Any) -> int | None:
    if spec.version_label:
        raise invalid(f"Unrecognized servable version label: {spec.version_label}")
    return int(spec.version.value) if spec.HasField("version") else None


def _answered(answer: Callable[[], Any], context: Any) -> Any:
    import grpc

    try:
        return answer()
    except ServingError as error:
        context.abort(grpc.StatusCode[error.code], error.message)
    except Exception:
        logger.exception("a gRPC request failed")
        context.abort(grpc.StatusCode.INTERNAL, "an error inside the server; its log has it")
