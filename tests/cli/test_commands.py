"""The command line as a user calls it: a process, its two outputs, its exit code."""

import contextlib
import json
import signal
import socket
import urllib.request
from pathlib import Path

import pytest

from cpr_kit.cli.main import COMMANDS

PROCESS = ("--engine", "process")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_and_shows_an_example(cpr, command):
    done = cpr(*{"iam": ("iam", "plan")}.get(command, (command,)), "--help")

    assert done.returncode == 0
    assert f"Example:\n    cpr {command}" in done.stdout
    assert "--json" in done.stdout


def test_an_unknown_command_names_those_there_are(cpr):
    done = cpr("biuld")
    assert done.returncode == 2
    assert "init, build, serve" in done.stderr


@pytest.mark.parametrize("kind", ["sklearn", "xgboost", "predictor"])
def test_init_copies_a_project_and_never_writes_over_one(cpr, tmp_path, kind):
    done = cpr("init", tmp_path / "new", "--kind", kind, "--json")
    files = json.loads(done.stdout)["files"]

    assert done.returncode == 0
    assert {"cpr.toml", "predictor.py", "train.py", ".dockerignore", "requests/two_rows.json"} <= set(files)
    assert not [name for name in files if name.endswith(".pyc")]
    (tmp_path / "new" / "cpr.toml").write_text("mine")
    again = cpr("init", tmp_path / "new", "--kind", kind)
    assert (again.returncode, (tmp_path / "new" / "cpr.toml").read_text()) == (2, "mine")
    assert "cpr.toml" in again.stderr


def test_build_gives_an_image_that_predict_asks_by_name(cpr, doubles, until):
    built = cpr("build", doubles, "-t", "cpr-test-doubles:1", "--json", *PROCESS)

    facts = json.loads(built.stdout)
    assert (built.returncode, facts["image"], facts["engine"]) == (0, "cpr-test-doubles:1", "process")
    routes = ("--predict-route", "/predict", "--health-route", "/health")
    for arguments in ((), routes):
        asked = cpr("predict", "cpr-test-doubles:1", "--json", doubles / "sample.json", *arguments, *PROCESS)
        assert (asked.returncode, asked.stdout) == (0, '{"predictions":[2,4]}\n')


@pytest.mark.engine
def test_a_folder_an_image_and_a_url_answer_alike(cpr, start, doubles, until):
    cpr("build", doubles, "--engine", "docker")
    running, facts = start("run", doubles, "--engine", "docker")
    targets = (doubles, "doubles:latest", facts["url"], facts["predict"])
    answers = [cpr("predict", target, "--json", doubles / "sample.json") for target in targets]

    assert {(done.returncode, done.stdout) for done in answers} == {(0, '{"predictions":[2,4]}\n')}


def test_predict_reads_standard_input_and_sends_headers(cpr, start, doubles):
    _, facts = start("serve", doubles, "--port", free_port())
    wait_for(facts)

    asked = cpr("predict", facts["url"], "--json", "-", stdin='{"instances": [5]}')
    assert asked.stdout == '{"predictions":[10]}\n'
    raw = cpr("predict", facts["url"], "--raw", "-", "-H", "content-type: text/html", stdin="1,2")
    assert raw.returncode == 4
    assert json.loads(raw.stdout)["error"]["code"] == 415
    assert "the model answered 415" in raw.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("http://127.0.0.1:1",), 2, "give one body"),
        (("http://127.0.0.1:1", "--json", "{}", "--raw", "{}"), 2, "give one body"),
        (("http://127.0.0.1:1", "--json", "{}", "-H", "nonsense"), 2, '"nonsense" is no header'),
        (("http://", "--json", "{}"), 2, "names no host"),
        (("no-such-image", "--json", "{}", *PROCESS), 3, '"no-such-image" is no folder here'),
        (("http://127.0.0.1:1", "--json", "nothing.json"), 2, "nothing.json"),
    ],
)
def test_predict_refuses_with_the_reason(cpr, doubles, arguments, code, message):
    sample = str(doubles / "sample.json")
    done = cpr("predict", *(sample if argument == "{}" else argument for argument in arguments))

    assert done.returncode == code
    assert message in done.stderr
    assert done.stdout == ""


def test_predict_says_when_nobody_answers(cpr, doubles):
    done = cpr("predict", f"http://127.0.0.1:{free_port()}", "--json", doubles / "sample.json")
    assert done.returncode in (1, 3, 4)
    assert "127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_passes_a_sound_project_and_names_what_a_broken_one_breaks(cpr, project):
    sound = cpr("check", project(), "--json", *PROCESS)
    assert sound.returncode == 0
    assert json.loads(sound.stdout)["passed"] is True

    broken = cpr("check", project(body='{"answers": request["instances"]}'), *PROCESS)
    assert broken.returncode == 1
    assert "FAIL" in broken.stdout
    assert "predictions" in broken.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("cpr.toml", "Doubles", "Duobles"), 'there is no class "Duobles"'),
        (("cpr.toml", "predictor:", "predicter:"), "predicter"),
        (("predictor.py", "def predict(", "def perdict("), "has no method predict"),
        (("cpr.toml", "[model]", '[model]\nrequirements = "needs.txt"'), "needs.txt"),
        (("cpr.toml", "[model]", '[model]\nartifacts = "model/"'), "model"),
        (("cpr.toml", "[model]", "[modle]"), 'did you mean "model"'),
    ],
)
def test_a_fault_in_the_folder_is_named_before_any_engine_is_called(cpr, project, change, message):
    folder = project()
    name, old, new = change
    (folder / name).write_text((folder / name).read_text().replace(old, new))

    done = cpr("build", folder, "--json", *PROCESS)
    plain = cpr("serve", folder)

    assert (done.returncode, plain.returncode) == (2, 2)
    assert message in json.loads(done.stdout)["error"]["message"]
    assert message in plain.stderr


def test_serve_serves_and_ends_on_ctrl_c(start, doubles):
    process, facts = start("serve", doubles, "--port", free_port())
    wait_for(facts)

    assert ask(facts) == [2, 4]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert not listens(facts)


def test_serve_reloads_when_a_file_changes(start, project, until):
    folder = project()
    _, facts = start("serve", folder, "--port", free_port(), "--reload")
    wait_for(facts)
    assert ask(facts) == [2, 4]

    project(factor=3)

    until(lambda: ask(facts) == [3, 6])


def test_serve_ends_with_the_servers_exit_code(cpr, project):
    done = cpr("serve", project(factor="1/0"), "--port", free_port())
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr.splitlines()[-1]


def test_run_serves_until_ctrl_c_and_leaves_nothing(start, doubles):
    process, facts = start("run", doubles, "--env", "A=1", *PROCESS)

    assert ask(facts) == [2, 4]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert not listens(facts)


def test_run_says_when_the_container_ends_by_itself(start, project):
    """A worker that ends is replaced; what ends the container is the end of the process that keeps them."""
    kills = "[__import__('os').kill(__import__('os').getppid(), 9)] * 2"
    process, facts = start("run", project(body=kills), *PROCESS)
    with contextlib.suppress(OSError, TypeError):  # the worker may still answer, as its last deed
        ask(facts)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "ended by itself with exit code" in json.loads(output)["error"]["message"]


def test_run_refuses_a_url(cpr):
    done = cpr("run", "http://127.0.0.1:1")
    assert (done.returncode, "runs already" in done.stderr) == (2, True)


def test_doctor_finds_a_sound_machine_and_project(cpr, doubles):
    done = cpr("doctor", doubles, "--json", *PROCESS)
    names = [finding["name"] for finding in json.loads(done.stdout)["findings"]]

    assert names == ["python", "project", "engine", "disk", "base image", "network"]
    assert done.returncode == 0, done.stdout


def test_doctor_names_an_engine_that_is_silent(cpr, tmp_path):
    done = cpr("doctor", tmp_path, "--engine", "docker", DOCKER_HOST="unix:///nonexistent.sock")

    assert done.returncode == 3
    assert "FAIL  engine: no Docker Engine answers at unix:///nonexistent.sock" in done.stdout
    assert "do: " in done.stdout


def test_doctor_names_a_fault_of_the_project(cpr, project):
    folder = project()
    (folder / "predictor.py").write_text("class Other: pass\n")
    done = cpr("doctor", folder, *PROCESS)
    assert (done.returncode, 'no class "Doubles"' in done.stdout) == (3, True)


def test_the_engine_is_chosen_by_itself_and_said(cpr, doubles):
    silent = {"DOCKER_HOST": "unix:///nonexistent.sock"}
    done = cpr("predict", doubles, "--json", doubles / "sample.json", **silent)
    assert (done.returncode, done.stdout) == (0, '{"predictions":[2,4]}\n')
    assert "process: no container engine answers" in done.stderr

    forced = cpr("predict", doubles, "--json", doubles / "sample.json", CPR_ENGINE="docker", **silent)
    assert forced.returncode == 3
    assert "no Docker Engine answers" in forced.stderr


def ask(facts):
    body = urllib.request.Request(facts_url(facts), b'{"instances": [1, 2]}', {"Content-Type": "application/json"})
    with urllib.request.urlopen(body, timeout=10) as response:
        return json.load(response)["predictions"]


def facts_url(facts):
    return facts["predict"] if facts["predict"].startswith("http") else facts["url"] + facts["predict"]


def wait_for(facts):
    import time

    for _ in range(200):
        try:
            return ask(facts)
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the server never answered")


def listens(facts):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(facts["url"].rpartition(":")[2]))) == 0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
