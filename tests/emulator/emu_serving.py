"""What the tests of serving share: the test server's image, and deployed models of it that leave nothing behind.

Import the fixtures that a file needs.
"""

import contextlib
import json
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

# The image contexts that both engines build belong to the engines' tests.
sys.path.insert(0, str(Path(__file__).parent.parent / "engine"))

from contexts import write_context

from cpr_kit.contract import ContainerSpec, Deployment
from cpr_kit.emulator.errors import ApiError, Code
from cpr_kit.emulator.serving import launching
from cpr_kit.emulator.serving.deployed import DeployedContainer
from cpr_kit.emulator.serving.launching import Placement
from cpr_kit.engine.protocol import LABEL, Build

TAG = "cpr-kit-tests/serving:1"


@pytest.fixture(scope="module")
def image(engine, tmp_path_factory):
    context = write_context(tmp_path_factory.mktemp("serving") / "context")
    script = Path(__file__).parent / "serving_server.py"
    (context / "code" / "server.py").write_text(script.read_text())
    yield engine.build(Build(context=context, tag=TAG), lambda _: None)
    engine.remove_image(TAG)


class Recording:
    """A real engine that remembers the containers it started."""

    def __init__(self, engine):
        self._engine = engine
        self.containers = []
        self.restarted = []

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def run(self, run):
        container = self._engine.run(run)
        restart = container.restart

        def recorded():
            self.restarted.append(container)
            restart()

        container.restart = recorded
        self.containers.append(container)
        return container

    def left(self):
        return [container for container in self.containers if container.status() != "removed"]


@pytest.fixture
def engine_used(engine):
    return Recording(engine)


@pytest.fixture
def lines():
    return []


@pytest.fixture
def place(engine_used, image, tmp_path, lines):
    """Makes a deployed model of the test server; whatever it started is gone afterwards, and its threads too."""
    made = []

    def make(*, replicas=1, required=None, timeout_s=60.0, resolve=None, extra_env=None, **spec):
        placement = Placement(
            spec=ContainerSpec.kit(**{"image_uri": image.reference, **spec}),
            deployment=Deployment(endpoint_id="5", deployed_model_id="77"),
            display_name="iris",
            replicas=replicas,
            required=replicas if required is None else required,
            timeout_s=timeout_s,
            logs=tmp_path / "logs",
            extra_env=extra_env or {},
        )
        options = {"resolve": resolve} if resolve else {}
        made.append(DeployedContainer(placement, engine_used, report=lines.append, **options))
        return made[-1]

    yield make
    for deployed in made:
        deployed.stop(0)
    assert not engine_used.left()
    assert not [t.name for t in threading.enumerate() if t.name.startswith(("cpr-replica", "cpr-log", "cpr-end"))]
    assert not launching._taken
    if engine_used.name == "docker":
        session = {"label": f"{LABEL}={engine_used.session}"}
        ids = {each.id for each in engine_used.containers}
        assert not ids & {each.id for each in engine_used._client.containers.list(all=True, filters=session)}


@pytest.fixture
def turns(engine):
    """The URL that servers ask before they listen; the first `free` of them are answered at once."""

    class Turns(BaseHTTPRequestHandler):
        free = 0
        asked = 0
        come = threading.Event()
        go_on = threading.Event()

        def do_GET(self):
            Turns.asked += 1
            if Turns.asked > Turns.free:
                Turns.come.set()
                Turns.go_on.wait()
            with contextlib.suppress(OSError):  # its container may be gone
                self.send_response(200)
                self.end_headers()

        def log_message(self, *words):
            pass

    with ThreadingHTTPServer((engine.listen_address(), 0), Turns) as server:
        Turns.env = {"TURNS": f"http://{engine.host_address()}:{server.server_port}"}
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Turns
        Turns.go_on.set()
        server.shutdown()
        thread.join()


def ask(replica, **request):
    """A request as the data path makes it: counted, with a report when the connection breaks."""
    url = f"{replica.base_url}{replica.predict_route}"
    with replica.busy():
        try:
            with urllib.request.urlopen(url, json.dumps(request).encode(), timeout=30) as response:
                return json.loads(response.read())["predictions"][0]
        except OSError:
            replica.failed()
            raise


def wait_for(check, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not (found := check()):
        assert time.monotonic() < deadline, f"still not true after {timeout_s} s"
        time.sleep(0.02)
    return found


def refused(deployed):
    with pytest.raises(ApiError) as caught:
        deployed.start()
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert deployed.choose() is None
    return str(caught.value)
