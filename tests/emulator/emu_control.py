"""What the tests of the control plane share: an emulator on the process engine, a project of its own for each test,
and both transports. Import the fixtures that a file needs.

gRPC reads the roots that it trusts once in a program's life; all emulators of one program show the same authority.
"""

import sys
import uuid
from pathlib import Path

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import aiplatform

# The image contexts that both engines build belong to the engines' tests.
sys.path.insert(0, str(Path(__file__).parent.parent / "engine"))

from contexts import write_context

from cpr_kit.emulator.errors import Code
from cpr_kit.emulator.names import Projects
from cpr_kit.emulator.program import emulate
from cpr_kit.engine.choose import choose
from cpr_kit.engine.protocol import Build

IMAGE = "cpr-kit-tests/control:1"
LOCATION = "us-central1"
HOST = f"{LOCATION}-aiplatform.googleapis.com"
MACHINE = "n1-standard-2"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory):
    """The image is made before the environment is changed: within, package indexes are out of reach."""
    engine = choose("process").engine
    context = write_context(tmp_path_factory.mktemp("control") / "context")
    (context / "code" / "server.py").write_text((Path(__file__).parent / "serving_server.py").read_text())
    engine.build(Build(context=context, tag=IMAGE), lambda _: None)
    with emulate(engine=engine) as running:
        yield running


@pytest.fixture
def project():
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def number(project):
    """The project's number, which is in every name that comes out."""
    return Projects().number(project)


@pytest.fixture
def parent(project):
    return f"projects/{project}/locations/{LOCATION}"


@pytest.fixture
def numbered(number):
    return f"projects/{number}/locations/{LOCATION}"


@pytest.fixture(params=["grpc", "rest"])
def transport(request, emulator, project):
    """The high-level SDK is set to it and to a project of its own, whatever other tests have set."""
    aiplatform.init(project=project, location=LOCATION, api_transport=request.param)
    return request.param


@pytest.fixture
def client(transport):
    """Makes a generated client of a class, with no argument that knows of an emulator."""
    made = []

    def make(kind):
        made.append(kind(transport=transport, client_options={"api_endpoint": HOST}))
        return made[-1]

    yield make
    for each in made:
        each.transport.close()


@pytest.fixture
def models(client):
    return client(aiplatform.gapic.ModelServiceClient)


@pytest.fixture
def endpoints(client):
    return client(aiplatform.gapic.EndpointServiceClient)


@pytest.fixture
def jobs(client):
    return client(aiplatform.gapic.JobServiceClient)


def upload(display_name="iris", **options):
    return aiplatform.Model.upload(display_name=display_name, serving_container_image_uri=IMAGE, **options)


class refused:  # noqa: N801 - used as pytest.raises is
    """A block that ends with an error of this code, as the transport in use shows it, and these words in it."""

    def __init__(self, transport, code, *words):
        self.transport = transport
        self.code = Code[code]
        self.words = words

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        assert error is not None, f"{self.code.name} was expected"
        if not isinstance(error, exceptions.GoogleAPICallError):
            return False
        if self.transport == "grpc":
            assert error.grpc_status_code is getattr(grpc.StatusCode, self.code.name), error
        else:
            assert error.code == self.code.http_status, error
            assert type(error) is type(exceptions.from_http_status(error.code, "")), error
        for word in self.words:
            assert word in error.message, error
        return True


class failed(refused):  # noqa: N801 - as above
    """The same for the error that an operation ended with, which is of one class over both transports."""

    def __init__(self, code, *words):
        super().__init__("grpc", code, *words)
