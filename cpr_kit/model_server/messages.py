"""PredictRequest and PredictResponse of tensorflow_serving.apis, in and out of arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cpr_kit.model_server.signature import Arrays, Signature
from cpr_kit.model_server.status import ServingError, invalid

if TYPE_CHECKING:
    from cpr_kit.model_server.servable import Servable


def asked(servable: Servable, request: Any) -> tuple[Signature, dict[str, np.ndarray[Any, Any]]]:
    """The signature that a PredictRequest names, and its inputs. Raises ServingError."""
    import tensorflow as tf

    signature = servable.signature(request.model_spec.signature_name, code="FAILED_PRECONDITION")
    inputs = {}
    for name, proto in request.inputs.items():
        expected = signature.inputs.get(name)
        try:
            inputs[name] = tf.make_ndarray(proto)
        except (TypeError, ValueError) as error:
            raise invalid(f"input {name} is no tensor: {error}") from error
        sent = tf.as_dtype(proto.dtype).name
        if expected is not None and sent != expected.dtype_name:
            raise invalid(f"input {name} is {sent}, expecting {expected.dtype_name}; {signature.expecting()}")
    signature.check(inputs)
    return signature, inputs


def answered(name: str, servable: Servable, signature: Signature, outputs: Arrays) -> Any:
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    response = predict_pb2.PredictResponse()
    response.model_spec.name = name
    response.model_spec.version.value = servable.version
    response.model_spec.signature_name = signature.name
    for each, value in outputs.items():
        expected = signature.outputs[each]
        dtype = tf.string if expected.dtype is None else None
        try:
            response.outputs[each].CopyFrom(tf.make_tensor_proto(value, dtype=dtype))
        except (TypeError, ValueError) as error:
            raise ServingError("INTERNAL", f"output {each} cannot be sent: {error}") from error
    return response


def metadata(name: str, servable: Servable) -> Any:
    """A GetModelMetadataResponse with the one field there is, signature_def."""
    from tensorflow_serving.apis import get_model_metadata_pb2

    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = name
    response.model_spec.version.value = servable.version
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for signature in servable.signatures.values():
        signatures.signature_def[signature.name].CopyFrom(signature.message)
    response.metadata["signature_def"].Pack(signatures)
    return response
