"""One suite for every engine: a crash on demand, lack of memory, this machine as its containers reach it, leftovers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cpr_kit.engine.protocol import LABEL, Run
from cpr_kit.engine.reaper import start_time
from cpr_kit.errors import ContainerError, LackingError

PROGRAM = """
import sys
from cpr_kit.engine.choose import choose
from cpr_kit.engine.protocol import Run
from cpr_kit.engine.reaper import reaper

engine = choose("docker").engine
container = engine.run(Run(image=sys.argv[1], port=8080))
print(engine.session, container.id, reaper()._process.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start(engine, image, started, wait_for):
    def start(**env):
        port = engine.listen_port(8080, None)
        container = engine.run(Run(image=image.reference, port=port, env={"AIP_HTTP_PORT": str(port), **env}))
        started.append(container)
        wait_for(lambda: "out: again" in container.logs())
        return container

    return start


def test_kill_ends_a_container_as_a_crash_does_and_it_can_start_again(start, wait_for):
    container = start(STUBBORN="1")
    container.kill()
    wait_for(lambda: container.status() == "exited")
    assert container.exit_code() == 137
    assert not container.out_of_memory()
    container.kill()
    container.restart()
    wait_for(lambda: container.logs().count("out: again") == 2)
    assert container.status() == "running"


def test_a_removed_container_does_not_start_again(start):
    container = start()
    container.remove(0)
    with pytest.raises(ContainerError, match="it was removed"):
        container.restart()
    container.kill()
    assert container.status() == "removed"


def test_a_container_reaches_what_listens_here_for_it(start, engine):
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"reached")

        def log_message(self, *words):
            pass

    with HTTPServer((engine.listen_address(), 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://{engine.host_address()}:{server.server_port}/"
            code = f"import urllib.request as u; assert u.urlopen({url!r}, timeout=10).read() == b'reached'"
            assert start().exec(["python", "-c", code], 20) == 0
        finally:
            server.shutdown()
            thread.join()


def test_a_session_without_containers_is_removed_without_complaint(engine):
    engine.remove_session("0-none")
    assert engine.session.startswith(f"{os.getpid()}-")


@pytest.mark.engine
def test_docker_removes_what_a_program_left_that_was_killed_with_its_reaper(docker_engine, server_image, wait_for):
    import docker

    program = [sys.executable, "-c", PROGRAM, server_image.reference]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        session, container, reaper = process.stdout.readline().split()
        os.kill(int(reaper), signal.SIGKILL)
        process.kill()
    wait_for(lambda: start_time(int(reaper)) is None)
    client = docker.from_env()
    try:
        left = client.containers.list(filters={"label": f"{LABEL}={session}"})
        assert [each.id for each in left] == [container]
        docker_engine.remove_session("0-another")
        assert client.containers.list(filters={"label": f"{LABEL}={session}"})
        docker_engine.remove_session(session)
        assert not client.containers.list(all=True, filters={"label": f"{LABEL}={session}"})
    finally:
        client.close()


@pytest.mark.engine
def test_docker_tells_when_memory_was_lacking(docker_engine, server_image, started, wait_for):
    import docker

    program = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.05)\nbytearray(1 << 29)"
    command = ("python", "-c", program)
    container = docker_engine.run(Run(image=server_image.reference, port=8080, command=command))
    started.append(container)
    client = docker.APIClient()
    client.update_container(container.id, mem_limit="64m", memswap_limit="64m")
    client.close()
    assert container.exec(["touch", "go"], 10) == 0
    wait_for(lambda: container.status() == "exited")
    assert container.out_of_memory()
    container.remove(0)
    assert container.out_of_memory()


@pytest.mark.engine
@pytest.mark.parametrize(
    ("networks", "gateway"),
    [
        ({"IPAM": {"Config": [{"Subnet": "fd00::/80"}, {"Subnet": "172.17.0.0/16", "Gateway": "127.0.0.1"}]}}, "127.0.0.1"),
        ({"IPAM": {"Config": None}}, None),
    ],
)  # fmt: skip
def test_docker_takes_the_first_gateway_of_its_default_bridge(docker_engine, monkeypatch, networks, gateway):
    class Network:
        attrs = networks

    monkeypatch.setattr(type(docker_engine._client.networks), "get", lambda *_: Network)
    if gateway:
        assert docker_engine.host_address() == docker_engine.listen_address() == gateway
    else:
        with pytest.raises(LackingError, match="no default bridge"):
            docker_engine.host_address()


@pytest.mark.engine
def test_an_engine_whose_bridge_is_elsewhere_is_refused(docker_engine, monkeypatch):
    monkeypatch.setattr(docker_engine, "_gateway", lambda: "192.0.2.1")
    assert docker_engine.host_address() == "192.0.2.1"
    with pytest.raises(LackingError, match=r"192\.0\.2\.1 is no address of this machine"):
        docker_engine.listen_address()


@pytest.mark.engine
def test_docker_desktop_has_a_name_for_this_machine(docker_engine, monkeypatch):
    monkeypatch.setattr(docker_engine._client, "info", lambda: {"OperatingSystem": "Docker Desktop"})
    assert docker_engine.host_address() == "host.docker.internal"
    assert docker_engine.listen_address() == "127.0.0.1"
