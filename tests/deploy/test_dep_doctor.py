"""`cpr doctor --deploy`: each thing that a deployment lacks is found before it, by its name, with what to do."""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner
from google.auth import credentials as google_credentials
from google.cloud import storage

sys.path.insert(0, str(Path(__file__).parent))

from dep_world import (
    CHECK,
    PATIENCE,
    REGION,
    emulator,  # noqa: F401
    engine,  # noqa: F401
    image,
    project,  # noqa: F401
    target,  # noqa: F401
    target_of,
    vertex,  # noqa: F401
)

from cpr_kit.cli import doctor as command_line
from cpr_kit.deploy.doctor import findings as doctor
from cpr_kit.deploy.doctor import image as doctor_image
from cpr_kit.deploy.doctor import project as doctor_project
from cpr_kit.deploy.doctor import quota as doctor_quota
from cpr_kit.deploy.doctor import storage as doctor_storage
from cpr_kit.deploy.vertex import rest
from cpr_kit.deploy.registry.remote import Remote
from cpr_kit.deploy.target import Scale
from cpr_kit.deploy.vertex.client import Vertex
from cpr_kit.emulator.program import emulate
from cpr_kit.emulator.settings import Settings
from cpr_kit.errors import UsageError

ACCOUNT = "runner@dep-tests.iam.gserviceaccount.com"


def found(target, engine, **options):
    """By name, the findings that are no plain pass."""
    return {each.name: each for each in doctor.findings(target, engine, **options) if not each.passed or each.note}


def failed(target, engine, **options):
    return {each.name: each for each in doctor.findings(target, engine, **options) if not each.passed}


def looked(room, target, *options):
    """The findings of one room's looks, the last of each name."""
    google = rest.Google.default()
    return {each.name: each for look in room.looks(target, google, *options) for each in doctor._looked(look)}


@pytest.fixture
def bucket(emulator, project):
    client = storage.Client(project=project)
    made = client.create_bucket(f"dep-{project}", location=REGION)
    yield made
    made.delete(force=True)
    client.close()


@contextmanager
def world(engine, **settings):
    with emulate(engine=engine, settings=Settings(**settings)):
        yield


def test_where_nothing_lacks_everything_is_looked_at_in_a_fixed_order(target, engine, bucket, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"model")
    whole = replace(
        target,
        artifacts=str(tmp_path),
        staging=f"gs://{bucket.name}/models",
        service_account=ACCOUNT,
        scale=Scale(min_replicas=2, max_replicas=2),
    )
    made = list(doctor.findings(whole, engine, local=partial(doctor_image.local_run, whole, engine)))
    assert [each.detail for each in made if not each.passed] == []
    assert list(dict.fromkeys(each.name for each in made)) == [
        *("rules", "credentials", "Vertex AI", "permissions", "service account", "endpoint", "repository", "image"),
        *("artifacts", "staging", "quota", "local run"),
    ]
    details = {each.name: each.detail for each in made}
    assert "iris is free in us-central1" in details["endpoint"]
    assert "linux/amd64" in details["image"]
    assert "1 file, " in details["artifacts"]
    assert details["staging"] == f"gs://{bucket.name} lies in us-central1"
    assert "1 of the project's [[check]] requests" in details["local run"]


def test_what_breaks_a_rule_is_found_without_any_call(target, engine):
    made = failed(replace(target, region="europe-west"), engine)
    assert "europe-west4" in made["rules"].detail


# Google's side, with what a setting of the emulator takes away.


def test_a_missing_permission_is_named_with_the_plan_that_grants_it(target, engine):
    with world(engine, denied_permissions=("aiplatform.endpoints.deploy", "aiplatform.models.upload")):
        made = failed(target, engine)
    assert set(made) == {"permissions"}
    assert "lacks aiplatform.models.upload, aiplatform.endpoints.deploy" in made["permissions"].detail
    assert f"cpr iam plan --serving {target.project} --deployer serviceAccount:" in made["permissions"].remedy


def test_an_api_that_refuses_is_told_with_its_words(target, engine):
    with world(engine, denied_permissions=("aiplatform.endpoints.list",)):
        made = found(target, engine)
    assert not made["Vertex AI"].passed
    assert "403 PERMISSION_DENIED" in made["Vertex AI"].detail
    assert "cpr iam plan" in made["Vertex AI"].remedy
    assert made["endpoint"].note
    assert "could not be looked for" in made["endpoint"].detail


def test_an_account_that_is_not_there_and_one_that_may_not_be_used(target, engine):
    whole = replace(target, service_account=ACCOUNT)
    with world(engine, missing=(ACCOUNT,)):
        made = failed(whole, engine)
        assert set(made) == {"service account"}
        assert "gcloud iam service-accounts create runner --project=dep-tests" in made["service account"].remedy
    with world(engine, denied_permissions=("iam.serviceAccounts.actAs",)):
        made = failed(whole, engine)
        assert set(made) == {"service account"}
        assert "iam.serviceAccounts.actAs" in made["service account"].detail
        assert f"--run-as {ACCOUNT}" in made["service account"].remedy


def test_a_quota_is_compared_with_the_most_replicas(target, engine):
    scale = Scale(machine_type="n1-standard-4", min_replicas=2, max_replicas=3)
    with world(engine, quotas=("custom_model_serving_cpus=100", f"custom_model_serving_cpus@{REGION}=11")):
        made = failed(replace(target, scale=scale), engine)
        assert set(made) == {"quota"}
        assert "3 x n1-standard-4 take 12, and the limit is 11" in made["quota"].detail
        assert failed(replace(target, scale=replace(scale, max_replicas=2)), engine) == {}
    with world(engine, denied_permissions=("serviceusage.quotas.get",)):
        made = found(replace(target, scale=scale), engine)
        assert (made["quota"].passed, made["quota"].note) == (True, True)
        assert "could not be asked" in made["quota"].detail


@pytest.mark.parametrize(
    ("scale", "needed"),
    [
        (Scale(machine_type="e2-highmem-8", max_replicas=2), {"custom_model_serving_cpus": 16}),
        (Scale(machine_type="n2-standard-4"), {"custom_model_serving_n2_cpus": 4}),
        (
            Scale(
                machine_type="n1-standard-4", accelerator_type="NVIDIA_TESLA_T4", accelerator_count=2, max_replicas=3
            ),
            {"custom_model_serving_cpus": 12, "custom_model_serving_nvidia_t4_gpus": 6},
        ),
        (
            Scale(machine_type="g2-standard-24"),
            {"custom_model_serving_g2_cpus": 24, "custom_model_serving_nvidia_l4_gpus": 2},
        ),
        (Scale(machine_type="a2-highgpu-1g", max_replicas=2), {"custom_model_serving_nvidia_a100_gpus": 2}),
    ],
)
def test_what_machines_count_for(scale, needed):
    assert doctor_quota.needed(scale) == needed


# The endpoint's name.


def test_an_endpoint_of_ours_of_others_and_of_another_kind(target, vertex):
    made = looked(doctor_project, target)
    assert "is free" in made["endpoint"].detail
    ours, _ = vertex.create_endpoint(target, {"cpr-kit": "iris"})
    made = looked(doctor_project, target)
    assert (made["endpoint"].passed, made["endpoint"].note) == (True, False)
    assert "made by cpr" in made["endpoint"].detail
    made = looked(doctor_project, replace(target, kind="dedicated"))
    assert [name for name, each in made.items() if not each.passed] == ["endpoint"]
    assert "is public and cpr.toml says dedicated" in made["endpoint"].detail
    vertex.update_endpoint(vertex.again(ours), {"labels": {"team": "shop"}})
    made = looked(doctor_project, target)
    assert made["endpoint"].note
    assert "was not made by cpr up" in made["endpoint"].detail


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("dedicated", {}),
        ("psa", {"network": "projects/123456789012/global/networks/default"}),
        ("psc", {"project_allowlist": ("dep-tests",)}),
    ],
)
def test_every_kind_of_endpoint_is_known_again(target, vertex, kind, fields):
    whole = replace(target, kind=kind, **fields)
    vertex.create_endpoint(whole, {"cpr-kit": "iris"})
    made = looked(doctor_project, whole)
    assert made["endpoint"].passed
    assert f"iris exists ({kind}, 0 deployed models)" in made["endpoint"].detail


def test_two_endpoints_of_one_display_name_are_no_name(target, vertex):
    psc = replace(target, kind="psc", project_allowlist=("dep-tests",))
    vertex.create_endpoint(psc, {})
    vertex.create_endpoint(psc, {})
    made = looked(doctor_project, psc)
    assert '2 endpoints in us-central1 are named "iris"' in made["endpoint"].detail


# Artifacts and staging.


def test_artifacts_of_this_machine_that_are_not_there_empty_or_lead_out(target, engine, emulator, tmp_path):
    made = looked(doctor_storage, replace(target, artifacts=str(tmp_path / "absent")))
    assert "not there" in made["artifacts"].detail
    (tmp_path / "empty").mkdir()
    made = looked(doctor_storage, replace(target, artifacts=str(tmp_path / "empty")))
    assert "there are no files" in made["artifacts"].detail
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model").symlink_to("/etc/hostname")
    made = looked(doctor_storage, replace(target, artifacts=str(tmp_path / "out")))
    assert "is a link out of the artifacts" in made["artifacts"].detail


def test_artifacts_in_a_bucket(target, engine, bucket):
    made = looked(doctor_storage, replace(target, artifacts="gs://dep-no-such-bucket/model"))
    assert "there is no bucket gs://dep-no-such-bucket" in made["artifacts"].detail
    made = looked(doctor_storage, replace(target, artifacts=f"gs://{bucket.name}/model"))
    assert "there is no object under" in made["artifacts"].detail
    bucket.blob("model-of-others/weights").upload_from_string(b"1")
    assert not looked(doctor_storage, replace(target, artifacts=f"gs://{bucket.name}/model"))["artifacts"].passed
    bucket.blob("model/weights").upload_from_string(b"1")
    assert looked(doctor_storage, replace(target, artifacts=f"gs://{bucket.name}/model"))["artifacts"].passed


def test_artifacts_that_may_not_be_read(target, engine):
    with world(engine, denied_permissions=("storage.objects.list",)):
        storage.Client(project=target.project).create_bucket("dep-closed", location=REGION)
        made = looked(doctor_storage, replace(target, artifacts="gs://dep-closed/model"))
    assert "may not be read" in made["artifacts"].detail
    assert "roles/storage.objectViewer" in made["artifacts"].remedy


def test_a_staging_bucket_that_is_not_there_elsewhere_or_closed(target, engine, bucket):
    made = looked(doctor_storage, replace(target, staging="gs://dep-no-such-bucket"))
    create = f"gcloud storage buckets create gs://dep-no-such-bucket --location={REGION} --project={target.project}"
    assert made["staging"].remedy == create
    made = looked(doctor_storage, replace(target, region="europe-west4", staging=f"gs://{bucket.name}"))
    assert made["staging"].note
    assert "lies in us-central1, and the model in europe-west4" in made["staging"].detail
    with world(engine, denied_permissions=("storage.objects.create",)):
        storage.Client(project=target.project).create_bucket("dep-closed", location="EU")
        looks = dict(doctor_storage.looks(replace(target, staging="gs://dep-closed"), rest.Google.default()))
        staging = list(looks["staging"]())
    assert [each.passed for each in staging] == [False, True]
    assert "lack storage.objects.create" in staging[0].detail
    assert "several regions (eu)" in staging[1].detail


# The image.


def test_an_image_that_is_nowhere_and_one_of_another_name_here(target, engine, emulator):
    absent = replace(target, image=image("absent"))
    made = failed(absent, engine)
    assert set(made) == {"image"}
    assert f"cpr build DIR -t {absent.image}" in made["image"].remedy
    assert failed(absent, engine, image=image("one")) == {}


def test_an_image_for_another_machine():
    arm = Remote(reference=image("one"), digest="", config="sha256:0", platforms=("linux/arm64",), size=1)
    with pytest.raises(UsageError, match="linux/arm64, and Vertex AI runs linux/amd64"):
        doctor_image._platform(arm, "is on this machine")
    assert doctor_image._platform(replace(arm, platforms=("linux/arm64", "linux/amd64")), "is there").passed


def test_an_image_in_another_regions_repository(target, engine, emulator):
    made = failed(replace(target, image=image("one", "europe-west4")), engine)
    assert "europe-west4" in made["repository"].detail


def test_a_run_of_the_very_image_shows_what_would_fail_there(target, engine, emulator):
    def run(kind, **fields):
        whole = replace(target_of(target.project, kind), **fields)
        return list(doctor_image.local_run(whole, engine))

    wrong = [each for each in run("wrong") if not each.passed]
    assert [each.name for each in wrong] == ["local run: expected two rows"]
    assert "expected 3, got 4" in wrong[0].detail
    assert any("500" in each.detail for each in run("failing") if not each.passed)
    broken = run("broken")
    assert [each.passed for each in broken] == [False]
    assert "model.joblib is not there" in broken[0].detail
    alone = run("one", checks=())
    assert [(each.passed, each.note) for each in alone] == [(True, False), (True, True)]
    assert "[[check]]" in alone[1].remedy
    elsewhere = list(doctor_image.local_run(target, engine, image("absent")))
    assert [(each.passed, each.note) for each in elsewhere] == [(True, True)]


def test_an_answer_that_is_no_json_is_compared_as_text(target, engine, emulator):
    text = replace(CHECK, expected=b"no json")
    made = list(doctor_image.local_run(replace(target, checks=(text,)), engine))
    assert [each.name for each in made if not each.passed] == ["local run: expected two rows"]


# Without Google.


def test_without_credentials_the_rest_is_looked_at(target, engine, emulator, monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    made = list(doctor.findings(target, engine))
    assert [each.name for each in made if not each.passed] == ["credentials"]
    assert [each.name for each in made if each.name in ("repository", "image")] == ["repository", "image"]


def test_credentials_that_are_no_longer_taken(target, engine, emulator, tmp_path, monkeypatch):
    key = json.loads(Path(os.environ["GOOGLE_APPLICATION_CREDENTIALS"]).read_text())
    key |= {"token_uri": "https://oauth2.googleapis.com/no-such-page"}
    (tmp_path / "key.json").write_text(json.dumps(key))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    made = failed(target, engine)
    assert set(made) == {"credentials"}
    assert "does not take these credentials" in made["credentials"].detail


class Anybody(google_credentials.Credentials):
    """Whoever it is: what is asked is a server of this test."""

    def __init__(self):
        super().__init__()
        self.token = "token"

    def refresh(self, request):
        """The token is as good as any other."""


@contextmanager
def answering(*answers):
    """A server that gives (status, body) one after the other, the last one again and again; yields url and paths."""
    left, paths = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            paths.append(self.path)
            status, body = left.pop(0) if len(left) > 1 else left[0]
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", paths
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def refusal(status, code, message, reason=""):
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}] if reason else []
    return status, {"error": {"code": status, "status": code, "message": message, "details": details}}


DISABLED = refusal(403, "PERMISSION_DENIED", "Vertex AI API has not been used in project 1 before", "SERVICE_DISABLED")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (DISABLED, "gcloud services enable aiplatform.googleapis.com --project=dep-tests"),
        (refusal(403, "PERMISSION_DENIED", "Permission denied"), "cpr iam plan --serving dep-tests"),
        (refusal(404, "NOT_FOUND", "no project"), "gcloud projects list"),
        (refusal(401, "UNAUTHENTICATED", "no"), "log in again"),
        ((502, b"<html>bad gateway</html>"), "try again later"),
    ],
)
def test_refusals_of_the_api_are_told_apart(answer, words):
    google = rest.Google(Anybody())
    with answering(answer) as (url, _):
        reply = google.get(url)
    assert words in doctor_project._remedy(target_of("dep-tests", "one"), google, reply)
    assert str(answer[0]) in str(reply)


def test_a_server_that_does_not_answer_is_no_exception():
    with answering((200, {})) as (url, _):
        pass
    reply = rest.Google(Anybody()).get(url)
    assert reply.status == 0
    assert "no answer" in str(reply)


def test_a_busy_server_is_asked_again():
    with answering((429, {}), (503, {}), (200, {"a": 1})) as (url, paths):
        reply = rest.Google(Anybody()).get(url)
    assert reply.body == {"a": 1}
    assert len(paths) == 3


def test_limits_come_in_pages(monkeypatch):
    def page(name, limit, token=""):
        buckets = [{"effectiveLimit": str(limit)}, {"effectiveLimit": "1", "dimensions": {"region": "asia-east1"}}]
        metric = {"metric": f"aiplatform.googleapis.com/{name}", "consumerQuotaLimits": [{"quotaBuckets": buckets}]}
        return 200, {"metrics": [metric], **({"nextPageToken": token} if token else {})}

    with answering(page("a", 5, "next"), page("b", -1)) as (url, paths):
        monkeypatch.setattr(doctor_quota, "_USAGE", url)
        limits, refused = doctor_quota._limits(target_of("dep-tests", "one"), rest.Google(Anybody()))
    assert (limits, refused) == ({"a": 5, "b": -1}, None)
    assert paths[1].endswith("pageToken=next")


# The command.

TOML = """\
[image]
name = "us-central1-docker.pkg.dev/dep-tests/serving/iris:one"
[deploy]
project = "{project}"
regions = {regions}
endpoint = "iris"
min_replicas = 2
[[check]]
request = "two_rows.json"
"""


@pytest.fixture
def folder(tmp_path, project):
    def made(regions):
        (tmp_path / "cpr.toml").write_text(TOML.format(project=project, regions=json.dumps(regions)))
        (tmp_path / "two_rows.json").write_bytes(CHECK.body)
        return tmp_path

    return made


def run(*words):
    done = CliRunner().invoke(command_line.command, [*map(str, words), "--engine", "process", "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, {each["name"]: each for each in json.loads(done.stdout)["findings"]}


def test_the_command_looks_at_the_deployment_after_this_machine(emulator, folder):
    _, made = run(folder([REGION]), "--deploy")
    assert list(made)[:2] == ["python", "project"]
    assert made["endpoint"]["passed"]
    assert made["local run"]["passed"]
    assert "1 of the project's [[check]] requests" in made["local run"]["detail"]


def test_the_command_looks_at_each_region_and_starts_the_image_once(emulator, folder):
    _, made = run(folder([REGION, "europe-west4"]), "--deploy")
    for region in (REGION, "europe-west4"):
        assert made[f"{region}: endpoint"]["passed"]
        assert made[f"{region}: image"]["passed"]
    assert [name for name in made if "local run" in name] == ["local run"]
    _, made = run(folder([REGION, "europe-west4"]), "--deploy", "--no-run", "--region", "europe-west4")
    assert "endpoint" in made
    assert not [name for name in made if "local run" in name or name.startswith(REGION)]


def test_the_command_fails_where_something_lacks(emulator, folder):
    code, made = run(folder([]), "--deploy")
    assert code == 3
    assert not made["deployment"]["passed"]
    assert "regions" in made["deployment"]["detail"]


def test_what_belongs_to_deploy_is_refused_without_it(folder):
    with pytest.raises(UsageError, match="--no-run belongs to --deploy"):
        run(folder([REGION]), "--no-run")


def test_without_deploy_nothing_of_google_is_asked(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    _, made = run(folder([REGION]))
    assert "credentials" not in made
