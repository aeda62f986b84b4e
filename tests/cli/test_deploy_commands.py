"""The commands that work at Vertex AI, as a user calls them, against the emulator."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "deploy"))

import dep_project
from dep_project import REGIONS, fault
from dep_world import emulator, engine, project  # noqa: F401
import forks  # of the engines' tests, where dep_world looks too

from cpr_kit.cli.remote import Progress
from cpr_kit.deploy.vertex.client import Vertex

SETS = ("CPR_", "AIP_", "GOOGLE_", "CLOUDSDK_")


@pytest.fixture
def folder(tmp_path, project):  # noqa: F811
    dep_project.write(tmp_path / "project", project)
    return tmp_path / "project"


@pytest.fixture
def environ(emulator):  # noqa: F811
    """A user's who has set nothing, under `cpr emulate`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SETS) or name == "CPR_CACHE"}
    return {**kept, **emulator.environment, "CPR_ENGINE": "process"}


@pytest.fixture
def cpr(environ, folder):
    """cpr("plan", "--json") runs the command in the project's folder; the finished process."""

    def run(*arguments, stdin=None, **changes):
        words, env = [*map(str, arguments)], {**environ, **changes}
        if stdin is None:
            return forks.cpr(words, folder, env)
        return subprocess.run(
            [sys.executable, "-m", "cpr_kit", *words],
            cwd=folder, env=env, stdin=stdin, capture_output=True, text=True, timeout=200,
        )  # fmt: skip

    return run


def endpoints(project, *regions):  # noqa: F811
    return [each.id for region in regions for each in Vertex(project, region).endpoints()]


def test_from_nothing_to_nothing(cpr, project):  # noqa: F811
    planned = cpr("plan", "--exit-code")
    assert planned.returncode == 1, planned.stderr
    lines = planned.stdout.splitlines()
    assert lines[0] == f"us-central1, project {project}, endpoint iris"
    assert lines[2] == "  + create  endpoint        iris: there is none of that name (public)"
    assert "3 to add, 1 to change, 0 to remove, 1 kept" in lines

    made = cpr("up", "--yes")
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("us-central1: iris@1 serves projects/")
    assert "us-central1: upload a version of iris" in made.stderr
    again = cpr("up", "--json")  # no question where nothing is to do
    assert (again.returncode, json.loads(again.stdout)["regions"][0]["changed"]) == (0, False)
    assert cpr("plan", "--exit-code").returncode == 0

    shown = cpr("status", "--exit-code")
    assert shown.returncode == 0
    assert "iris@1 (live)" in shown.stdout
    assert "serving one" in cpr("logs").stdout
    assert json.loads(cpr("logs", "--json").stdout.splitlines()[0])["message"] == "serving one"

    assert cpr("rollback").returncode == 1
    gone = cpr("down", "--yes")
    removed = "deployed model iris@1, model version iris@1, endpoint iris"
    said = f"us-central1: removed {removed}; nothing that cpr up made is left\n"
    assert (gone.returncode, gone.stdout) == (0, said)
    assert endpoints(project, "us-central1") == []
    assert cpr("status", "--exit-code").returncode == 1
    assert cpr("down", "--json").returncode == 0


@pytest.mark.parametrize("command", ["up", "down"])
def test_without_a_terminal_only_yes_changes_anything(cpr, project, command):  # noqa: F811
    if command == "down":
        cpr("up", CPR_YES="1")
    before = endpoints(project, "us-central1")
    done = cpr(command)

    assert done.returncode == 2
    assert "say it with --yes" in done.stderr
    assert endpoints(project, "us-central1") == before
    cpr("down", "--yes")


@pytest.mark.parametrize(("answer", "code", "there"), [(b"y\n", 0, ["iris"]), (b"n\n", 1, []), (b"\n", 1, [])])
def test_on_a_terminal_it_asks(cpr, project, answer, code, there):  # noqa: F811
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer)
        done = cpr("up", stdin=theirs)
    finally:
        os.close(ours)
        os.close(theirs)

    assert (done.returncode, endpoints(project, "us-central1")) == (code, there)
    assert "deploy iris? [y/N]" in done.stderr
    cpr("down", "--yes")


def test_a_plan_in_a_file_is_done_without_a_question_or_refused(cpr, folder, project):  # noqa: F811
    planned = cpr("plan", "--out", "iris.plan", "--json")
    assert json.loads(planned.stdout)["changes"] is True
    assert cpr("up", "--plan", "iris.plan").returncode == 0
    again = cpr("up", "--plan", "iris.plan")

    assert again.returncode == 1
    assert "the plan no longer holds" in again.stderr
    assert "in the plan: create endpoint iris" in again.stderr
    assert cpr("up", "--plan", "other.plan").returncode == 2
    cpr("down", "--yes")


def test_one_region_of_three_fails_and_the_same_command_mends_it(cpr, emulator, folder, project):  # noqa: F811
    dep_project.write(folder, project, regions=REGIONS)
    with fault(emulator, call="UploadModel", location="europe-west4", status="PERMISSION_DENIED"):
        done = cpr("up", "--yes", "--json")
    assert done.returncode == 4
    value = json.loads(done.stdout)
    assert value["passed"] is False
    assert [(each["region"], "error" in each) for each in value["regions"]] == [
        ("us-central1", False),
        ("asia-east1", False),
        ("europe-west4", True),
    ]
    assert "failed: europe-west4: Vertex AI refused to upload a version of iris" in done.stderr

    mended = cpr("up", "--yes", "--json")
    assert mended.returncode == 0
    changed = {each["region"]: each["changed"] for each in json.loads(mended.stdout)["regions"]}
    assert changed == {"us-central1": False, "europe-west4": True, "asia-east1": False}
    shown = cpr("status", "--exit-code")
    assert shown.returncode == 0
    assert [each.split()[0] for each in shown.stdout.splitlines()] == ["region", *REGIONS]
    cpr("down", "--yes")
    assert endpoints(project, *REGIONS) == []


def test_a_region_that_cannot_be_planned_keeps_nobody_waiting(cpr, emulator, folder, project):  # noqa: F811
    dep_project.write(folder, project, regions=REGIONS[:2])
    with fault(emulator, call="GetEndpoint", location="europe-west4", status="PERMISSION_DENIED"):
        done = cpr("up", "--yes", "--json")
        planned = cpr("plan")
        shown = cpr("status")
    assert [each["region"] for each in json.loads(done.stdout)["regions"]] == list(REGIONS[:2])
    assert (done.returncode, planned.returncode, shown.returncode) == (4, 4, 4)
    assert "europe-west4: could not be asked" in shown.stdout
    assert endpoints(project, *REGIONS[:2]) == ["iris"]
    cpr("down", "--yes")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("regions", [REGIONS[:1], REGIONS[:2]])
def test_what_was_stopped_gives_back_its_lease_and_is_finished_by_the_next_run(
    cpr, emulator, environ, folder, project, number, regions  # noqa: F811
):  # fmt: skip
    dep_project.write(folder, project, regions=regions)
    with fault(emulator, call="DeployModel", latency="2s"):
        process = subprocess.Popen(
            [sys.executable, "-m", "cpr_kit", "up", "--yes"],
            cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            for told in process.stderr:
                if ": deploy iris@1" in told:
                    process.send_signal(number)
                    break
            _, rest = process.communicate(timeout=100)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    assert process.returncode == (130 if number == signal.SIGINT else 143), rest
    assert "stopped; the same command goes on where it stopped" in rest
    assert "Traceback" not in rest
    for region in regions:
        assert "cpr-lease" not in Vertex(project, region).endpoint("iris").labels

    done = cpr("up", "--yes")
    assert done.returncode == 0, done.stderr
    assert cpr("plan", "--exit-code").returncode == 0
    cpr("down", "--yes")
    assert endpoints(project, *regions) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("up", "--canary", "ten"), '--canary is "ten"; it is a share of the traffic such as 10%'),
        (("plan", "--canary", "100%"), "it is a whole number from 1 to 99"),
        (("plan", "--region", "mars-1"), "mars-1"),
        (("logs", "--since", "soon"), 'since is "soon"'),
        (("logs", "--severity", "loud"), "LOUD"),
        (("plan", "--out", "no/such/folder/a.plan"), "cannot be written"),
    ],
)
def test_what_cannot_be_is_said_with_its_value(cpr, arguments, said):
    done = cpr(*arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_private_endpoints_show_what_is_to_be_done_in_the_network(cpr, folder, project):  # noqa: F811
    network = 'kind = "psa"\n        network = "projects/123/global/networks/default"'
    dep_project.write(folder, project, more=network)
    done = cpr("plan")
    assert done.returncode == 0, done.stderr
    assert "in your network:" in done.stdout
    assert "gcloud services vpc-peerings connect" in done.stdout
    assert json.loads(cpr("plan", "--json").stdout)["network"]


def test_a_moving_line_says_what_each_region_waits_for_and_since_when(capfd):
    now = [0.0]
    with Progress(moving=True, clock=lambda: now[0]) as progress:
        progress("us-central1", "deploy iris@1")
        progress("asia-east1", "upload a version of iris")
        now[0] = 41.0
        progress("us-central1", "deploy iris@1 to iris: 40 s so far")
        assert progress.line() == "us-central1: deploy iris@1 41 s; asia-east1: upload a version of iris 41 s"
    assert "so far" not in capfd.readouterr().err


def test_in_a_log_every_line_stands(capfd):
    with Progress(moving=False) as progress:
        progress("us-central1", "deploy iris@1")
        progress("us-central1", "deploy iris@1 to iris: 30 s so far")
    assert capfd.readouterr().err.splitlines() == [
        "us-central1: deploy iris@1",
        "us-central1: deploy iris@1 to iris: 30 s so far",
    ]
