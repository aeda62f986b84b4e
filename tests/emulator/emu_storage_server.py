"""The storage's application on a real socket, and the real client for it."""

import contextlib
import socket
import threading

import uvicorn

from cpr_kit.emulator.storage.api import application


class _Server(uvicorn.Server):
    def __init__(self, config):
        super().__init__(config)
        self.is_up = threading.Event()

    async def startup(self, sockets=None):
        await super().startup(sockets)
        self.is_up.set()


@contextlib.contextmanager
def serving(depot, **options):
    """The base URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(application(depot, **options), log_level="warning", lifespan="off")
        server = _Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        assert server.is_up.wait(30)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


def client_of(base, monkeypatch):
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    monkeypatch.setenv("STORAGE_EMULATOR_HOST", base)
    return storage.Client(project="p", credentials=AnonymousCredentials())
