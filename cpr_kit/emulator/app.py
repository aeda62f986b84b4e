"""The emulator itself: its parts put together, started in a thread of their own, and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from cpr_kit.emulator import catalogue, front, logs
from cpr_kit.emulator import faults as faults_on_demand
from cpr_kit.emulator.console import Call
from cpr_kit.emulator.errors import ApiError
from cpr_kit.emulator.faults import Faults
from cpr_kit.emulator.names import Projects
from cpr_kit.emulator.parts import Parts
from cpr_kit.emulator.proxy.certificates import ServerCertificate, authority
from cpr_kit.emulator.proxy.connect import Proxy
from cpr_kit.emulator.proxy.environment import Files, Images, variables
from cpr_kit.emulator.proxy.outside import Outside
from cpr_kit.emulator.proxy.ways import Ports
from cpr_kit.emulator.registry import Registry
from cpr_kit.emulator.settings import Settings
from cpr_kit.engine.protocol import Engine
from cpr_kit.engine.reaper import make_folder, remove_folder
from cpr_kit.errors import LackingError, UsageError

if TYPE_CHECKING:
    from typing_extensions import Self

HOST = "127.0.0.1"
PROJECT = "emulated-project"
_THREADS = 32
_BACKLOG = 2048
_GRACE_S = 2


class Emulator:
    """Serves inside a `with` block, or from `start` to `stop`.

    `state` keeps what there is in a file, and what is stored in a folder beside it, for the next emulator that gets
    the same file. `engine` may be a name: "docker", "process", "auto". `show` gets each call that was answered, `note`
    lines about anything else; both from other threads.
    Raises LackingError when no engine answers, ConfigError for an engine's name that is none, and UsageError for
    faults, a project or a state file that cannot be used.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        state: str | Path | None = None,
        engine: str | Engine | None = None,
        settings: Settings | None = None,
        project: str | None = None,
        allow_internet: bool = False,
        faults: str | Sequence[str] = (),
        show: Callable[[Call], None] | None = None,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.project = PROJECT if project is None else project
        check_project(self.project, "project")
        self._port = port
        self._state = None if state is None else Path(state)
        self._engine = engine
        self._settings = settings or Settings()
        texts = (faults,) if isinstance(faults, str) else faults
        self._faults = Faults(faults_on_demand.parse(text) for text in texts)
        self._outside = Outside.of() if allow_internet else None
        self._show = show
        self._note = note
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._files: Files | None = None
        self.logs = logs.folder()  # last: a refusal leaves nothing behind

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Plain mode: `api_endpoint` of aiplatform.init, with api_transport="rest"."""
        return f"http://{HOST}:{self._proxy.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs in its environment for its Google Cloud calls to come here."""
        assert self._files is not None
        return variables(
            proxy_url=self._proxy.url, plain_url=self.url, files=self._files, project=self.project, images=self._images
        )

    def start(self) -> None:
        """Returns once everything listens."""
        if self._thread is not None:
            raise RuntimeError("this emulator runs already")
        self._folder = make_folder("cpr-emulator-")
        started = threading.Event()
        failure: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, args=(started, failure), name="cpr-emulator", daemon=True)
        self._thread.start()
        started.wait()
        if failure:
            self._thread.join()
            self._thread = None
            self._clear()
            raise failure[0]

    def stop(self) -> None:
        """Ends what is going on, and every container. Safe to call twice."""
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = None
        self._clear()

    def _clear(self) -> None:
        remove_folder(self._folder)
        logs.close(self.logs)

    def _run(self, started: threading.Event, failure: list[BaseException]) -> None:
        loop = _new_loop()
        try:
            loop.run_until_complete(self._live(started))
        except BaseException as error:  # noqa: BLE001 - whoever started this thread gets it
            failure.append(error)
        finally:
            started.set()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    async def _live(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="cpr-emulator"))
        self._stopping = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            await self._open(stack)
            started.set()
            await self._stopping.wait()

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        """Everything in its order; the slow things beside each other."""
        await asyncio.to_thread(authority)  # which both of these need, and of which there is to be one
        table = asyncio.ensure_future(asyncio.to_thread(catalogue.load))
        files = asyncio.ensure_future(asyncio.to_thread(Files.write, self._folder, self.project))
        engine = await asyncio.to_thread(_choose, self._engine, self._note)
        images = Registry(self._beside("registry"), self._folder, self._note)
        stack.push_async_callback(asyncio.to_thread, images.close)
        certified = asyncio.ensure_future(asyncio.to_thread(ServerCertificate))
        listening = stack.enter_context(_listen(HOST, 0))
        plain_port = listening.getsockname()[1]
        for_containers, address = self._listen_for_containers(stack, engine, plain_port)
        parts = Parts(
            engine=engine,
            images=images,
            table=table,
            state=self._state,
            folder=self._folder,
            logs=self.logs,
            settings=self._settings,
            faults=self._faults,
            project=self.project,
            container_address=address,
            plain_url=lambda: self.url,
            show=self._show,
            note=self._note,
        )
        await stack.enter_async_context(parts)
        # The state has been opened: nothing is made beside a file that cannot be one.
        certificate, _ = await asyncio.gather(certified, asyncio.to_thread(images.start, engine))
        secure = stack.enter_context(_listen(HOST, 0))
        plain = await stack.enter_async_context(_serving(parts.front, listening))
        await stack.enter_async_context(_serving(parts.front, secure, certificate))
        if for_containers is not None:
            await stack.enter_async_context(_serving(parts.container_front, for_containers))
        grpc_port = await stack.enter_async_context(parts.grpc_server(certificate.grpc_credentials()))
        self._proxy = Proxy(
            port=self._port,
            ports=Ports(plain=plain_port, rest=secure.getsockname()[1], grpc=grpc_port),
            plain=plain,
            certificate=certificate,
            outside=self._outside,
            report=self._note,
            also=parts.is_private_address,
        )
        # Before anyone can ask: a call has to know of the operations that go on.
        await parts.resume()
        await _start(self._proxy)
        stack.push_async_callback(self._proxy.stop)
        self._files = await files
        self._images = Images(engine=engine.name, registry=images.address, programs=images.programs)
        parts.deployments.readdress()

    def _beside(self, name: str) -> Path:
        """A folder for what is kept as long as the state is."""
        return self._folder / name if self._state is None else self._state.with_name(f"{self._state.name}.{name}")

    def _listen_for_containers(
        self, stack: contextlib.AsyncExitStack, engine: Engine, plain_port: int
    ) -> tuple[socket.socket | None, str]:
        """Storage and metadata for containers that do not share this machine's loopback; the address as they see it."""
        try:
            where, seen_as = engine.listen_address(), engine.host_address()
        except LackingError as error:
            self._note(f"containers cannot reach the emulator's storage: {error}")
            return None, ""
        if seen_as == HOST:
            return None, f"{seen_as}:{plain_port}"
        # Docker Desktop's containers come to 127.0.0.1 too, but say host.docker.internal: a host that only the front
        # for containers takes.
        listening = stack.enter_context(_listen(where, 0))
        return listening, f"{seen_as}:{listening.getsockname()[1]}"


def check_project(project: str, source: str) -> None:
    """Raises UsageError, which names `source`, for what is neither a project's id nor its number."""
    try:
        Projects().number(project)
    except ApiError as error:
        raise UsageError(
            f'{source} "{project}": it is no project id, which has lower case letters, digits and hyphens'
        ) from error


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def _choose(wanted: str | Engine | None, note: Callable[[str], None]) -> Engine:
    from cpr_kit.engine import choose

    if wanted is not None and not isinstance(wanted, str):
        return wanted
    choice = choose.choose(wanted)
    if choice.engine.name not in ("docker", wanted):  # the one that was not asked for
        note(choice.reason)
    return choice.engine


def _listen(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    listening.listen(_BACKLOG)
    listening.setblocking(False)
    return listening


async def _start(proxy: Proxy) -> None:
    try:
        await proxy.start()
    except OSError as error:
        raise UsageError(
            f"port {proxy.port} on {HOST} cannot be had ({os.strerror(error.errno or 0)}); give another one, or none"
        ) from error


def _abortable(kind: Any) -> Any:
    """Uvicorn's protocol, with what ends its connection in each request's scope."""

    class Abortable(kind):  # type: ignore[misc]
        def on_message_begin(self) -> None:
            super().on_message_begin()
            self.scope[front.ABORT] = self.transport.abort

    return Abortable


@contextlib.asynccontextmanager
async def _serving(app: Any, listening: socket.socket, certificate: ServerCertificate | None = None) -> Any:
    """A uvicorn server on a socket that listens already; gives what makes the protocol of one connection."""
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    config.load()
    config.http_protocol_class = _abortable(config.http_protocol_class)
    if certificate is not None:
        config.ssl = certificate.context
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listening])
    kind: Any = config.http_protocol_class
    ticking = asyncio.ensure_future(server.main_loop())
    try:
        yield lambda: kind(config=config, server_state=server.server_state, app_state=server.lifespan.state)
    finally:
        ticking.cancel()
        await asyncio.wait({ticking})
        await server.shutdown(sockets=[listening])
