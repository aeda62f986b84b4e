"""What the tests of the emulator's state share: an emulator as a program of its own that can be killed, calls in plain
mode over HTTP, a gate that model servers wait at, and the containers that there are, however they came to be.
"""

import contextlib
import json
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# The image contexts that both engines build belong to the engines' tests.
sys.path.insert(0, str(Path(__file__).parent.parent / "engine"))

import forks
from contexts import write_context

from cpr_kit.cli.main import main
from cpr_kit.engine.protocol import LABEL, Build

PARENT = "projects/test-project/locations/us-central1"
IMAGE = "cpr-kit-tests/state:1"
BATCH_IMAGE = "cpr-kit-tests/state-batch:1"
_SERVERS = {IMAGE: "serving_server.py", BATCH_IMAGE: "emu_model_server.py"}
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
_LONG_S = 60


def build(engine, folder):
    for tag, server in _SERVERS.items():
        context = write_context(folder / server.removesuffix(".py"))
        (context / "code" / "server.py").write_text((Path(__file__).parent / server).read_text())
        engine.build(Build(context=context, tag=tag), lambda _: None)


class Refused(Exception):
    def __init__(self, status, message):
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class Api:
    """Calls over REST in plain mode, each with the answer's JSON. Raises Refused."""

    def __init__(self, url):
        self.url = url

    def send(self, verb, path, data=b"", kind="application/json"):
        request = urllib.request.Request(f"{self.url}{path}", data or None, {"Content-Type": kind}, method=verb)
        try:
            with _open(request, timeout=_LONG_S) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode()
            raise Refused(error.code, text) from None

    def call(self, verb, path, **body):
        data = json.dumps(body).encode() if verb in ("POST", "PATCH") else b""
        return json.loads(self.send(verb, f"/v1/{path}", data) or b"{}")

    def get(self, path):
        return self.call("GET", path)

    def ended(self, operation):
        """The operation once it has ended, and a failure of the test when it never does."""
        name = operation["name"]
        deadline = time.monotonic() + _LONG_S
        while not (found := self.get(name)).get("done"):
            assert time.monotonic() < deadline, f"{name} has not ended"
            time.sleep(0.02)
        return found

    def is_done(self, operation):
        """As it is now; GetOperation would wait for the end."""
        resource = operation["name"].partition("/operations/")[0]
        listed = self.get(f"{resource}/operations").get("operations", [])
        return next(each.get("done", False) for each in listed if each["name"] == operation["name"])

    def result(self, operation):
        found = self.ended(operation)
        assert "error" not in found, found
        return found["response"]

    def write(self, uri, data):
        bucket, _, name = uri.removeprefix("gs://").partition("/")
        with contextlib.suppress(Refused):  # it is there
            self.send("POST", "/storage/v1/b?project=test-project", json.dumps({"name": bucket}).encode())
        self.send("POST", f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}", data, "text/plain")

    def is_holding(self, identity):
        """Whether the first replica of a deployed model has been asked to hold a request."""
        logs = Path(json.loads(self.send("GET", "/emulator/"))["logs"])
        return any("held" in log.read_text() for log in logs.glob(f"*{identity}-0.log"))

    def fault(self, text):
        self.send("POST", "/emulator/faults", json.dumps(text).encode())

    def read(self, uri):
        bucket, _, name = uri.removeprefix("gs://").partition("/")
        name = urllib.request.quote(name, safe="")
        return self.send("GET", f"/storage/v1/b/{bucket}/o/{name}?alt=media")

    def names(self, uri):
        bucket, _, prefix = uri.removeprefix("gs://").partition("/")
        found = json.loads(self.send("GET", f"/storage/v1/b/{bucket}/o?prefix={prefix}"))
        return [each["name"].removeprefix(prefix) for each in found.get("items", [])]

    # The calls that many tests make

    def upload(self, *, image=IMAGE, parent=PARENT, env=None, **fields):
        """The operation. `env` is the container's; other fields are the request's, and `model` the model's."""
        entries = [{"name": name, "value": value} for name, value in (env or {}).items()]
        container = {"imageUri": image, "env": entries, "deploymentTimeout": "600s"}
        model = {"displayName": "iris", "containerSpec": container, **fields.pop("model", {})}
        return self.call("POST", f"{parent}/models:upload", model=model, **fields)

    def uploaded(self, **fields):
        return self.result(self.upload(**fields))["model"]

    def created(self, **endpoint):
        operation = self.call("POST", f"{PARENT}/endpoints", displayName="iris", **endpoint)
        return self.result(operation)["name"]

    def deploy(self, endpoint, model, *, split=None, replicas=1, **deployed):
        resources = {"machineSpec": {"machineType": "n1-standard-2"}, "minReplicaCount": replicas}
        deployed = {"model": model, "dedicatedResources": resources, **deployed}
        return self.call("POST", f"{endpoint}:deployModel", deployedModel=deployed, trafficSplit=split or {})

    def deployed(self, endpoint, model, **options):
        return self.result(self.deploy(endpoint, model, **options))["deployedModel"]["id"]

    def undeploy(self, endpoint, identity, split=None):
        return self.call("POST", f"{endpoint}:undeployModel", deployedModelId=identity, trafficSplit=split or {})

    def mutate(self, endpoint, identity, replicas):
        resources = {"minReplicaCount": replicas, "maxReplicaCount": max(replicas, 2)}
        return self.call(
            "POST",
            f"{endpoint}:mutateDeployedModel",
            deployedModel={"id": identity, "dedicatedResources": resources},
            updateMask="dedicatedResources.minReplicaCount,dedicatedResources.maxReplicaCount",
        )

    def ask(self, endpoint, **body):
        return json.loads(self.send("POST", f"/v1/{endpoint}:rawPredict", json.dumps(body).encode()))

    def answers(self, endpoint, **body):
        """Once it does: a deployed model is being started again."""
        return wait_for(lambda: self._answer(endpoint, body))

    def _answer(self, endpoint, body):
        try:
            return self.ask(endpoint, **body)
        except Refused as refused:
            assert refused.status == 503, refused
            return None


def wait_for(check, timeout_s=_LONG_S):
    deadline = time.monotonic() + timeout_s
    while not (found := check()):
        assert time.monotonic() < deadline, f"still not true after {timeout_s} s"
        time.sleep(0.02)
    return found


def _run(words, environ, output, errors):
    """In a child: `cpr` with these words, in a session of its own."""
    os.setsid()
    forks.become(words, environ)
    os.dup2(output.fileno(), 1)
    output.close()
    with errors.open("ab") as file:
        os.dup2(file.fileno(), 2)
    main()


class Program:
    """`cpr emulate --state FILE` as a program of its own; again and again with the same file."""

    def __init__(self, engine, state):
        self.engine = engine
        self.state = state
        self.process = None

    def start(self, *arguments):
        words = ["emulate", "--engine", self.engine, "--state", str(self.state), "--json", "--set", "max_replicas=3"]
        ours = ("GOOGLE_", "AIP_", "CLOUDSDK_")
        environ = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        context, errors = forks.context(), self.state.with_suffix(".err")
        reading, writing = context.Pipe(duplex=False)
        with writing:
            self.process = context.Process(target=_run, args=([*words, *arguments], environ, writing, errors))
            self.process.start()
        self._said = reading
        with os.fdopen(os.dup(reading.fileno()), "rb") as said:
            line = said.readline()
        assert line, errors.read_text()
        return Api(json.loads(line)["url"])

    def kill(self, *, reaper=False):
        """SIGKILL; with `reaper`, of all that guards what it started too."""
        if reaper:
            for pid in self._reapers():
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self._gone()

    def stop(self):
        self.process.terminate()
        self._gone()

    def end(self):
        if self.process is not None and self.process.is_alive():
            self.stop()

    def _gone(self):
        self.process.join(60)
        assert self.process.exitcode is not None
        self._said.close()

    def _reapers(self):
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                    if parent == self.process.pid and b"engine.reaper" in (folder / "cmdline").read_bytes():
                        yield int(folder.name)


class Marked:
    """The containers, or processes, of models whose environment has this mark."""

    def __init__(self, engine):
        self.engine = engine
        self.env = {"MARK": uuid.uuid4().hex}

    def all(self):
        return self._containers() if self.engine == "docker" else self._processes()

    def count(self, number):
        """Waits until there are so many: what a killed program left goes a moment later."""
        wait_for(lambda: len(self.all()) == number)

    def _containers(self):
        import docker

        with contextlib.closing(docker.from_env()) as client:
            found = client.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True)
            return [each.id for each in found if f"MARK={self.env['MARK']}" in each.attrs["Config"]["Env"]]

    def _processes(self):
        mark = f"MARK={self.env['MARK']}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in path.read_bytes().split(b"\0"):
                    found.append(path.parent.name)
        return found


@contextlib.contextmanager
def gate(engine):
    """A URL that whoever asks it waits at: the first `free` pass, the others once `go_on` is set; `come` says one is
    there. Its `env` makes a model's server ask before it listens.
    """

    class Gate(BaseHTTPRequestHandler):
        free = 0
        asked = 0
        come = threading.Event()
        go_on = threading.Event()

        def do_GET(self):
            Gate.asked += 1
            if Gate.asked > Gate.free:
                Gate.come.set()
                Gate.go_on.wait()
            with contextlib.suppress(OSError):  # who asked may be gone
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

        def log_message(self, *words):
            pass

    with ThreadingHTTPServer((engine.listen_address(), 0), Gate) as server:
        Gate.url = f"http://{engine.host_address()}:{server.server_port}"
        Gate.env = {"TURNS": Gate.url}
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Gate
        finally:
            Gate.go_on.set()
            server.shutdown()
            thread.join()
