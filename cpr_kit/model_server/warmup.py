"""Requests that are replayed before a version serves: TensorFlow Serving's "SavedModel Warmup".

They lie in assets.extra/tf_serving_warmup_requests, a TFRecord file of PredictionLog messages.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpr_kit.errors import StartError
from cpr_kit.model_server.status import ServingError

if TYPE_CHECKING:
    from cpr_kit.model_server.servable import Servable

logger = logging.getLogger(__name__)

FILE = "assets.extra/tf_serving_warmup_requests"
MOST = 1000
"""TensorFlow Serving takes no more records than this."""


def replay(folder: Path, servable: Servable) -> int:
    """How many requests were answered. Raises StartError naming the record that was not."""
    path = folder / FILE
    if not path.is_file():
        return 0
    done = 0
    for number, record in enumerate(_records(path), 1):
        if number > MOST:
            raise StartError(f"Number of warmup records exceeds the maximum ({MOST}) at {path}", "leave some out")
        done += _ask(servable, record, f"record {number} of {FILE}")
    return done


def _records(path: Path) -> Any:
    import tensorflow as tf

    try:
        yield from tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    except tf.errors.OpError as error:
        raise StartError(f"{path} is no TFRecord file: {error.message}", "write it anew, or remove it") from error


def _ask(servable: Servable, record: bytes, where: str) -> int:
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import prediction_log_pb2

    from cpr_kit.model_server.messages import asked

    log = prediction_log_pb2.PredictionLog()
    try:
        log.ParseFromString(record)
    except DecodeError as error:
        raise StartError(f"{where} is no PredictionLog", "write the file anew, or remove it") from error
    kind = log.WhichOneof("log_type")
    if kind != "predict_log":
        logger.warning("%s is left out: it is a %s, and requests for prediction alone are served", where, kind)
        return 0
    try:
        signature, inputs = asked(servable, log.predict_log.request)
        servable.predict(signature, inputs, list(log.predict_log.request.output_filter))
    except ServingError as error:
        raise StartError(f"{where} fails: {error}", "write the file anew for this model, or remove it") from error
    return 1
