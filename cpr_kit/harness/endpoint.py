"""A container on this machine, started and asked as Vertex AI would: the SDK's `LocalEndpoint`, and more."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from cpr_kit import contract
from cpr_kit.contract import ContainerSpec, Deployment
from cpr_kit.engine.protocol import Container, Engine, Gpus
from cpr_kit.errors import ContainerError, CprError
from cpr_kit.harness import client, plan, prediction, probes
from cpr_kit.harness.prediction import Prediction

if TYPE_CHECKING:
    import requests
    from typing_extensions import Self

_logger = logging.getLogger(__name__)

READY_TIMEOUT_S = 300.0
READY_INTERVAL_S = 0.1
REQUEST_TIMEOUT_S = 60.0
"""A shared public endpoint's limit."""

# How long an engine may take to notice that a container which hung up has ended.
_NOTICE_S = 1.0


class LocalEndpoint:
    """Serves from `serve()` to `stop()`, or inside a `with` block. The logs stay readable afterwards."""

    def __init__(
        self,
        spec: ContainerSpec,
        engine: Engine | None = None,
        *,
        artifact_uri: str | os.PathLike[str] | None = None,
        credential_path: str | os.PathLike[str] | None = None,
        host_port: int | None = None,
        gpus: Gpus | None = None,
        sealed: bool = False,
        ready_timeout_s: float = READY_TIMEOUT_S,
        ready_interval_s: float = READY_INTERVAL_S,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
        deployment: Deployment | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.spec = spec
        self.options = plan.Options(
            artifact_uri=None if artifact_uri is None else os.fspath(artifact_uri),
            credential_path=credential_path,
            host_port=host_port,
            gpus=gpus,
            sealed=sealed,
            deployment=deployment or Deployment(),
        )
        self.launch = contract.launch(spec, self.options.deployment)
        self.container: Container | None = None
        self.assigned_host_port = host_port
        self._engine = engine
        self._environ = environ
        self._ready_timeout_s = ready_timeout_s
        self._ready_interval_s = ready_interval_s
        self._request_timeout_s = request_timeout_s
        self._serving = False
        self._lines_printed = 0

    def __enter__(self) -> Self:
        self.serve()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def serving_container_predict_route(self) -> str:
        return self.launch.predict_route

    @property
    def serving_container_health_route(self) -> str:
        return self.launch.health_route

    @property
    def container_is_running(self) -> bool:
        """True while this endpoint serves and its container has not ended."""
        return self._serving and self.get_container_status() == "running"

    @property
    def url(self) -> str:
        """The address that reaches the container's first port. Raises RuntimeError unless it serves."""
        self._check_serving()
        return f"http://{probes.HOST}:{self.assigned_host_port}"

    def serve(self) -> None:
        """Start the container and wait until it may have traffic; a half start is undone.

        Raises ContainerError with the container's logs when it ends or never gets healthy, and ValueError
        for artifacts or a key that are not there.
        """
        if self._serving:
            _logger.warning("The local endpoint is serving already; there is no need to call serve() again.")
            return
        probes.check_ports(self.spec)
        engine = self._chosen_engine()
        planned = plan.make(self.spec, self.options, engine, self._environ)
        self.launch, self._lines_printed = planned.launch, 0
        self.container = engine.run(planned.run)
        try:
            self._wait_until_ready(self.container)
        except BaseException:
            self.stop()
            raise
        self._serving = True

    def stop(self) -> None:
        """End and remove the container. Safe to call twice."""
        self._serving = False
        if self.container is not None:
            self.container.remove()

    @overload
    def predict(
        self,
        request: Any = None,
        request_file: str | os.PathLike[str] | None = None,
        headers: Mapping[str, str] | None = None,
        verbose: bool = True,
    ) -> requests.Response: ...

    @overload
    def predict(
        self,
        *,
        instances: Sequence[Any],
        parameters: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        verbose: bool = True,
    ) -> Prediction: ...

    def predict(
        self,
        request: Any = None,
        request_file: str | os.PathLike[str] | None = None,
        headers: Mapping[str, str] | None = None,
        verbose: bool = True,
        *,
        instances: Sequence[Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> requests.Response | Prediction:
        """Ask as the SDK's LocalEndpoint (a request, a Response) or as its Endpoint (instances, a Prediction).

        With `instances`, an answer other than 200 raises PredictionError; with a request it is returned.
        """
        self._check_serving()
        _check_arguments(request, request_file, instances, parameters)
        if instances is None:
            return self._post(request if request_file is None else _file(request_file), headers, verbose)
        body = {"instances": instances} | ({} if parameters is None else {"parameters": parameters})
        return prediction.read(self._post(body, headers, verbose), self.options.deployment.deployed_model_id)

    def raw_predict(self, body: Any, headers: Mapping[str, str] | None = None) -> requests.Response:
        """The cloud's `Endpoint.raw_predict`: the body as it is, under the caller's own headers."""
        return self._post(body, headers, verbose=True)

    def raw(self, body: Any, content_type: str) -> requests.Response:
        return self.raw_predict(body, {"Content-Type": content_type})

    def run_health_check(self, verbose: bool = True) -> requests.Response:
        """GET the health route once."""
        url = self.url + self.launch.health_route
        return self._reported("health check", verbose, lambda: client.request("GET", url))

    def get_container_status(self) -> str:
        """`running`, `exited` or `removed`. Raises RuntimeError before the first `serve()`."""
        return self._started().status()

    def print_container_logs(self, show_all: bool = False, message: str | None = None) -> None:
        """Print what the container wrote since the last call, or all of it."""
        lines = self._started().logs().splitlines()
        if message is not None:
            print(message)
        for line in lines[0 if show_all else self._lines_printed :]:
            print(line)
        self._lines_printed = len(lines)

    def print_container_logs_if_container_is_not_running(
        self, show_all: bool = False, message: str | None = None
    ) -> None:
        if self.get_container_status() != "running":
            self.print_container_logs(show_all=show_all, message=message)

    def _chosen_engine(self) -> Engine:
        if self._engine is None:
            from cpr_kit.engine import choose

            self._engine = choose.choose().engine
        return self._engine

    def _wait_until_ready(self, container: Container) -> None:
        self.assigned_host_port = container.host_port
        probes.wait_until_ready(
            container,
            self.spec,
            self.launch,
            timeout_s=self._ready_timeout_s,
            interval_s=self._ready_interval_s,
        )

    def _check_serving(self) -> None:
        if not self._serving:
            raise RuntimeError("The local endpoint is not serving traffic. Please call `serve()`.")

    def _started(self) -> Container:
        if self.container is None:
            raise RuntimeError("The local endpoint has not started a container. Please call `serve()`.")
        return self.container

    def _post(self, body: Any, headers: Mapping[str, str] | None, verbose: bool) -> requests.Response:
        url = self.url + self.launch.predict_route
        return self._reported("prediction", verbose, lambda: client.send(url, body, headers, self._request_timeout_s))

    def _reported(self, what: str, verbose: bool, call: Callable[[], requests.Response]) -> requests.Response:
        """A connection that breaks is the container's doing, so its logs go with the error."""
        try:
            return call()
        except CprError as error:
            if verbose:
                _logger.warning("Exception during %s: %s", what, error)
            if not isinstance(error, ContainerError):
                raise
            container = self._started()
            cause = f"the container ended with exit code {container.exit_code()}" if _ended(container) else str(error)
            raise ContainerError(f"{cause} during the {what}", container.logs()) from error


def _ended(container: Container) -> bool:
    deadline = time.monotonic() + _NOTICE_S
    while container.status() == "running":
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _file(path: str | os.PathLike[str]) -> Path:
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"request_file does not exist: {file}.")
    return file


def _check_arguments(request: Any, request_file: Any, instances: Any, parameters: Any) -> None:
    given = sum(value is not None for value in (request, request_file, instances))
    if request is not None and request_file is not None:
        raise ValueError("request and request_file can not be specified at the same time.")
    if given > 1:
        raise ValueError("instances can not be specified together with request or request_file.")
    if given == 0:
        raise ValueError("One of request, request_file and instances needs to be specified.")
    if parameters is not None and instances is None:
        raise ValueError("parameters belong to instances; put them into the request itself.")
