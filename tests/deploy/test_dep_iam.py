"""`cpr iam plan`: golden plans for six topologies, no role too wide, none to spare, and no way out of a command.

After a change of the plans that is meant: python tests/deploy/test_dep_iam.py writes the golden files anew.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

import dep_hcl

from cpr_kit.cli import iam
from cpr_kit.deploy.iam import names, number, plan, render
from cpr_kit.deploy.iam.names import Repository
from cpr_kit.deploy.iam.topology import NUMBER as PLACEHOLDER
from cpr_kit.deploy.iam.topology import Topology
from cpr_kit.emulator.names import Projects
from cpr_kit.emulator.program import emulate
from cpr_kit.errors import UsageError

GOLDEN = Path(__file__).parent / "iam_plans"
SUFFIXES = {"text": "txt", "gcloud": "sh", "terraform": "tf", "json": "json"}
SERVING, NUMBER = "models-prod", "415104041262"
AGENT = f"serviceAccount:service-{NUMBER}@gcp-sa-aiplatform.iam.gserviceaccount.com"
JO = "user:jo@example.com"
RUNNER = names.account("runner@models-prod", "-")
FOREIGN_RUNNER = names.account("runner@identities-prod", "-")
CALLER = "serviceAccount:app@models-prod.iam.gserviceaccount.com"
FOREIGN_CALLER = "serviceAccount:app@shop-prod.iam.gserviceaccount.com"
ALL_HERE = Topology(
    serving=SERVING,
    number=NUMBER,
    callers=(CALLER,),
    repository=Repository("europe-west4", "models"),
    artifacts="models-prod-artifacts",
    deployer=JO,
)
TOPOLOGIES = {
    "same_project": ALL_HERE,
    "caller_elsewhere": replace(ALL_HERE, callers=(FOREIGN_CALLER,)),
    "image_elsewhere": replace(ALL_HERE, image_project="images-prod"),
    "run_as_elsewhere": replace(ALL_HERE, run_as=FOREIGN_RUNNER),
    "artifacts_elsewhere": replace(ALL_HERE, artifacts_project="data-prod", artifacts="data-prod-models"),
    "feature_store": replace(ALL_HERE, run_as=RUNNER, feature_store="features-prod"),
}
EVERYTHING = Topology(
    serving=SERVING,
    number=NUMBER,
    callers=(FOREIGN_CALLER, "group:shop@example.com"),
    kind="dedicated",
    image_project="images-prod",
    repository=Repository("europe-west4", "models"),
    run_as=FOREIGN_RUNNER,
    artifacts_project="data-prod",
    artifacts="data-prod-models",
    staging="models-prod-staging",
    feature_store="features-prod",
    deployer=JO,
)
NOTHING_KNOWN = replace(EVERYTHING, number=None, repository=None, artifacts=None)


def golden():
    for name, topology in TOPOLOGIES.items():
        for form, suffix in SUFFIXES.items():
            yield GOLDEN / f"{name}.{suffix}", render.FORMATS[form](plan.make(topology)) + "\n"


@pytest.mark.parametrize(("path", "made"), [pytest.param(*each, id=each[0].name) for each in golden()])
def test_the_plan_is_the_golden_one(path, made):
    assert made == path.read_text()


def test_there_is_no_golden_file_too_many():
    assert {path for path, _ in golden()} == set(GOLDEN.iterdir())


@pytest.mark.parametrize("topology", [*TOPOLOGIES.values(), EVERYTHING, NOTHING_KNOWN])
def test_no_role_owns_edits_or_administers(topology):
    made = plan.make(topology)
    for binding in made.bindings:
        assert not re.search("owner|editor|admin", binding.role, re.IGNORECASE)
        assert (binding.custom is not None) == binding.role.startswith("projects/")
    for role in made.roles:
        assert role.permissions
        assert all(re.fullmatch(r"[a-z]+\.[A-Za-z]+\.[A-Za-z]+", each) for each in role.permissions)
    for form, write in render.FORMATS.items():
        assert not re.search(r"roles/[a-zA-Z.]*(owner|editor|admin)", write(made), re.IGNORECASE), form


# What each predefined role holds of the permissions that the steps need ("IAM basic and predefined roles reference").
PREDEFINED = {
    "roles/artifactregistry.reader": {"artifactregistry.repositories.downloadArtifacts"},
    "roles/artifactregistry.writer": {
        "artifactregistry.repositories.downloadArtifacts",
        "artifactregistry.repositories.uploadArtifacts",
    },
    "roles/storage.objectViewer": {"storage.objects.get", "storage.objects.list"},
    "roles/storage.objectUser": {
        *("storage.objects.get", "storage.objects.list", "storage.objects.create", "storage.objects.delete"),
    },
    "roles/iam.serviceAccountUser": {"iam.serviceAccounts.actAs"},
    "roles/iam.serviceAccountTokenCreator": {"iam.serviceAccounts.getAccessToken"},
    "roles/aiplatform.user": {
        *("aiplatform.models.upload", "aiplatform.endpoints.deploy", "aiplatform.endpoints.predict"),
    },
}
# What Vertex AI does, by whom, and what it needs for it on which resource.
REPOSITORY = "repository models in europe-west4 of project images-prod"
ACCOUNT = f"service account {FOREIGN_RUNNER.email}"
STEPS = {
    "a service calls": (FOREIGN_CALLER, "aiplatform.endpoints.predict", f"project {SERVING}"),
    "a group calls": ("group:shop@example.com", "aiplatform.endpoints.predict", f"project {SERVING}"),
    "the image is pulled": (AGENT, "artifactregistry.repositories.downloadArtifacts", REPOSITORY),
    "the artifacts are copied": (AGENT, "storage.objects.get", "bucket gs://data-prod-models"),
    "the account is prepared": (AGENT, "iam.serviceAccounts.setIamPolicy", ACCOUNT),
    "tokens are made": (AGENT, "iam.serviceAccounts.getAccessToken", ACCOUNT),
    "features are fetched": (
        FOREIGN_RUNNER.member,
        "aiplatform.featureViews.fetchFeatureValues",
        "project features-prod",
    ),
    "a model is uploaded": (JO, "aiplatform.models.upload", f"project {SERVING}"),
    "the image is pushed": (JO, "artifactregistry.repositories.uploadArtifacts", REPOSITORY),
    "the artifacts are staged": (JO, "storage.objects.create", "bucket gs://models-prod-staging"),
    "the artifacts are read": (JO, "storage.objects.list", "bucket gs://data-prod-models"),
    "the account is named": (JO, "iam.serviceAccounts.actAs", ACCOUNT),
}


def failing(bindings):
    def may(member, permission, on):
        return any(
            permission in (set(each.custom.permissions) if each.custom else PREDEFINED[each.role])
            for each in bindings
            if each.member == member and str(each.resource) == on
        )

    return [name for name, step in STEPS.items() if not may(*step)]


def test_every_step_passes_with_the_plan_and_exactly_one_fails_without_any_one_binding():
    bindings = plan.make(EVERYTHING).bindings
    assert failing(bindings) == []
    assert len(failing(())) == len(STEPS) == len(bindings)
    broken = [failing([other for other in bindings if other is not each]) for each in bindings]
    assert sorted(broken) == sorted([[name] for name in STEPS])


def test_nothing_is_granted_to_vertex_ai_where_it_has_its_rights_already():
    assert [each for each in plan.make(ALL_HERE).bindings if each.who == "vertex"] == []


def test_a_run_as_account_is_prepared_and_its_tokens_are_made_only_across_projects():
    purposes = [each.purpose for each in plan.make(replace(ALL_HERE, run_as=RUNNER)).bindings if each.who == "vertex"]
    assert purposes == ["prepares the account"]
    purposes = [each.purpose for each in plan.make(TOPOLOGIES["run_as_elsewhere"]).bindings if each.who == "vertex"]
    assert purposes == ["prepares the account", "makes tokens"]


def test_where_the_plan_differs_from_the_documents_it_says_so():
    found = [each for each in plan.make(EVERYTHING).bindings if each.unconfirmed]
    assert [each.purpose for each in found] == ["prepares the account"]
    assert "UNCONFIRMED" in found[0].unconfirmed
    for write in render.FORMATS.values():
        assert "UNCONFIRMED" in write(plan.make(EVERYTHING))


# The commands, run by a real shell with a gcloud that writes down what it is asked.

GCLOUD = """#!/bin/sh
for word in "$@"; do printf '%s\\n' "$word"; done >> "$CALLS"
printf '\\n' >> "$CALLS"
case "$*" in
  *projectNumber*) echo 415104041262 ;;
  "iam roles update"*) [ -n "$ROLES_EXIST" ] ;;
  *"${REFUSED:-nothing}"*) exit 1 ;;
esac
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "gcloud"
    program.write_text(GCLOUD)
    program.chmod(0o755)

    def ran(script, **environment):
        calls = tmp_path / "calls"
        calls.unlink(missing_ok=True)
        path = f"{program.parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh"], input=script, text=True, capture_output=True, env={"PATH": path, "CALLS": str(calls), **environment}
        )
        made = calls.read_text().strip("\n").split("\n\n") if calls.exists() else []
        return done, [["gcloud", *each.split("\n")] for each in made]

    return ran


def grants(calls):
    return [each for each in calls if "add-iam-policy-binding" in each]


def test_the_script_grants_the_plan(run):
    made = plan.make(EVERYTHING)
    done, calls = run(render.gcloud(made), ROLES_EXIST="")
    assert done.returncode == 0, done.stderr
    assert grants(calls) == [render.command(each) for each in made.bindings]
    created = [each for each in calls if each[1:4] == ["iam", "roles", "create"]]
    assert [each[4] for each in created] == [role.id for role in made.roles]
    for call, role in zip(created, made.roles, strict=True):
        assert {f"--permissions={','.join(role.permissions)}", f"--title={role.title}"} < set(call)


def test_the_script_stops_at_the_first_refusal(run):
    done, calls = run(render.gcloud(plan.make(EVERYTHING)), ROLES_EXIST="1", REFUSED="models-prod-staging")
    assert done.returncode != 0
    assert "gs://models-prod-staging" in calls[-1]
    assert grants(calls) != [render.command(each) for each in plan.make(EVERYTHING).bindings]


def test_the_script_may_be_run_again(run):
    done, calls = run(render.gcloud(plan.make(EVERYTHING)), ROLES_EXIST="1")
    assert done.returncode == 0
    assert [each for each in calls if each[1:4] == ["iam", "roles", "create"]] == []


def test_the_script_finds_the_number_and_asks_for_what_it_cannot_find(run):
    script = render.gcloud(plan.make(NOTHING_KNOWN))
    done, calls = run(script, ROLES_EXIST="1")
    assert done.returncode != 0
    assert "IMAGE_LOCATION" in done.stderr
    assert "gcloud artifacts repositories list --project=images-prod" in done.stderr
    assert grants(calls) == []
    named = {"IMAGE_LOCATION": "europe-west4", "IMAGE_REPOSITORY": "models", "ARTIFACTS_BUCKET": "data-prod-models"}
    done, calls = run(script, ROLES_EXIST="1", **named)
    assert done.returncode == 0, done.stderr
    assert grants(calls) == [
        render.command(each) for each in plan.make(EVERYTHING).bindings if each.purpose != "reads the artifacts"
    ]


# Terraform.


@pytest.mark.parametrize("topology", [*TOPOLOGIES.values(), EVERYTHING, NOTHING_KNOWN])
def test_terraform_has_one_resource_for_each_binding_and_role(topology):
    made = plan.make(topology)
    blocks = dep_hcl.read(render.terraform(made))
    resources = [each for each in blocks if each[0] == "resource"]
    assert len(resources) == len(made.bindings) + len(made.roles)
    assert len({tuple(labels) for _, labels, _, _ in resources}) == len(resources)
    references = {f"<{labels[0]}.{labels[1]}.id>" for _, labels, _, _ in resources}
    for (_, _, fields, _), binding in zip(resources[len(made.roles) :], made.bindings, strict=True):
        assert fields["role"] == binding.role or (binding.custom and fields["role"] in references)
        assert fields["member"].replace("${data.google_project.serving.number}", PLACEHOLDER) == binding.member
    variables = {labels[0] for keyword, labels, _, _ in blocks if keyword == "variable"}
    used = set(re.findall(r"var\.([a-z_]+)", render.terraform(made)))
    assert used == variables


def test_a_label_of_terraform_stays_when_the_plan_grows():
    """Terraform takes away and makes anew what has another label."""

    def labels(topology):
        return {tuple(each[1]) for each in dep_hcl.read(render.terraform(plan.make(topology))) if each[0] == "resource"}

    more = replace(EVERYTHING, callers=("user:first@example.com", *EVERYTHING.callers))
    assert labels(EVERYTHING) < labels(more)


def test_a_string_of_terraform_interpolates_nothing_of_others():
    assert render._string('a"b\\c${d}%{e}\n') == '"a\\"b\\\\c$${d}%%{e}\\n"'
    assert dep_hcl.read(f"x {{ y = {render._string(chr(34) + '${z}')} }}")


# Names.


@pytest.mark.parametrize(
    ("text", "member"),
    [
        ("app@shop-prod", "serviceAccount:app@shop-prod.iam.gserviceaccount.com"),
        ("app@shop-prod.iam.gserviceaccount.com", "serviceAccount:app@shop-prod.iam.gserviceaccount.com"),
        ("serviceAccount:app@shop-prod", "serviceAccount:app@shop-prod.iam.gserviceaccount.com"),
        ("123-compute@developer.gserviceaccount.com", "serviceAccount:123-compute@developer.gserviceaccount.com"),
        ("user:jo@example.com", "user:jo@example.com"),
        (
            "principal://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/subject/s",
            "principal://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/subject/s",
        ),
    ],
)
def test_members_are_written_as_iam_does(text, member):
    assert names.member(text, "--caller") == member
    assert names.member(member, "--caller") == member


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: names.project("123456789012", "--serving"), "projectId"),
        (lambda: names.project("Models", "--serving"), '--serving is "Models"'),
        (lambda: names.number("models-prod", "--serving-number"), "all digits"),
        (lambda: names.member("allUsers", "--caller"), "everybody"),
        (lambda: names.member("jo@example.com", "--caller"), "user:jo@example.com or group:jo@example.com"),
        (lambda: names.member("robot:jo@example.com", "--caller"), "user:EMAIL"),
        (lambda: names.account("1-compute@developer.gserviceaccount.com", "--run-as"), "make one for this model"),
        (lambda: names.bucket("models", "--staging"), "gs://BUCKET"),
        (lambda: names.repository("models", "--repository"), "REGION/NAME"),
        (lambda: Topology(serving=SERVING, feature_store="features-prod"), "--run-as"),
        (lambda: Topology(serving=SERVING, staging="models/\r"), "bucket's name alone"),
        (lambda: Topology(serving=SERVING, deployer="app@shop-prod"), "to be written out"),
    ],
)
def test_what_is_no_name_is_refused_with_what_would_be(call, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        call()


def test_a_project_of_a_domain_is_found_in_its_accounts():
    account = names.account("runner@models-prod.example.com.iam.gserviceaccount.com", "--run-as")
    assert account.project == "example.com:models-prod"


PIECES = [
    "'",
    '"',
    "$(id)",
    "`id`",
    "${X}",
    "%{",
    "\\",
    "\n",
    ";",
    "&",
    "|",
    " ",
    "\t",
    "#",
    "*",
    "\0",
    "é",
    "/",
    "@",
    ":",
]
GOOD = (
    *("models-prod", "example.com:models-prod", "app@shop-prod", "app@shop-prod.iam.gserviceaccount.com"),
    *("user:jo@example.com", "principal://iam.googleapis.com/projects/1/locations/global", "gs://models/iris"),
    *("europe-west4/models", "europe-west4-docker.pkg.dev/images-prod/models/iris:1"),
)
NASTY = st.text() | st.builds(
    lambda good, place, piece: good[:place] + piece + good[place:],
    st.sampled_from(GOOD),
    st.integers(0, 60),
    st.sampled_from(PIECES) | st.text(max_size=3),
)
"""Any text, and a good name with something nasty inside."""


READERS = (
    names.project,
    names.member,
    lambda text, source: names.account(text, source).email,
    names.bucket,
    lambda text, source: "/".join([*vars(names.repository(text, source)).values()]),
)


@pytest.mark.parametrize("piece", [piece for piece in PIECES if piece not in ("/", "@", ":")])
def test_no_sign_of_a_shell_or_of_terraform_is_in_a_name(piece):
    for good in GOOD:
        for place in range(len(good) + 1):
            for read in READERS:
                try:
                    name = read(good[:place] + piece + good[place:], "-")
                except UsageError:
                    continue
                assert piece not in name


@settings(deadline=None, max_examples=400)
@given(NASTY, NASTY, NASTY, NASTY, NASTY)
def test_no_name_breaks_out_of_a_command(project, member, account, bucket, repository):
    """Every text is refused, or is one word of the commands, one string of Terraform, one value of JSON."""

    def or_else(make, default):
        try:
            return make()
        except UsageError:
            return default

    topology = Topology(
        serving=or_else(lambda: names.project(project, "-"), SERVING),
        number=NUMBER,
        callers=(or_else(lambda: names.member(member, "-"), CALLER),),
        image_project="images-prod",
        repository=or_else(lambda: replace(names.repository(repository, "-"), project=""), Repository("us", "models")),
        run_as=or_else(lambda: names.account(account, "-"), RUNNER),
        artifacts_project="data-prod",
        artifacts=or_else(lambda: names.bucket(bucket, "-"), "models"),
    )
    made = plan.make(topology)
    lines = [line for line in render.gcloud(made).splitlines() if line.startswith("gcloud") and "binding" in line]
    assert [shlex.split(line, comments=True) for line in lines] == [render.command(each) for each in made.bindings]
    for _, _, fields, _ in dep_hcl.read(render.terraform(made)):
        assert not any("${" in str(each) for each in fields.values())
    read = json.loads(render.as_json(made))
    assert [each["member"] for each in read["bindings"]] == [each.member for each in made.bindings]


@settings(deadline=None, max_examples=200)
@given(NASTY)
def test_a_topology_takes_no_name_that_was_not_checked(text):
    for field in ("serving", "image_project", "artifacts_project", "feature_store", "artifacts", "staging", "deployer"):
        try:
            made = plan.make(replace(EVERYTHING, **{field: text}))
        except UsageError:
            continue
        for line in render.gcloud(made).splitlines():
            if line.startswith("gcloud"):
                shlex.split(line)
        dep_hcl.read(render.terraform(made))


# The command.


def cpr_iam(*words):
    return CliRunner().invoke(iam.command, ["plan", *words])


def test_the_command_prints_the_plan():
    done = cpr_iam(
        *("--serving", SERVING, "--serving-number", NUMBER, "--caller", "app@shop-prod", "--format", "json"),
        *("--image-project", "images-prod", "--repository", "europe-west4/models"),
    )
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert [each["role"] for each in made["bindings"]] == [
        f"projects/{SERVING}/roles/cprKitCaller",
        "roles/artifactregistry.reader",
    ]
    assert made["bindings"][1]["member"] == AGENT
    assert made["bindings"][1]["resource"] == {
        **{"kind": "repository", "project": "images-prod", "name": "models", "location": "europe-west4"}
    }


def test_an_images_own_name_says_where_its_repository_is():
    image = "europe-west4-docker.pkg.dev/images-prod/models/iris:1"
    done = cpr_iam("--serving", SERVING, "--serving-number", NUMBER, "--repository", image, "--format", "json")
    assert json.loads(done.stdout)["bindings"][0]["resource"]["project"] == "images-prod"
    done = cpr_iam("--serving", SERVING, "--repository", image, "--image-project", "others-prod")
    assert isinstance(done.exception, UsageError)


def test_the_number_is_looked_up_where_google_answers():
    with emulate(engine="process"):
        done = cpr_iam("--serving", SERVING, "--image-project", "images-prod", "--format", "json")
        assert done.exit_code == 0, done.output
        expected = Projects().number(SERVING)
        assert number.look_up(SERVING) == (expected, "")
    assert f"service-{expected}@" in json.loads(done.stdout)["bindings"][0]["member"]


def test_without_credentials_the_number_stays_a_placeholder(monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    done = cpr_iam("--serving", SERVING, "--image-project", "images-prod", "--format", "json")
    assert done.exit_code == 0, done.output
    assert "could not be looked up" in done.stderr
    made = json.loads(done.stdout)
    assert "${SERVING_NUMBER}" in made["bindings"][0]["member"]
    assert made["unknown"][0]["command"] == f"gcloud projects describe {SERVING} --format='value(projectNumber)'"


def test_nothing_is_asked_when_nothing_needs_the_number(monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    done = cpr_iam("--serving", SERVING, "--caller", "app@shop-prod")
    assert (done.exit_code, done.stderr) == (0, "")
    done = cpr_iam("--serving", SERVING, "--image-project", "images-prod", "--no-lookup")
    assert (done.exit_code, done.stderr) == (0, "")


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for path, made in golden():
        path.write_text(made)
