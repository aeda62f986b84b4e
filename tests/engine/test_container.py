"""One suite for every engine: what a container does."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from cpr_kit.engine.protocol import Container, Engine, Gpus, Image, Mount, Run
from cpr_kit.errors import ContainerError, LackingError


def get(container: Container, path: str = "/") -> object:
    with urllib.request.urlopen(f"http://127.0.0.1:{container.host_port}{path}", timeout=5) as response:
        return json.loads(response.read())


@pytest.fixture
def start(engine, image, started, wait_for):
    def start(**fields) -> Container:
        port = engine.listen_port(8080, fields.get("host_port"))
        env = {"AIP_HTTP_PORT": str(port), **fields.pop("env", {})}
        container = engine.run(Run(image=image.reference, port=port, env=env, **fields))
        started.append(container)
        wait_for(lambda: "out: again" in container.logs())
        return container

    return start


def test_a_container_answers_on_its_host_port_and_sees_image_and_run_environment(start):
    container = start(env={"SHAPE": "round"})
    seen = get(container)
    assert (seen["env"]["COLOUR"], seen["env"]["SHAPE"]) == ("blue", "round")
    assert container.status() == "running"
    assert container.exit_code() is None


def test_the_run_environment_wins_over_the_image(start):
    assert get(start(env={"COLOUR": "red"}))["env"]["COLOUR"] == "red"


def test_logs_hold_both_streams_and_stay_readable_after_removal(start):
    container = start()
    container.remove()
    container.remove()
    assert container.status() == "removed"
    assert container.exit_code() == 0
    assert set(container.logs().splitlines()) == {"out: listening", "err: listening", "out: again", "asked to stop"}
    assert list(container.follow()) == container.logs().splitlines()


def test_follow_gives_lines_as_they_come_and_ends_with_the_container(start):
    container = start()
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(container.follow()))
    reader.start()
    container.remove()
    reader.join(10)
    assert not reader.is_alive()
    assert "out: listening" in lines
    assert lines[-1] == "asked to stop"


def test_a_server_that_dies_is_exited_with_its_code(start, wait_for):
    container = start()
    with pytest.raises((urllib.error.URLError, OSError)):
        get(container, "/die?code=7")
    wait_for(lambda: container.status() == "exited")
    assert container.exit_code() == 7
    container.remove()
    assert container.exit_code() == 7


def test_a_server_that_ignores_sigterm_is_killed_after_the_grace(start):
    container = start(env={"STUBBORN": "1"})
    container.remove(grace_s=1)
    assert container.exit_code() == 137


def test_exec_gives_the_exit_code_and_knows_a_time_limit(start):
    container = start(env={"SHAPE": "round"})
    assert container.exec(["true"], 5) == 0
    assert container.exec(["sh", "-c", 'test "$SHAPE" = round && test -f server.py && exit 3'], 5) == 3
    assert container.exec(["no-such-program"], 5) == 127
    with pytest.raises(TimeoutError, match=r"did not end within 0\.3 s"):
        container.exec(["sleep", "5"], 0.3)


def test_exec_in_a_container_that_ended_is_an_error_with_its_log(start, wait_for):
    container = start()
    with pytest.raises((urllib.error.URLError, OSError)):
        get(container, "/die?code=1")
    wait_for(lambda: container.status() == "exited")
    with pytest.raises(ContainerError, match="ended") as caught:
        container.exec(["true"], 5)
    assert "out: listening" in caught.value.logs


def test_restart_keeps_port_and_log(start, wait_for):
    container = start()
    port = container.host_port
    container.restart()
    wait_for(lambda: container.logs().count("out: again") == 2)
    assert container.host_port == port
    assert get(container)["env"]["COLOUR"] == "blue"
    assert container.status() == "running"


def test_a_mounted_folder_is_readable_where_locate_says(start, engine, tmp_path):
    (tmp_path / "model.txt").write_text("weights")
    mount = Mount(source=tmp_path, target="/mnt/model")
    container = start(mounts=(mount,))
    assert get(container, f"/read?path={engine.locate(mount)}/model.txt") == "weights"


def test_a_mount_that_does_not_exist_is_named(engine, image, tmp_path):
    with pytest.raises(ContainerError, match="no-such"):
        engine.run(Run(image=image.reference, port=8080, mounts=(Mount(source=tmp_path / "no-such", target="/x"),)))


def test_a_host_port_is_used_when_given(start, free_port):
    container = start(host_port=free_port)
    assert container.host_port == free_port
    assert get(container)["pid"] > 0


def test_a_host_port_in_use_is_an_error_that_names_it(engine, image):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ContainerError, match=f"port {port} .* in use"):
            engine.run(Run(image=image.reference, port=engine.listen_port(8080, port), host_port=port))


def test_nothing_listens_beyond_this_machine(start):
    port = start().host_port
    tables = [Path(f"/proc/net/{name}") for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    listening = {row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")}
    assert listening == {f"0100007F:{port:04X}"}


def test_two_containers_run_at_once(start):
    one, two = start(env={"SHAPE": "round"}), start(env={"SHAPE": "square"})
    assert one.host_port != two.host_port
    assert one.id != two.id
    assert get(two)["env"]["SHAPE"] == "square"


def test_command_replaces_the_entrypoint_and_drops_the_images_arguments(start):
    container = start(command=("python", "./server.py"))
    assert get(container)["argv"] == []


def test_command_and_arguments_replace_both(start):
    assert get(start(command=("python", "./server.py"), args=("a", "b c")))["argv"] == ["a", "b c"]


def test_arguments_alone_keep_the_entrypoint(start):
    assert get(start(args=("--flag",)))["argv"] == ["--flag"]


def test_a_program_that_does_not_exist_is_named(engine, image):
    with pytest.raises(ContainerError, match="no-such-program"):
        engine.run(Run(image=image.reference, port=engine.listen_port(8080, None), command=("no-such-program",)))


def test_an_image_that_does_not_exist_is_an_error_with_a_remedy(engine):
    assert engine.image("cpr-kit-tests/none:1") is None
    with pytest.raises(LackingError, match=r"cpr-kit-tests/none:1.*cpr build"):
        engine.run(Run(image="cpr-kit-tests/none:1", port=engine.listen_port(8080, None)))
    engine.remove_image("cpr-kit-tests/none:1")


def test_an_image_is_found_by_name_and_by_id(engine: Engine, image: Image):
    found = engine.image(image.reference)
    assert found == image
    assert engine.image(image.id).id == image.id
    assert found.id.startswith("sha256:")
    assert found.entrypoint == ("python", "server.py")
    assert found.env["COLOUR"] == "blue"
    assert found.ports == (8080,)


def test_what_a_server_leaves_running_ends_with_it(start, engine, wait_for):
    container = start()
    child = get(container, "/spawn")
    container.remove(0)
    if engine.name == "process":
        wait_for(lambda: not _alive(child))


@pytest.mark.engine
def test_docker_mounts_are_read_only(docker_engine, server_image, started, wait_for, tmp_path):
    mount = Mount(source=tmp_path, target="/mnt/model")
    container = docker_engine.run(Run(image=server_image.reference, port=8080, mounts=(mount,)))
    started.append(container)
    wait_for(lambda: "out: again" in container.logs())
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(container, "/write?path=/mnt/model/new.txt")
    assert "Read-only" in caught.value.read().decode()
    caught.value.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.engine
def test_docker_keeps_the_images_arguments_when_nothing_replaces_them(docker_engine, server_image, started, wait_for):
    container = docker_engine.run(Run(image=server_image.reference, port=8080, shared_memory_size_mb=96))
    started.append(container)
    wait_for(lambda: "out: again" in container.logs())
    seen = get(container)
    assert seen["argv"] == ["from-cmd"]
    assert seen["pid"] == 1
    assert container.exec(["sh", "-c", "test $(df -m /dev/shm | awk 'NR==2 {print $2}') = 96"], 5) == 0


@pytest.mark.engine
def test_docker_without_gpus_says_so(docker_engine, server_image, started):
    try:
        container = docker_engine.run(Run(image=server_image.reference, port=8080, gpus=Gpus(count=1)))
    except LackingError as error:
        assert "NVIDIA Container Toolkit" in str(error)
    else:
        started.append(container)


def _alive(pid: int) -> bool:
    from cpr_kit.engine.reaper import start_time

    return start_time(pid) is not None
