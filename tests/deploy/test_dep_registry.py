"""The registry protocol against Debian's docker-registry: what is there, who may write, and what is said if not."""

import contextlib
import json
import stat
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from dep_registry import PASSWORD, USER, digest_of, log_in, put, put_index, served_digest, serving

from cpr_kit.deploy.registry import check, credentials
from cpr_kit.deploy.registry.client import Client
from cpr_kit.deploy.registry.names import Name, aimed, asked_at
from cpr_kit.deploy.registry.remote import Remote, located, remote
from cpr_kit.deploy.registry.transport import Transport
from cpr_kit.engine.process import ProcessEngine
from cpr_kit.errors import ConfigError, RegistryError, UsageError

DIGEST = "sha256:" + "0" * 64
HOST = "us-central1-docker.pkg.dev"


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def nobody(tmp_path, monkeypatch):
    """A machine on which nobody is logged in anywhere."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG", "CPR_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    return tmp_path


@pytest.mark.parametrize(
    ("reference", "host", "repository", "version"),
    [
        (f"{HOST}/p/r/iris:1", HOST, "p/r/iris", "1"),
        (f"{HOST}/p/r/iris", HOST, "p/r/iris", "latest"),
        (f"{HOST}/p/r/iris:1@{DIGEST}", HOST, "p/r/iris", DIGEST),
        ("127.0.0.1:5000/iris:2", "127.0.0.1:5000", "iris", "2"),
        ("localhost/iris", "localhost", "iris", "latest"),
        ("python:3.11-slim", "docker.io", "library/python", "3.11-slim"),
        ("someone/iris", "docker.io", "someone/iris", "latest"),
    ],
)
def test_a_name_is_read_as_docker_reads_it(reference, host, repository, version):
    name = Name.parse(reference)
    assert (name.host, name.repository, name.version) == (host, repository, version)


@pytest.mark.parametrize("reference", ["", "a/B", f"{HOST}/p/r/i:", f"{HOST}/p/r/i@sha256:12", f"https://{HOST}/p/i"])
def test_what_is_no_name_is_said(reference):
    with pytest.raises(ConfigError, match="is no image"):
        Name.parse(reference) if reference != f"{HOST}/p/r/i:" else Name.parse(f"{HOST}/p/r/i:-")


def test_only_this_machine_is_asked_without_tls():
    urls = {
        host: Name.parse(f"{host}/i").url.partition(":")[0]
        for host in (
            "127.0.0.1:5000",
            "127.9.9.9",
            "localhost:80",
            "[::1]:5000",
            HOST,
            "10.0.0.1:5000",
            "localhost.evil.com",
        )
    }
    assert [host for host, scheme in urls.items() if scheme == "http"] == [
        "127.0.0.1:5000",
        "127.9.9.9",
        "localhost:80",
        "[::1]:5000",
    ]


@pytest.mark.parametrize(
    ("to", "found"),
    [
        ("europe-west4-docker.pkg.dev/p/r", "europe-west4-docker.pkg.dev/p/r/iris:1"),
        ("europe-west4-docker.pkg.dev/p/r/flower", "europe-west4-docker.pkg.dev/p/r/flower:1"),
        ("127.0.0.1:5000/team/", "127.0.0.1:5000/team/iris:1"),
        ("127.0.0.1:5000/flower:2", "127.0.0.1:5000/flower:2"),
    ],
)
def test_a_repository_gets_the_images_own_name(to, found):
    assert aimed(to, f"{HOST}/p/r/iris:1") == found


def test_a_target_without_a_registry_is_refused():
    with pytest.raises(ConfigError, match="names no registry"):
        aimed("serving/iris", "iris:1")


def test_what_a_registry_has_is_described(registry):
    manifest = put(registry.name("described:1"), layers=(b"one", b"three"))
    found = remote(registry.name("described:1"))
    config = json.loads(manifest.body)["config"]
    assert found == Remote(
        reference=registry.name("described:1"),
        digest=served_digest(registry.name("described:1")),
        config=config["digest"],
        platforms=("linux/amd64",),
        size=config["size"] + 8,
    )
    assert remote(f"{registry.address}/described@{found.digest}").digest == found.digest


def test_what_a_registry_lacks_is_none(registry):
    put(registry.name("lacking:1"))
    assert remote(registry.name("lacking:2")) is None
    assert remote(registry.name("no/such/repository:1")) is None
    assert remote(f"{registry.address}/lacking@{DIGEST}") is None


def test_an_index_is_known_by_its_own_digest_and_by_the_image_for_amd64(registry):
    index = put_index(registry.name("several:1"))
    found = remote(registry.name("several:1"))
    assert (found.digest, found.platforms) == (index.digest, ("linux/amd64", "linux/arm64"))
    assert found.config == digest_of(json.dumps({"os": "linux", "architecture": "amd64"}).encode())
    assert found.size > 0


def test_an_index_without_amd64_says_so(registry):
    put_index(registry.name("arm:1"), architectures=("arm64",))
    found = remote(registry.name("arm:1"))
    assert (found.config, found.platforms) == ("", ("linux/arm64",))
    with pytest.raises(UsageError, match="--platform linux/amd64"):
        check.platform(found)


def test_one_image_is_known_again_by_id_or_digest():
    there = Remote(reference="r", digest="sha256:d", config="sha256:c", platforms=(), size=0)
    for digest, config, same in (
        ("", "sha256:c", True),
        ("", "sha256:d", True),
        ("", "sha256:x", False),
        ("", "", False),
    ):
        assert there.is_same(Remote(reference="r", digest=digest, config=config, platforms=(), size=0)) is same


def test_images_of_the_process_engine_stay_there(monkeypatch, tmp_path):
    monkeypatch.setenv("CPR_REGISTRY", "engine")
    engine = ProcessEngine({"CPR_CACHE": str(tmp_path)})
    assert located(engine, f"{HOST}/p/r/none:1") is None
    assert remote(f"{HOST}/p/r/none:1") is None
    check.check(f"{HOST}/p/r/none:1", "us-central1")


def test_under_an_emulator_googles_names_are_asked_of_its_registry(registry, monkeypatch):
    monkeypatch.setenv("CPR_REGISTRY", registry.address)
    put(f"{registry.address}/{HOST}/p/r/emulated:1")
    assert remote(f"{HOST}/p/r/emulated:1").reference == f"{HOST}/p/r/emulated:1"
    check.check(f"{HOST}/p/r/emulated:1", "us-central1")
    assert asked_at(registry.name("own:1")) == Name.parse(registry.name("own:1"))


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("us-docker.pkg.dev/p/r/i:1", "us-central1-docker.pkg.dev/p/r/i:1"),
        ("europe-west4-docker.pkg.dev/p/r/i:1", "us-central1-docker.pkg.dev/p/r/i:1"),
        ("gcr.io/p/i:1", "Container Registry"),
        ("docker.io/someone/i:1", "Artifact Registry"),
        (f"{HOST}/p/r/i@{DIGEST}", "give a tag"),
    ],
)
def test_a_name_that_does_not_fit_the_region_is_refused_before_any_call(reference, said, monkeypatch):
    monkeypatch.setenv("CPR_REGISTRY", "127.0.0.1:9")  # where nobody listens
    with pytest.raises(ConfigError, match=said):
        check.check(reference, "us-central1")


def test_a_check_leaves_no_upload_behind(registry):
    check.check(registry.name("checked:1"), None)
    # This registry writes a state after it has removed an upload; what makes it one is gone.
    uploads = list(registry.folder.glob("docker/registry/v2/repositories/checked/_uploads/*/startedat"))
    assert uploads == []


def test_a_registry_that_is_not_there_is_said(nobody):
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:9 does not answer.*refused.*can be reached"):
        remote("127.0.0.1:9/serving/tiny:1")


def test_a_registry_that_takes_nothing_is_said(tmp_path, nobody):
    read_only = {
        "storage": {
            "filesystem": {"rootdirectory": str(tmp_path / "d")},
            "maintenance": {"readonly": {"enabled": True}},
        }
    }
    with (
        serving(tmp_path / "registry", **read_only) as running,
        pytest.raises(RegistryError, match="405.*only gives images"),
    ):
        check.check(running.name(), None)


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("closed"), login=True) as running:
        yield running


def test_without_one_all_places_are_named(closed, nobody):
    for ask in (remote, lambda name: check.check(name, None)):
        with pytest.raises(RegistryError) as caught:
            ask(closed.name())
        text = str(caught.value)
        assert "401" in text
        assert f"there is no {nobody}/config.json" in text
        assert "application-default credentials: not asked" in text
        assert f"docker login {closed.address}" in text


def test_docker_logins_file_is_read(closed, tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(log_in(tmp_path / "docker", closed.address)))
    check.check(closed.name(), None)
    manifest = put(closed.name("logged/in:1"))
    assert remote(closed.name("logged/in:1")).digest == manifest.digest


def test_a_wrong_one_is_said_without_the_secret(closed, tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(log_in(tmp_path / "docker", closed.address, password="wr0ng-one")))
    with pytest.raises(RegistryError, match="refused the login of docker login") as caught:
        remote(closed.name())
    assert "wr0ng-one" not in str(caught.value)


def test_a_credential_helper_is_asked(closed, tmp_path, monkeypatch):
    helper = tmp_path / "docker-credential-dep"
    helper.write_text(f'#!/bin/sh\ncat >/dev/null\necho \'{{"Username": "{USER}", "Secret": "{PASSWORD}"}}\'\n')
    helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {closed.address: "dep"}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    check.check(closed.name(), None)


def test_a_missing_credential_helper_is_named(closed, nobody, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {closed.address: "dep-none"}}))
    with pytest.raises(RegistryError, match="docker-credential-dep-none"):
        remote(closed.name())


def test_no_netrc_takes_the_place_of_a_login(closed, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    # One of elsewhere, whose requests heed the environment; it is led here by whole URLs.
    with contextlib.closing(Transport(Name.parse("registry.example.com/serving/tiny"))) as transport:
        with transport.send("GET", f"http://{closed.address}/v2/serving/tiny/manifests/1") as response:
            assert response.status_code == 401


def test_no_secret_is_in_a_logins_text():
    assert "s3cret" not in repr(credentials.Login("docker login", "someone", "s3cret", "s3cret"))


def test_without_application_default_credentials_artifact_registry_says_what_was_looked_at(nobody):
    found = credentials.find(HOST)
    assert found.login is None
    assert [each.partition(":")[0] for each in found.looked] == ["docker login", "application-default credentials"]


@pytest.fixture
def tokens(registry):
    """A token service (the distribution specification's "Token Authentication") before a registry that asks for one.

    It stands here alone: Debian has no such program. What it takes and gives is that document's.
    """
    asked = []

    class Service(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        token = "first"

        def do_GET(self):
            parts = urlsplit(self.path)
            if parts.path == "/token":
                asked.append((parse_qs(parts.query), self.headers.get("Authorization")))
                Service.token = f"token-{len(asked)}"
                return self._answer(200, json.dumps({"access_token": Service.token}).encode())
            if self.headers.get("Authorization") != f"Bearer {Service.token}":
                realm = f'Bearer realm="http://{self.headers["Host"]}/token",service="test, one",scope="x"'
                return self._answer(401, b"{}", {"WWW-Authenticate": realm})
            return self._answer(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "none"}]}')

        def do_POST(self):
            if urlsplit(self.path).path == "/token":
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                asked.append((form, None))
                Service.token = f"token-{len(asked)}"
                return self._answer(200, json.dumps({"token": Service.token}).encode())
            return self._answer(403, b'{"errors": [{"code": "DENIED", "message": "no uploadArtifacts"}]}')

        def _answer(self, status, body, headers=None):
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", asked, Service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_token_is_asked_for_with_the_scopes_and_anew_when_it_expires(tokens, tmp_path, monkeypatch):
    address, asked, service = tokens
    monkeypatch.setenv("DOCKER_CONFIG", str(log_in(tmp_path / "docker", address)))
    with Client(Name.parse(f"{address}/p/i:1"), write=True, also=Name.parse(f"{address}/p/other")) as client:
        assert client.manifest("1") is None
        assert client.manifest("2") is None
        assert len(asked) == 1
        service.token = "expired"
        assert client.manifest("3") is None
    query, authorization = asked[0]
    assert query == {"service": ["test, one"], "scope": ["repository:p/i:pull,push", "repository:p/other:pull"]}
    assert authorization.startswith("Basic ")
    assert len(asked) == 2


def test_an_identity_token_of_docker_login_is_exchanged(tokens, tmp_path, monkeypatch):
    address, asked, _ = tokens
    (tmp_path / "config.json").write_text(json.dumps({"auths": {address: {"identitytoken": "identity"}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert remote(f"{address}/p/i:1") is None
    form, _ = asked[0]
    assert (form["grant_type"], form["refresh_token"]) == (["refresh_token"], ["identity"])


def test_missing_rights_are_told_with_the_role(tokens, monkeypatch, nobody):
    address, _, _ = tokens
    monkeypatch.setenv("CPR_REGISTRY", address)
    with pytest.raises(RegistryError) as caught:
        check.check(f"{HOST}/my-project/serving/i:1", "us-central1")
    text = str(caught.value)
    assert "DENIED no uploadArtifacts" in text
    assert "gcloud artifacts repositories add-iam-policy-binding serving --location=us-central1" in text
    assert "--project=my-project --role=roles/artifactregistry.writer" in text


def test_a_password_never_goes_to_a_token_service_without_tls(tmp_path, monkeypatch):
    transport = Transport(Name.parse("registry.example.com/p/i"))
    with pytest.raises(RegistryError, match="has no TLS"):
        transport._token({"realm": "http://auth.example.com/token"}, credentials.Login("here", "someone", "secret"))
    transport.close()
