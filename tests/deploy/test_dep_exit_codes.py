"""The exit codes of the commands that work at Vertex AI, and the words that come with them, as README.md has them.

0 done, 1 the answer is no, 2 wrong usage, 3 something lacks here, 4 the other side refused.
"""

import http.server
import json
import signal
import sys
import threading
import uuid
from contextlib import contextmanager

import dep_project
import pytest
from dep_project import fault
from dep_world import CHECK, PATIENCE, REGION, emulator, engine  # noqa: F401

from cpr_kit import check_files
from cpr_kit.cli import main, terminal
from cpr_kit.config import CheckSection
from cpr_kit.deploy.registry.remote import remote
from cpr_kit.deploy.vertex import calls, failures
from cpr_kit.deploy.vertex.client import Vertex
from cpr_kit.errors import (
    ConfigError,
    DeclinedError,
    DeployError,
    DeployLacking,
    LackingError,
    RegistryError,
    RolledBack,
    kind,
)

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def project():
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def folder(tmp_path, project):
    dep_project.write(tmp_path / "iris", project)
    return tmp_path / "iris"


@pytest.fixture
def cpr(emulator, folder, monkeypatch, capfd):  # noqa: F811
    """cpr("plan") runs the command in the project's folder: its exit code, and all that it has said."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CPR_ENGINE", "process")
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["cpr", *arguments])
        with pytest.raises(SystemExit) as ended:
            main.main()
        said = capfd.readouterr()
        assert "Traceback" not in said.err
        return ended.value.code or 0, said.out + said.err

    return run


@contextmanager
def deployed(cpr):
    code, said = cpr("up", "--yes")
    assert code == 0, said
    try:
        yield
    finally:
        code, said = cpr("down", "--yes")
        assert code == 0, said


def test_where_there_is_no_endpoint_the_answer_is_no(cpr):
    for command in (
        ("status",),
        ("rollback",),
        ("logs",),
        ("predict", "--endpoint", "--json", "rows.json"),
        ("predict", "iris", "--region", REGION, "--json", "rows.json"),
    ):
        code, said = cpr(*command)
        assert code == 1, said
        assert "cpr up" in said
    code, said = cpr("down", "--yes")  # what is to be is so
    assert (code, "nothing was there" in said) == (0, True)


def test_a_life_with_its_refusals(cpr, emulator, folder, project):  # noqa: F811
    assert cpr("plan", "--out", "old.plan")[0] == 0
    with deployed(cpr):
        code, said = cpr("rollback")
        assert (code, "no version before the live one" in said) == (1, True)
        code, said = cpr("up", "--plan", "old.plan")
        assert (code, "the plan no longer holds" in said) == (1, True)

        # Project and region of an endpoint that is named are those of cpr.toml in this folder.
        for more in (("--region", REGION), ("--endpoint",)):
            code, said = cpr("predict", "iris", *more, "--json", "rows.json")
            assert code == 0, said
        with fault(emulator, call="Predict", status="INTERNAL"):
            code, said = cpr("predict", ".", "--region", REGION, "--json", "rows.json")
            assert code == 4
            assert f"cpr logs --region {REGION} --severity ERROR" in said
            assert "cpr logs --severity ERROR" in cpr("predict", "iris", "--endpoint", "--json", "rows.json")[1]

        dep_project.write(folder, project, kind="two")
        with fault(emulator, call="UploadModel", status="PERMISSION_DENIED"):
            code, said = cpr("up", "--yes")
        assert (code, "cpr iam plan" in said) == (4, True)
        dep_project.write(folder, project, kind="broken")
        code, said = cpr("up", "--yes")
        assert (code, "the container's program ended by itself" in said) == (1, True)
    code, said = cpr("up", "--yes")  # a first one that does not start
    assert (code, "the container's program ended by itself" in said) == (1, True)


@pytest.mark.parametrize("command", ["plan", "up --yes", "doctor --deploy --no-run"])
def test_a_bucket_that_is_not_there(cpr, folder, project, command):
    (folder / "model").mkdir()
    (folder / "model" / "weights").write_text("1")
    dep_project.write(folder, project, more='staging = "gs://dep-tests-nowhere"')
    path = folder / "cpr.toml"
    path.write_text('[model]\nartifacts = "model"\n' + path.read_text())
    code, said = cpr(*command.split())
    assert (code, f"gcloud storage buckets create gs://dep-tests-nowhere --location={REGION}" in said) == (3, True)


def test_down_says_where_and_what(cpr, project):
    assert cpr("up", "--yes")[0] == 0
    code, said = cpr("down")
    assert (code, f"whether to remove this from {REGION}; say it with --yes" in said) == (2, True)
    code, said = cpr("down", "--yes", "--json")
    (region,) = json.loads(said.splitlines()[-1] if said.startswith(REGION) else said.splitlines()[0])["regions"]
    assert (code, region["lines"]) == (0, ["deployed model iris@1", "model version iris@1", "endpoint iris"])


@pytest.mark.parametrize("command", ["plan", "up", "status", "logs", "rollback", "down", "doctor --deploy --no-run"])
def test_without_credentials_that_is_what_is_said(cpr, monkeypatch, tmp_path, command):
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    code, said = cpr(*command.split())
    assert code == 3
    assert "there are no Google credentials here" in said
    assert "log in: gcloud auth application-default login" in said
    assert "docker.pkg.dev does not" not in said
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    assert "absent.json was not found" in cpr(*command.split())[1]


@pytest.mark.parametrize("command", ["plan", "up", "status", "logs", "rollback", "down", "doctor --deploy --no-run"])
def test_all_that_a_deployment_cannot_do_without_is_asked_for_at_once(cpr, folder, command):
    (folder / "cpr.toml").unlink()
    code, said = cpr(*command.split())
    assert code == (3 if "doctor" in command else 2)
    for line in ("[image]", f'name = "{REGION}-docker.pkg.dev/my-project/serving/iris:1"', "[deploy]"):
        assert f"    {line}" in said
    assert f'    project = "my-project"\n    regions = ["{REGION}"]\n    endpoint = "iris"' in said
    (folder / "cpr.toml").write_text('[deploy]\nproject = "p"\nregions = ["europe-west4"]\nendpoint = "e"\n')
    said = cpr(*command.split())[1]
    assert f"{folder / 'cpr.toml'} lacks [image] name; write there" in said
    assert 'name = "europe-west4-docker.pkg.dev/' in said
    assert "[deploy]" not in said


def test_an_expected_answer_that_is_no_json_is_found_before_anything_else(cpr, folder, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/none.json")
    (folder / "sums.json").write_text('{"predictions":\n  [3, 7}')
    for command in ("plan", "up"):
        code, said = cpr(command)
        assert code == 2
        assert f"{folder / 'sums.json'}, line 2, column 8: this is no JSON" in said
    code, said = cpr("doctor", "--deploy", "--no-run")
    assert (code, "sums.json, line 2, column 8" in said) == (3, True)


@pytest.mark.parametrize(
    ("name", "content", "request_type", "right"),
    [
        ("a.json", "[1, 2]", "text/csv", True),
        ("a.json", "1,2", "text/csv", False),
        ("a.txt", "1,2", "application/json", True),
        ("a.txt", "  [1, 2", "application/json; charset=utf-8", False),
        ("a.txt", "{1, 2", "text/csv", True),
        ("a.json", "[NaN]", "application/json", False),
        ("a.json", "\udcff", "application/json", False),
        ("absent.json", None, "application/json", False),
    ],
)
def test_what_is_meant_to_be_json(tmp_path, name, content, request_type, right):
    if content is not None:
        (tmp_path / name).write_bytes(content.encode(errors="surrogateescape"))
    sections = [CheckSection(request="r", expect=name, content_type=request_type), CheckSection(request="r")]
    if right:
        check_files.check(tmp_path, sections)
        return
    with pytest.raises(ConfigError, match=name):
        check_files.check(tmp_path, sections)


@contextmanager
def tokens(status, answer):
    """A token service that answers so."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/token"
        finally:
            server.shutdown()
            thread.join()


def asked(project, token_uri, report=calls.silent, patience=PATIENCE):
    """Look for an endpoint with a person's login."""
    from google.oauth2.credentials import Credentials

    vertex = Vertex(project, REGION, patience=patience, report=report)
    person = Credentials(None, refresh_token="r", client_id="i", client_secret="s", token_uri=token_uri)
    vertex._call._credentials = person
    with pytest.raises(LackingError) as caught:
        vertex.endpoint("iris")
    assert caught.value.exit_code == 3
    return str(caught.value)


def test_a_login_that_has_ended_is_not_waited_for(emulator, project):  # noqa: F811
    lines = []
    with tokens(400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}) as url:
        said = asked(project, url, lines.append)
    assert "invalid_grant: Token has been expired or revoked.) | log in again: gcloud auth" in said
    assert "{" not in said
    assert lines == []


def test_a_network_that_is_not_there(emulator, project):  # noqa: F811
    lines = []
    patience = calls.Patience(total_s=0.5, first_s=0.1, longest_s=0.1)
    said = asked(project, f"{NOBODY}/token", lines.append, patience)
    assert said.startswith(
        "Google does not answer here: could not show endpoint iris: no token could be fetched: Failed"
    )
    assert "HTTPS_PROXY" in said
    assert "object at" not in said
    assert len(lines) == 1  # the same words are said once


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        ("failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.1:443: connection refused", True),
        (
            "DNS resolution failed for us-central1-aiplatform.googleapis.com:443: C-ares status is not ARES_SUCCESS",
            True,
        ),
        ("The service is currently unavailable.", False),
        ("Socket closed", False),
    ],
)
def test_no_connection_is_told_from_a_refusal(text, lacks):
    assert failures.unreached(text) is lacks


def test_a_registry_that_is_not_there_lacks_and_one_that_refuses_refuses(monkeypatch):
    monkeypatch.setattr("cpr_kit.deploy.registry.transport._PAUSE_S", 0.0)
    with pytest.raises(RegistryError) as caught:
        remote("127.0.0.1:9/p/r/iris:1")
    assert caught.value.exit_code == 3
    assert "Connection refused" in str(caught.value)
    assert "Errno" not in str(caught.value)
    assert kind(caught.value) == "RegistryError"  # what programs read has no name that is not in cpr_kit.errors


@pytest.mark.parametrize("text", ["out of memory", "exit_code: 1", "exited unexpectedly", "never became ready"])
def test_a_container_s_own_failure_is_a_no_and_keeps_its_kind_with_its_log(text):
    error = failures.failed("deploy iris@1", f"model server container {text}")
    assert (type(error), failures.with_log(error, ["a line"]).exit_code) == (DeclinedError, 1)
    assert failures.failed("deploy iris@1", "quota exceeded").exit_code == 4
    assert failures.failed("deploy iris@1", "INTERNAL").exit_code == 4


def test_the_kinds_of_errors_of_a_deployment():
    assert [each("a", "b").exit_code for each in (DeployError, DeclinedError, DeployLacking)] == [4, 1, 3]
    assert isinstance(DeployLacking("a", "b"), LackingError)
    assert (RolledBack("a").exit_code, kind(RolledBack("a"))) == (1, "RolledBack")


def test_ctrl_c_ends_with_one_line(capfd):
    with pytest.raises(SystemExit) as ended, terminal.ending("stopped; the same command goes on"):
        signal.raise_signal(signal.SIGINT)
    assert ended.value.code == 130
    assert capfd.readouterr().err == "stopped; the same command goes on\n"


def test_every_finding_that_failed_says_what_to_do(cpr, folder, project, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/none.json")
    (folder / "cpr.toml").write_text((folder / "cpr.toml").read_text().replace("iris:one", "iris:absent"))
    code, said = cpr("doctor", "--deploy", "--no-run", "--json")
    failed = [each for each in json.loads(said.splitlines()[-1])["findings"] if not each["passed"]]
    assert code == 3
    assert {"credentials", "image"} <= {each["name"] for each in failed}
    assert all(each["remedy"] and " | " not in each["detail"] for each in failed)


def test_words_of_python_are_not_said(cpr, folder):
    text = (folder / "cpr.toml").read_text()
    for line, words in (
        ("labels = { a = true }", "labels is {a = true}; it is a table of strings"),
        ("keep_previous = 'yes'", 'keep_previous is "yes"; it is true or false'),
        ("canary = true", "canary is true; it is a whole number"),
        ("project_allowlist = 'p'", 'project_allowlist is "p"; it is a list of strings: ["p"]'),
    ):
        (folder / "cpr.toml").write_text(text.replace('endpoint = "iris"', f'endpoint = "iris"\n{line}'))
        code, said = cpr("plan")
        assert (code, words in said) == (2, True), said


def test_a_plan_that_is_none_is_told_in_words(cpr, folder):
    for content, words in (
        ("[1,", "a.plan, line 1, column 4: this is no JSON"),
        ("{}", "it names no format"),
        ('{"format": "cpr-plan/1"}', '"regions" is missing'),
        ('{"format": "cpr-plan/1", "canary": 0, "regions": [{"steps": 1}]}', "is not what cpr plan writes"),
    ):
        (folder / "a.plan").write_text(content)
        code, said = cpr("up", "--plan", "a.plan")
        assert (code, words in said) == (2, True), said


def test_rights_in_one_form_alone_and_what_is_left_out(cpr):
    plan = ("iam", "plan", "--serving", "my-project", "--no-lookup")
    code, said = cpr(*plan, "--format", "gcloud", "--json")
    assert (code, "--format gcloud" in said) == (2, True)
    assert cpr(*plan, "--format", "json", "--json")[0] == 0
    assert "--staging gs://BUCKET adds it" in cpr(*plan, "--deployer", "user:a@b.example")[1]
    assert "adds it" not in cpr(*plan, "--deployer", "user:a@b.example", "--staging", "gs://my-staging")[1]


def test_status_ends_with_the_code_that_all_failures_share(cpr, emulator, monkeypatch, tmp_path):  # noqa: F811
    with fault(emulator, call="GetEndpoint", status="PERMISSION_DENIED"):
        assert cpr("status", "--no-folder")[0] == 4
    person = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}
    (tmp_path / "person.json").write_text(json.dumps(person))
    with tokens(400, {"error": "invalid_grant", "error_description": "Token has been revoked."}) as url:
        monkeypatch.setattr("google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", url)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "person.json"))
        code, said = cpr("status", "--no-folder", "--json")
    assert (code, json.loads(said)["regions"][0]["exit_code"]) == (3, 3)
    assert "Token has been revoked" in said
