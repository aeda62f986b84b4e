"""`cpr emulate` as a user calls it: for a command, for a shell, by itself."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


LIST = "https://us-central1-aiplatform.googleapis.com/v1/projects/my-proj/locations/us-central1/endpoints"
ASK = f"import requests; print(requests.get('{LIST}').text.strip())"
PROCESS = ("--engine", "process")


def environment(**changes):
    """The one of a user who has set nothing of Google's, with a cache folder of the test's."""
    ours = ("CPR_", "AIP_", "GOOGLE_", "CLOUDSDK_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, **changes}


@pytest.fixture
def environ(tmp_path):
    return environment(CPR_CACHE=str(tmp_path / "cache"))


@pytest.fixture
def emulate(environ):
    """emulate("--", "python", "x.py") -> the finished process."""

    def run(*arguments, **changes):
        command = [sys.executable, "-m", "cpr_kit", "emulate", *map(str, arguments)]
        return subprocess.run(command, env={**environ, **changes}, capture_output=True, text=True, timeout=120)

    return run


def python(code):
    return ("--", sys.executable, "-c", code)


@contextlib.contextmanager
def started(environ, *arguments):
    command = [sys.executable, "-m", "cpr_kit", "emulate", *map(str, arguments)]
    process = subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=30)


# ---- with a command


def test_a_commands_calls_come_here_and_its_exit_code_is_ours(emulate):
    done = emulate(*PROCESS, *python(f"{ASK}; import sys; sys.exit(7)"))
    assert (done.returncode, done.stdout) == (7, "{}\n"), done.stderr
    assert "ListEndpoints" in done.stderr


def test_the_command_has_standard_input_and_output_to_itself(environ):
    command = [sys.executable, "-m", "cpr_kit", "emulate", *PROCESS, "--", "cat"]
    done = subprocess.run(command, env=environ, input="line\n", capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "line\n", "")


def test_only_the_command_gets_the_environment(emulate):
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    done = emulate(*PROCESS, "--project", "mine", *python(code), no_proxy="*", https_proxy="http://10.0.0.1:1")
    got = json.loads(done.stdout)
    assert got["no_proxy"] == got["NO_PROXY"] == "localhost,127.0.0.1,::1"
    assert got["https_proxy"].startswith("http://127.0.0.1:")
    assert got["GOOGLE_CLOUD_PROJECT"] == "mine"
    assert not Path(got["GOOGLE_APPLICATION_CREDENTIALS"]).exists(), "the emulator left its folder"


def test_json_shows_each_call_as_an_object(emulate):
    done = emulate(*PROCESS, "--json", *python(ASK))
    assert [json.loads(line)["method"] for line in done.stderr.splitlines()] == ["ListEndpoints"]


def test_the_commands_own_json_flag_is_not_ours(emulate):
    done = emulate(*PROCESS, "--set", "nonsense=1", "--", "echo", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error:" in done.stderr


def test_what_a_signal_ended_is_told_as_a_shell_tells_it(emulate):
    done = emulate(*PROCESS, *python("import os; os.kill(os.getpid(), 9)"))
    assert done.returncode == 128 + signal.SIGKILL


CATCHES = """
import signal, sys
def take(number, frame):
    print(number, flush=True)
    sys.exit(40 + number)
signal.signal(signal.SIGTERM, take); signal.signal(signal.SIGINT, take)
print("ready", flush=True)
while True: signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_command_which_decides(environ, number):
    with started(environ, *PROCESS, *python(CATCHES)) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == f"{int(number)}\n"
        assert process.wait(60) == 40 + number


def test_ctrl_c_on_a_terminal_reaches_the_command_once(environ):
    """The terminal sends it to the whole group; passed on as well, it would come twice."""
    import pty

    code = """
import select, signal, socket
woken, wakes = socket.socketpair()
wakes.setblocking(False)
signal.set_wakeup_fd(wakes.fileno())
signal.signal(signal.SIGINT, lambda *_: None)
print("ready", flush=True)
came = list(woken.recv(1))
print("first", flush=True)
while select.select([woken], [], [], 1)[0]:
    came += woken.recv(1)
print("came", came, flush=True)
"""
    pid, terminal = pty.fork()
    if pid == 0:
        command = [sys.executable, "-m", "cpr_kit", "emulate", *PROCESS, *python(code)]
        os.execve(sys.executable, command, environ)
    read_until(terminal, b"ready")
    os.kill(pid, signal.SIGSTOP)  # so that what it passes on comes after, and is not one with the first
    os.write(terminal, b"\x03")
    read_until(terminal, b"first")
    os.kill(pid, signal.SIGCONT)
    said = read_until(terminal, b"]")
    assert b"came [2]" in said
    os.waitpid(pid, 0)
    os.close(terminal)


def read_until(terminal, mark):
    said = b""
    while mark not in said:
        said += os.read(terminal, 1000)
    return said


def test_a_command_that_cannot_run_is_told_before_anything_starts(emulate, tmp_path):
    done = emulate("--", "no-such-command")
    assert (done.returncode, done.stdout) == (2, "")
    assert 'no command "no-such-command"' in done.stderr
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x00\x01")
    broken.chmod(0o755)
    done = emulate(*PROCESS, "--", broken)
    assert done.returncode == 2 and "cannot be run" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "nonsense=1"), "page_size, pass_request"),
        (("--set", "drain_s"), "NAME=VALUE"),
        (("--set", "drain_s=soon"), "a number"),
        (("--set", "page_size=1.5"), "a whole number"),
        (("--set", "liveness_probe=perhaps"), "true or false"),
        (("--fault", "nonsense"), "nonsense"),
        (("--env",), "take no COMMAND"),
        (("--stop",), "take no COMMAND"),
    ],
)
def test_wrong_options_say_what_is_right(emulate, arguments, said):
    done = emulate(*PROCESS, *arguments, "--", "true")
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr


def test_faults_and_settings_are_the_emulators(emulate):
    done = emulate(*PROCESS, "--fault", "ListEndpoints:status=503:count=1", "--set", "page_size=7", *python(ASK))
    assert json.loads(done.stdout)["error"]["status"] == "UNAVAILABLE"


def test_a_port_that_is_taken(emulate):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = emulate(*PROCESS, "--port", taken.getsockname()[1], "--", "true")
    assert done.returncode == 2 and "port" in done.stderr and "Traceback" not in done.stderr


# ---- by itself


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_end(environ, number):
    with started(environ, *PROCESS, "--json") as process:
        facts = json.loads(process.stdout.readline())
        done = subprocess.run(
            [sys.executable, "-c", ASK], env={**environ, **facts["environment"]}, capture_output=True, text=True
        )
        assert done.stdout == "{}\n", done.stderr
        process.send_signal(number)
        assert process.wait(60) == 0


def test_it_says_how_to_use_it_from_another_shell(environ):
    with started(environ, *PROCESS) as process:
        lines = [process.stdout.readline() for _ in range(4)]
        assert all(lines), process.communicate()
        file = lines[1].split()[-1]
        script = f'. {file}; {sys.executable} -c "{ASK}"'
        done = subprocess.run(["sh", "-c", script], env=environ, capture_output=True, text=True)
        assert done.stdout == "{}\n", done.stderr
        assert lines[0].split()[-1].startswith("http://127.0.0.1:")


# ---- for a shell


@pytest.fixture
def shell(environ):
    """shell(script) with $CPR as the command; an emulator that stays is stopped at the end."""

    def run(script, **changes):
        names = {**environ, "CPR": f"{sys.executable} -m cpr_kit", "PY": sys.executable, "ASK": ASK, **changes}
        return subprocess.run(["sh", "-c", script], env=names, capture_output=True, text=True, timeout=120)

    yield run
    run("$CPR emulate --stop")


def test_a_shell_is_set_and_cleared(shell, environ):
    done = shell(
        'eval "$($CPR emulate --env --engine process)"; $PY -c "$ASK"; echo $CPR_EMULATOR\n'
        'eval "$($CPR emulate --env)"; echo $CPR_EMULATOR\n'
        'eval "$($CPR emulate --stop)"; echo "[$https_proxy$CPR_EMULATOR$GOOGLE_APPLICATION_CREDENTIALS]"'
    )
    listed, first, second, cleared = done.stdout.splitlines()
    assert listed == "{}" and cleared == "[]", done.stderr
    assert first == second and first.startswith("http://127.0.0.1:")
    assert not (Path(environ["CPR_CACHE"]) / "emulator" / "emulator.json").exists()
    assert "ListEndpoints" in (Path(environ["CPR_CACHE"]) / "emulator" / "emulator.log").read_text()


@pytest.mark.parametrize("wrong", ["--port=none", "--set drain_s=soon", "-- true", "--state"])
def test_a_shell_goes_no_further_when_it_was_not_set(shell, wrong):
    done = shell(f'eval "$($CPR emulate --env --engine process {wrong})" && echo on')
    assert (done.returncode, done.stdout) == (1, ""), done.stderr


def test_stop_returns_when_nothing_is_left(shell):
    done = shell(
        'eval "$($CPR emulate --env --engine process)"; key=$GOOGLE_APPLICATION_CREDENTIALS; ls "$key"\n'
        '$CPR emulate --stop > /dev/null; ls "$(dirname "$key")"'
    )
    assert len(done.stdout.splitlines()) == 1, done.stdout


def test_shells_that_start_at_once_share_one(shell):
    done = shell("for i in 1 2 3; do $CPR emulate --env --engine process --json & done; wait")
    urls = {json.loads(line)["CPR_EMULATOR"] for line in done.stdout.splitlines()}
    assert len(done.stdout.splitlines()) == 3 and len(urls) == 1, done.stderr


def test_other_options_than_those_of_the_one_that_runs_are_refused(shell):
    assert shell("$CPR emulate --env --engine process --project one").returncode == 0
    done = shell("$CPR emulate --env --engine process --project two")
    assert done.returncode == 2 and "runs already, with --project one --engine process" in done.stderr
    assert shell("$CPR emulate --env --engine process --project one").returncode == 0


def test_one_that_cannot_start_says_why(shell):
    done = shell("$CPR emulate --env --engine process --set drain_s=soon")
    assert done.returncode == 3 and "a number" in done.stderr and done.stdout == "false\n"
    assert shell("$CPR emulate --stop --json").stdout == '{"stopped": false}\n'


def test_one_that_was_killed_is_started_anew(shell, environ):
    first = json.loads(shell("$CPR emulate --env --engine process --json").stdout)
    facts = Path(environ["CPR_CACHE"]) / "emulator" / "emulator.json"
    assert facts.stat().st_mode & 0o777 == 0o600
    os.kill(json.loads(facts.read_text())["pid"], signal.SIGKILL)
    # In a shell that is set: what it names is gone, and is neither its proxy nor its roots.
    done = shell("$CPR emulate --env --engine process --allow-internet --json", **first)
    second = json.loads(done.stdout)
    assert second["CPR_EMULATOR"] != first["CPR_EMULATOR"], done.stderr
    assert shell('$PY -c "$ASK"', **second).stdout == "{}\n"
    assert json.loads(shell("$CPR emulate --stop --json").stdout) == {"stopped": True}
