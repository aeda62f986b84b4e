"""Google's other hosts, asked by google-auth, gcloud and the Resource Manager's own client."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import threading

import grpc
import pytest
import requests
import uvicorn

from cpr_kit.emulator.errors import invalid_argument
from cpr_kit.emulator.proxy import google, tokens
from cpr_kit.emulator.proxy.certificates import ServerCertificate
from cpr_kit.emulator.proxy.connect import Proxy
from cpr_kit.emulator.proxy.environment import Files, variables
from cpr_kit.emulator.proxy.projects import Projects
from cpr_kit.emulator.proxy.ways import Ports

PROJECT, NUMBER = "my-proj", "123456789012"
EMAIL = f"emulator@{PROJECT}.iam.gserviceaccount.com"


def number_of(project):
    if not project.replace("-", "").isalnum():
        raise invalid_argument(f'"{project}" is no project id')
    return project if project.isdigit() else NUMBER


def id_of(project):
    return PROJECT if project == NUMBER else project


def listening():
    """asyncio sets TCP_NODELAY only where the protocol is named."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    return sock


class Served:
    """The app behind the proxy, as the emulator has it: with TLS and without, and gRPC beside it."""

    async def start(self):
        certificate = ServerCertificate()
        inner = google.application(number_of, id_of=id_of, project=PROJECT)

        async def app(scope, receive, send):
            if google.serves(scope):
                self.asked.append(f"{scope['method']} {dict(scope['headers'])[b'host'].decode()}{scope['path']}")
                await inner(scope, receive, send)
            else:
                await send({"type": "http.response.start", "status": 418, "headers": []})
                await send({"type": "http.response.body", "body": b"elsewhere"})

        self.asked, self._tasks, self._servers = [], [], []
        plain, rest = await self._serve(app, None), await self._serve(app, certificate.context)
        self._grpc = grpc.aio.server()
        self._grpc.add_generic_rpc_handlers((Projects(number_of, id_of),))
        grpc_port = self._grpc.add_secure_port("127.0.0.1:0", certificate.grpc_credentials())
        await self._grpc.start()
        self.proxy = Proxy(ports=Ports(plain=plain, rest=rest, grpc=grpc_port), certificate=certificate)
        await self.proxy.start()
        self.plain_url = f"http://127.0.0.1:{plain}"

    async def _serve(self, app, context):
        config = uvicorn.Config(app, log_level="warning", lifespan="off")
        config.load()
        config.ssl = context
        sock = listening()
        self._servers.append(uvicorn.Server(config))
        self._tasks.append(asyncio.ensure_future(self._servers[-1].serve(sockets=[sock])))
        return sock.getsockname()[1]

    async def stop(self):
        await self.proxy.stop()
        await self._grpc.stop(0)
        for server in self._servers:
            server.should_exit = True
        await asyncio.gather(*self._tasks)


@pytest.fixture(scope="module")
def served():
    served, loop = Served(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(served.start(), loop).result(30)
    yield served
    asyncio.run_coroutine_threadsafe(served.stop(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Files.write(tmp_path_factory.mktemp("emulator"), PROJECT)


@pytest.fixture
def environ(served, files, tmp_path):
    named = variables(proxy_url=served.proxy.url, plain_url=served.plain_url, files=files)
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CLOUDSDK_CONFIG": str(tmp_path / "gcloud"), **named}


@pytest.fixture
def run(environ):
    """run(code) -> what the program printed as JSON; a warning fails it."""

    def start(code, **changes):
        command = [sys.executable, "-W", "error::UserWarning", "-c", "import json, google.auth\n" + code]
        done = subprocess.run(command, env={**environ, **changes}, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert not done.stderr
        return json.loads(done.stdout)

    return start


@pytest.fixture
def ask(served, files):
    with requests.Session() as session:
        session.trust_env, session.verify = False, str(files.bundle)
        through = {"https": served.proxy.url, "http": served.proxy.url}
        yield lambda method, url, **values: session.request(
            method, url, proxies={} if url.startswith(served.plain_url) else through, **values
        )


# ---- google-auth


def test_default_credentials_are_a_service_account_that_refreshes(run, served):
    served.asked.clear()
    said = run("""
import logging; logging.basicConfig(level="WARNING")
from google.auth.transport.requests import Request
credentials, project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
credentials.refresh(Request())
print(json.dumps([project, credentials.service_account_email, credentials.valid, credentials.token]))
""")
    assert said[:3] == [PROJECT, EMAIL, True]
    assert tokens.read_access_token(said[3])["email"] == EMAIL
    assert "POST oauth2.googleapis.com/token" in served.asked


def test_a_session_of_google_auth_asks_for_its_boundary_in_silence(run, served):
    served.asked.clear()
    said = run("""
import logging; logging.basicConfig(level="INFO")
from google.auth.transport.requests import AuthorizedSession
credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
with AuthorizedSession(credentials) as session:
    answer = session.get("https://us-central1-aiplatform.googleapis.com/v1/x")
print(json.dumps([answer.status_code, answer.text]))
""")
    assert said == [418, "elsewhere"]


def test_identity_tokens_of_a_service_account(run):
    said = run("""
import os
from google.auth import jwt
from google.auth.transport.requests import Request
from google.oauth2 import id_token, service_account
path = os.environ["GOOGLE_APPLICATION_CREDENTIALS"]
credentials = service_account.IDTokenCredentials.from_service_account_file(path, target_audience="https://me")
credentials.refresh(Request())
print(json.dumps([jwt.decode(credentials.token, verify=False), credentials.valid,
                  jwt.decode(id_token.fetch_id_token(Request(), "https://you"), verify=False)["aud"]]))
""")
    assert said[0]["aud"] == "https://me" and said[0]["email"] == EMAIL and said[1:] == [True, "https://you"]


def test_credentials_of_a_machine_in_google_cloud(run):
    said = run("""
from google.auth import compute_engine, jwt
from google.auth.compute_engine import _metadata
from google.auth.transport.requests import Request
import google.auth.transport._http_client as plain
credentials, project = google.auth.default()
assert isinstance(credentials, compute_engine.Credentials), credentials
request = plain.Request()
assert _metadata.ping(request)
credentials.refresh(request)
identity = compute_engine.IDTokenCredentials(request, "https://me", use_metadata_identity_endpoint=True)
identity.refresh(request)
print(json.dumps([project, credentials.service_account_email, credentials.valid, credentials.universe_domain,
                  jwt.decode(identity.token, verify=False)["aud"]]))
""", GOOGLE_APPLICATION_CREDENTIALS="")  # fmt: skip
    assert said == [PROJECT, EMAIL, True, "googleapis.com", "https://me"]


def test_impersonated_and_federated_and_user_credentials(run):
    said = run("""
import tempfile
from google.auth import identity_pool, impersonated_credentials, jwt
from google.auth.transport.requests import Request
from google.oauth2 import credentials as user
scopes = ["https://www.googleapis.com/auth/cloud-platform"]
source, _ = google.auth.default(scopes=scopes)
other = impersonated_credentials.Credentials(source, "you@x.iam.gserviceaccount.com", scopes, lifetime=600)
other.refresh(Request())
identity = impersonated_credentials.IDTokenCredentials(other, target_audience="https://me", include_email=True)
identity.refresh(Request())
mine = user.Credentials(None, refresh_token="r", client_id="c", client_secret="s",
                        token_uri="https://oauth2.googleapis.com/token")
mine.refresh(Request())
with tempfile.NamedTemporaryFile("w") as file:
    print("subject", file=file, flush=True)
    pool = identity_pool.Credentials(
        "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
        "urn:ietf:params:oauth:token-type:jwt", "https://sts.googleapis.com/v1/token",
        credential_source={"file": file.name}, scopes=scopes)
    pool.refresh(Request())
print(json.dumps([other.token, jwt.decode(identity.token, verify=False)["email"], mine.token, pool.token,
                  [c.valid for c in (other, mine, pool)]]))
""")
    assert tokens.read_access_token(said[0])["email"] == "you@x.iam.gserviceaccount.com"
    assert said[1] == "you@x.iam.gserviceaccount.com"
    assert tokens.read_access_token(said[2]) and tokens.read_access_token(said[3])
    assert said[4] == [True] * 3


def test_the_resource_managers_own_client_over_grpc(run):
    said = run(
        """
from google.cloud.aiplatform.utils import resource_manager_utils as utils
print(json.dumps([utils.get_project_id("%s"), utils.get_project_number("%s")]))
"""
        % (NUMBER, PROJECT)
    )
    assert said == [PROJECT, NUMBER]


@pytest.mark.skipif(not shutil.which("gcloud"), reason="gcloud is not installed")
def test_gcloud_itself(environ, tmp_path):
    def gcloud(*arguments):
        done = subprocess.run(["gcloud", *arguments], env=environ, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert tokens.read_access_token(gcloud("auth", "print-access-token"))["email"] == EMAIL
    assert gcloud("projects", "describe", PROJECT, "--format=value(projectNumber)") == NUMBER


# ---- the answers themselves


def test_what_the_token_route_refuses(ask):
    def said(**fields):
        answer = ask("POST", "https://oauth2.googleapis.com/token", data=fields)
        return answer.status_code, answer.json()["error"]

    bearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"
    assert said() == (400, "unsupported_grant_type")
    assert said(grant_type="password") == (400, "unsupported_grant_type")
    assert said(grant_type="refresh_token") == (400, "invalid_request")
    for assertion in ("", "x", "a.b.c", "a.e30.c", "a.WzFd.c", "a.\xff.c"):
        assert said(grant_type=bearer, assertion=assertion) == (400, "invalid_grant")
    assert ask("GET", "https://oauth2.googleapis.com/token").json()["error"]["code"] == 405
    nothing = ask("POST", "https://oauth2.googleapis.com/nothing").json()["error"]
    assert (nothing["code"], nothing["status"]) == (404, "UNIMPLEMENTED")


def test_tokens_tell_what_they_are(ask):
    fields = {"grant_type": "refresh_token", "refresh_token": "r", "client_id": "c"}
    got = ask("POST", "https://oauth2.googleapis.com/token", json=fields).json()
    for host in ("https://oauth2.googleapis.com", "https://www.googleapis.com/oauth2/v3"):
        said = ask("GET", f"{host}/tokeninfo", params={"access_token": got["access_token"]}).json()
        assert said["email"] == EMAIL and 3500 < int(said["expires_in"]) <= 3600
    assert ask("GET", f"{host}/tokeninfo", params={"id_token": got["id_token"]}).json()["aud"] == "c"
    assert ask("GET", f"{host}/tokeninfo", params={"access_token": "ya29.other"}).status_code == 400
    headers = {"Authorization": f"Bearer {got['access_token']}"}
    assert ask("GET", "https://openidconnect.googleapis.com/v1/userinfo", headers=headers).json()["email"] == EMAIL
    assert tokens.read_access_token(tokens.access_token(EMAIL, lifetime_s=-1)) is None


@pytest.mark.parametrize("host", ["http://metadata.google.internal", "http://169.254.169.254", "plain"])
def test_metadata(served, ask, host):
    base = (served.plain_url if host == "plain" else host) + "/computeMetadata/v1"
    flavour = {"Metadata-Flavor": "Google"}

    def get(path, **headers):
        answer = ask("GET", base + path, headers={**flavour, **headers})
        assert answer.headers["Metadata-Flavor"] == "Google"
        return answer

    assert get("/project/project-id").text == PROJECT
    assert get("/project/numeric-project-id").text == NUMBER
    assert get("/instance/zone").text == f"projects/{NUMBER}/zones/us-central1-a"
    assert get("/instance/region").text == f"projects/{NUMBER}/regions/us-central1"
    assert get("/instance/service-accounts/").text == f"default/\n{EMAIL}/\n"
    assert get("/instance/service-accounts/default/email").text == EMAIL
    assert get(f"/instance/service-accounts/{EMAIL}/token").json()["token_type"] == "Bearer"
    assert set(get("/instance/?recursive=true").json()["serviceAccounts"]) == {"default", EMAIL}
    assert get("/instance/service-accounts/default/identity").status_code == 400
    for path in ("/nothing", "/project/project-id/x", "/instance/service-accounts/you@x.com/token"):
        assert get(path).status_code == 404
    assert get("/project/project-id", **{"X-Forwarded-For": "1.2.3.4"}).status_code == 403
    assert ask("GET", f"{base}/instance/service-accounts/default/token").status_code == 403


def test_only_a_client_that_knows_metadata_finds_it_at_the_root(served, ask):
    assert ask("GET", served.plain_url + "/", headers={"Metadata-Flavor": "Google"}).text == "computeMetadata/\n"
    assert ask("GET", served.plain_url + "/").status_code == 418
    assert ask("GET", "https://www.googleapis.com/storage/v1/b").status_code == 418


def test_projects_over_rest(ask):
    for name in (PROJECT, NUMBER):
        said = ask("GET", f"https://cloudresourcemanager.googleapis.com/v1/projects/{name}").json()
        assert (said["projectId"], said["projectNumber"]) == (PROJECT, NUMBER)
        said = ask("GET", f"https://cloudresourcemanager.googleapis.com/v3/projects/{name}").json()
        assert (said["projectId"], said["name"]) == (PROJECT, f"projects/{NUMBER}")
    refused = ask("GET", "https://cloudresourcemanager.googleapis.com/v3/projects/a%20b")
    assert (refused.status_code, refused.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_what_iam_refuses(ask):
    base = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/you@x.com"

    def said(method, **body):
        answer = ask("POST", f"{base}:{method}", json=body)
        return answer.status_code, answer.json()["error"]["status"]

    assert said("generateAccessToken") == (400, "INVALID_ARGUMENT")
    assert said("generateAccessToken", scope=["x"], lifetime="1d") == (400, "INVALID_ARGUMENT")
    assert said("generateAccessToken", scope=["x"], lifetime="99999s") == (400, "INVALID_ARGUMENT")
    assert said("generateIdToken") == (400, "INVALID_ARGUMENT")
    assert said("signBlob", payload="eA==") == (501, "UNIMPLEMENTED")
    assert ask("POST", f"{base}:generateIdToken", data="[1]").status_code == 400
    assert ask("POST", f"{base}:generateIdToken", data="no json").status_code == 400
    assert ask("GET", f"{base}/allowedLocations").json() == {"locations": [], "encodedLocations": "0x0"}
