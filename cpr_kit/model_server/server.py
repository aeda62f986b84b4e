"""The process: read the flags, load the model, serve REST and gRPC, and end with the reason when that fails."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

from cpr_kit.errors import CprError, LackingError, StartError, UsageError
from cpr_kit.model_server import batching, flags, grpc_api
from cpr_kit.model_server.flags import Flags
from cpr_kit.model_server.versions import Model
from cpr_kit.runtime import artifacts

logger = logging.getLogger(__name__)

FAILED = 255
"""What TensorFlow Serving's `return -1` comes to."""
_GRACE_S = 10
_BACKLOG = 2048


def main(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT, then 0; the exit code where that cannot be."""
    try:
        asked = flags.parse(arguments)
    except UsageError as error:
        print(error, flags.usage(), sep="\n", flush=True)
        return FAILED
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    try:
        serve(asked)
    except CprError as error:
        print(f"Failed to start server. Error: {error}", flush=True)
        return FAILED
    return 0


def serve(asked: Flags) -> None:
    """Raises StartError, and whatever else a start may end with."""
    parameters = _parameters(asked)
    configure(asked)

    def load(folder: Path, version: int) -> Any:
        from cpr_kit.model_server import servable

        return servable.load(folder, version, asked, parameters)

    model = Model(
        asked.model_name,
        asked.model_base_path,
        load,
        interval_s=asked.file_system_poll_wait_seconds,
        unversioned=asked.unversioned,
    )
    # As TensorFlow Serving has it, nothing listens before a version serves.
    model.start()
    model.follow()
    services = grpc_api.start(model, asked.port, asked.rest_api_num_threads) if asked.port else None
    try:
        if asked.rest_api_port:
            _serve_rest(model, asked)
        else:
            _wait_for_the_end()
    finally:
        if services is not None:
            services.stop(_GRACE_S).wait()
        model.close()


def configure(asked: Flags) -> None:
    """What TensorFlow takes only before it computes. Raises LackingError where there is none."""
    try:
        import tensorflow as tf
    except ModuleNotFoundError as error:
        raise LackingError(
            f"{error.name} is not installed here; this server runs in the image of containers/tf_serving"
        ) from error

    threads = asked.tensorflow_session_parallelism
    if asked.use_tfrt:
        logger.warning("--use_tfrt has no effect: that engine is part of the optimized TensorFlow runtime alone")
    tf.config.threading.set_intra_op_parallelism_threads(asked.tensorflow_intra_op_parallelism or threads)
    tf.config.threading.set_inter_op_parallelism_threads(asked.tensorflow_inter_op_parallelism or threads)


def _parameters(asked: Flags) -> batching.Parameters | None:
    if not asked.enable_batching:
        if asked.batching_parameters_file:
            raise StartError("--batching_parameters_file is given without --enable_batching", "add --enable_batching")
        return None
    if not asked.batching_parameters_file:
        return batching.Parameters()
    path = _local(asked.batching_parameters_file, asked.model_base_path)
    try:
        return batching.read(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(
            f"the batching parameters {asked.batching_parameters_file} cannot be read: {error}",
            "name a file of the model's folder or of the image",
        ) from error


def _local(path: str, base: str) -> Path:
    """A gs:// file of the model's own folder is read where that was downloaded to."""
    if not path.startswith(artifacts.SCHEME):
        return Path(path)
    inside = path.removeprefix(base.rstrip("/") + "/")
    if inside == path:
        raise StartError(f"the batching parameters {path} do not lie under {base}", "put them into the model's folder")
    return artifacts.fetch(base) / inside


def _serve_rest(model: Model, asked: Flags) -> None:
    import uvicorn

    from cpr_kit.model_server import rest

    with _listen(asked.rest_api_port) as listener, ThreadPoolExecutor(asked.rest_api_num_threads) as executor:
        config = uvicorn.Config(
            rest.application(model, asked, executor),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=_GRACE_S,
        )
        logger.info("Exporting HTTP/REST API at:0.0.0.0:%d ...", asked.rest_api_port)
        uvicorn.Server(config).run([listener])


def _listen(port: int) -> socket.socket:
    # The protocol is named because event loops turn Nagle's algorithm off only for sockets that say they are TCP.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("0.0.0.0", port))  # noqa: S104  a container's port is reached from outside
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise StartError(
            f"cannot listen on 0.0.0.0:{port}: {error.strerror}", "give another --rest_api_port"
        ) from error
    return listener


def _wait_for_the_end() -> None:
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    ended.wait()
