"""Deployed models on both engines: real containers, replicas, probes, logs."""

import re
import threading
import urllib.request
from itertools import islice

import pytest
from emu_serving import ask, engine_used, image, lines, place, refused, turns, wait_for  # noqa: F401 - fixtures

from cpr_kit.contract import AIP_VARIABLES, Probe
from cpr_kit.emulator.errors import ApiError, Code
from cpr_kit.emulator.serving import failures
from cpr_kit.emulator.serving.keeper import _pauses
from cpr_kit.emulator.serving.replica import Replica
from cpr_kit.engine.protocol import Image
from cpr_kit.errors import RegistryError


def test_replicas_answer_in_turn_with_the_platforms_environment(place, lines):
    deployed = place(
        replicas=2,
        env={"SHAPE": "round", "WHERE": "$(AIP_ENDPOINT_ID)/$(COLOUR)"},
        extra_env={"SHAPE": "square", "STORAGE_EMULATOR_HOST": "http://127.0.0.1:1", "AIP_MODE": "OTHER"},
        args=("--id=$(AIP_DEPLOYED_MODEL_ID)",),
    )
    assert deployed.choose() is None
    deployed.start()
    assert deployed.ready_replicas == 2
    seen = [ask(deployed.choose()) for _ in range(4)]
    assert len({(each["host"], each["pid"]) for each in seen}) == 2
    env = seen[0]["env"]
    assert set(AIP_VARIABLES) - {"AIP_ACCELERATOR_TYPE"} <= set(env)
    assert (env["SHAPE"], env["AIP_MODE"]) == ("round", "PREDICTION")
    assert env["STORAGE_EMULATOR_HOST"] == "http://127.0.0.1:1"
    assert env["WHERE"] == "5/$(COLOUR)"
    assert env["CPR_SERVE_LOG_FORMAT"] == "text"
    assert seen[0]["argv"] == ["--id=77"]
    assert sorted(lines) == ["iris replica 0: ready", "iris replica 1: ready"]


def test_the_replica_with_the_fewest_requests_is_chosen(place):
    deployed = place(replicas=2)
    deployed.start()
    first = deployed.choose()
    with first.busy():
        second = deployed.choose()
        assert second is not first
        assert {deployed.choose() for _ in range(3)} == {second}
        with second.busy(), second.busy():
            assert {deployed.choose() for _ in range(3)} == {first}
    assert {deployed.choose() for _ in range(2)} == {first, second}


def test_a_container_that_ends_at_once_fails_in_vertex_ais_words(place):
    deployed = place(env={"MODE": "exit"})
    message = refused(deployed)
    log = deployed.log_files[0]
    said, _, rest = message.partition("\n\n")
    assert said == (
        "Model server exited unexpectedly. Model server terminated: model server container terminated: exit_code: 1."
        f" Model server logs can be found at {log}."
    )
    told, *tail = rest.splitlines()
    assert "ended with exit code 1" in told
    assert tail == [*(f"line {number}" for number in range(11, 30)), "model.joblib is not there"]
    assert log.name == "5-77-0.log"
    assert log.read_text().splitlines() == [*(f"line {number}" for number in range(30)), "model.joblib is not there"]


@pytest.mark.parametrize(
    ("mode", "seen"), [("sick", "seen last: status 503"), ("own port", "seen last: .*(refus|clos)")]
)
def test_a_container_that_never_answers_was_never_ready(place, mode, seen):
    deployed = place(env={"MODE": mode}, timeout_s=3)
    message = refused(deployed)
    assert message.startswith(
        "model server never became ready. Please validate that your model file or container configuration are valid."
        f" Model server logs can be found at {deployed.log_files[0]}.\n\n"
    )
    assert re.search(seen, message)
    assert message.endswith("\nserving")


def test_a_startup_probe_that_fails_is_never_ready(place):
    probe = Probe(exec=("false",), period_s=1, failure_threshold=1)
    assert "the startup probe (false) failed 1 times" in refused(place(startup_probe=probe))


def test_a_program_that_is_not_there_is_named_in_message_and_log(place):
    deployed = place(command=("no-such-program",))
    message = refused(deployed)
    assert message.startswith("Model server exited unexpectedly. Model server logs can be found at ")
    assert "no-such-program" in message
    assert "no-such-program" in deployed.log_files[0].read_text()


def test_a_probe_of_another_port_is_refused(place):
    assert "health_probe asks port 9000" in refused(place(health_probe=Probe(tcp=True, port=9000)))


def test_an_image_that_is_not_there_is_named(place, engine_used):
    message = refused(place(image_uri="127.0.0.1:1/cpr-kit-tests/none:1"))
    assert "The image 127.0.0.1:1/cpr-kit-tests/none:1" in message
    assert not engine_used.containers


def test_an_image_is_resolved_and_pulled(place, image, engine_used):
    asked = []

    def pull(reference, output):
        output("pulling")
        asked.append(reference)

    engine_used.pull = pull
    engine_used.image = lambda reference: image if reference in asked else None
    deployed = place(image_uri="us-docker.pkg.dev/p/r/iris:1", resolve=lambda reference: f"local/{reference}")
    deployed.start()
    assert asked == ["local/us-docker.pkg.dev/p/r/iris:1"]
    assert ask(deployed.choose())


def test_a_registrys_refusal_is_told(place, engine_used):
    def pull(reference, output):
        raise RegistryError(f"no {reference}", "log in")

    engine_used.pull = pull
    assert "The image none:1 cannot be had: no none:1 | log in" in refused(place(image_uri="none:1"))


def test_an_image_for_another_platform_is_told(place, image, engine_used, lines):
    other = Image(reference="a", id=image.id, platform="linux/arm64")
    engine_used.image = lambda _: other
    place().start()
    assert "is for linux/arm64; Vertex AI would need one for linux/amd64" in lines[0]


def test_the_operation_waits_for_the_required_replicas_alone(place, turns):
    turns.free = 1
    deployed = place(replicas=2, required=1, extra_env=turns.env)
    deployed.start()
    assert deployed.ready_replicas == 1
    assert len({deployed.choose() for _ in range(4)}) == 1
    turns.go_on.set()
    wait_for(lambda: deployed.ready_replicas == 2)
    assert len({deployed.choose() for _ in range(4)}) == 2


def test_no_more_replicas_are_required_than_there_are(place):
    deployed = place(replicas=1, required=3)
    deployed.start()
    assert deployed.ready_replicas == 1


def test_a_failure_ends_the_replicas_that_are_still_starting(place, engine_used, turns):
    turns.free = 1
    deployed = place(replicas=2, required=2, env={"MODE": "exit"}, extra_env=turns.env)
    assert "exit_code: 1" in refused(deployed)
    assert len(engine_used.containers) == 2
    assert not engine_used.left()


def test_a_container_that_failed_is_left_alone_until_the_deployment_is_decided(place, engine_used, turns, lines):
    turns.free = 1
    deployed, messages = place(replicas=2, required=1, env={"MODE": "exit"}, extra_env=turns.env), []
    starting = threading.Thread(target=lambda: messages.append(refused(deployed)))
    starting.start()
    wait_for(lambda: any("not ready" in line for line in lines))
    assert turns.come.wait(60)
    assert starting.is_alive()
    turns.go_on.set()
    starting.join()
    assert "exit_code: 1" in messages[0]
    assert not engine_used.restarted


def test_a_spare_replica_that_dies_before_it_is_ready_is_started_again(place, engine_used, turns, lines):
    turns.free = 1
    deployed = place(replicas=2, required=1, extra_env=turns.env)
    deployed.start()
    assert turns.come.wait(60)
    late = 1 - deployed.choose().number
    deployed.kill_replica(late)
    wait_for(lambda: engine_used.restarted)
    assert any(f"replica {late}: not ready: the container ended with exit code 137" in line for line in lines)
    turns.go_on.set()
    wait_for(lambda: deployed.ready_replicas == 2)


def test_a_killed_replica_gets_no_traffic_and_is_started_again(place, engine_used, lines):
    deployed = place(replicas=2)
    deployed.start()
    deployed.kill_replica(1)
    wait_for(lambda: deployed.ready_replicas == 1)
    assert {deployed.choose().number for _ in range(4)} == {0}
    wait_for(lambda: deployed.ready_replicas == 2)
    assert all(ask(deployed.choose()) for _ in range(4))
    assert len(engine_used.containers) == 2
    assert "iris replica 1: its container ended with exit code 137" in lines
    wait_for(lambda: deployed.log_files[1].read_text() == "serving\nserving\n")
    with pytest.raises(ApiError, match="has 2 replicas, and none is number 2") as caught:
        deployed.kill_replica(2)
    assert caught.value.code is Code.NOT_FOUND
    deployed.stop(0)
    assert deployed.log_files[1].read_text() == "serving\nserving\n"


def test_a_replica_that_dies_of_a_request_comes_back_each_time(place):
    deployed = place()
    deployed.start()
    for _ in range(2):
        with pytest.raises(OSError):  # noqa: PT011 - the engines break connections each in their own way
            ask(deployed.choose(), do="die", code=3)
        assert deployed.choose() is None
        assert ask(wait_for(deployed.choose))


def test_a_container_that_somebody_removed_is_replaced(place, engine_used):
    deployed = place()
    deployed.start()
    before = ask(deployed.choose())
    container = engine_used.containers[0]
    if engine_used.name == "docker":
        engine_used._client.containers.get(container.id).remove(force=True)
    else:
        container.remove(0)
    wait_for(lambda: len(engine_used.containers) == 2)
    after = ask(wait_for(deployed.choose))
    assert (before["host"], before["pid"]) != (after["host"], after["pid"])
    assert deployed.log_files[0].read_text() == "serving\nserving\n"


def test_a_replica_whose_connection_failed_serves_again_once_it_answers(place):
    # Asked so seldom that only the suspicion can bring it back.
    deployed = place(health_probe=Probe(http_path="/health", period_s=1000))
    deployed.start()
    replica = deployed.choose()
    ask(replica, do="sicken", path="/health")
    replica.failed()
    assert not replica.serving
    assert deployed.choose() is None
    ask(replica, do="heal")
    assert wait_for(deployed.choose) is replica


def test_a_replica_whose_connection_broke_off_is_the_last_one_asked_until_it_answers(place):
    deployed = place(replicas=2, health_probe=Probe(http_path="/health", period_s=1000))
    deployed.start()
    shaky, steady = deployed.choose(), deployed.choose()
    ask(shaky, do="sicken", path="/health")
    shaky.broke()
    with steady.busy():
        assert {deployed.choose() for _ in range(4)} == {steady}
        steady.failed()
        assert shaky.serving
        ask(shaky, do="heal")
        wait_for(lambda: shaky.steady)
        assert deployed.choose() is shaky


def test_the_only_replica_is_asked_though_its_connection_broke_off(place):
    deployed = place(health_probe=Probe(http_path="/health", period_s=1000))
    deployed.start()
    replica = deployed.choose()
    ask(replica, do="sicken", path="/health")
    replica.broke()
    assert deployed.choose() is replica


def test_an_unhealthy_replica_gets_no_traffic_until_it_is_well(place, lines):
    deployed = place(replicas=2, health_probe=Probe(http_path="/health", period_s=1, failure_threshold=1))
    deployed.start()
    ill = deployed.choose()
    ask(ill, do="sicken", path="/health")
    wait_for(lambda: deployed.ready_replicas == 1)
    assert ill not in [deployed.choose() for _ in range(4)]
    ask(ill, do="heal")
    wait_for(lambda: deployed.ready_replicas == 2)
    told = [line.partition("(")[0] for line in lines[2:]]
    who = f"iris replica {ill.number}"
    assert told == [f"{who}: unhealthy: it gets no traffic ", f"{who}: healthy: it gets traffic "]


def test_a_liveness_probe_that_fails_restarts_the_container(place, engine_used, lines):
    deployed = place(liveness_probe=Probe(http_path="/alive", period_s=1, failure_threshold=2))
    deployed.start()
    ask(deployed.choose(), do="sicken", path="/alive")
    wait_for(lambda: deployed.log_files[0].read_text() == "serving\nserving\n")
    assert ask(wait_for(deployed.choose))
    assert len(engine_used.containers) == 1
    assert any("restarted (liveness probe (GET /alive" in line for line in lines)


def test_stop_drains_what_is_in_flight(place):
    deployed = place()
    deployed.start()
    replica, answers = deployed.choose(), []
    request = threading.Thread(target=lambda: answers.append(ask(replica, do="hold")))
    request.start()
    wait_for(lambda: "held" in deployed.log_files[0].read_text())
    stop = threading.Thread(target=lambda: deployed.stop(60))
    stop.start()
    wait_for(lambda: deployed.choose() is None)
    assert stop.is_alive()
    with urllib.request.urlopen(f"{replica.base_url}/release", timeout=10):
        pass
    request.join()
    stop.join()
    assert answers
    deployed.stop(60)
    assert deployed.log_files[0].read_text() == "serving\nheld\n"


def test_stop_waits_no_longer_than_its_grace(place, engine_used):
    deployed = place()
    deployed.start()
    with deployed.choose().busy():
        deployed._stopping.set()
        assert deployed.choose() is None  # at once, whatever a replica's own thread is waiting for
        deployed.stop(0.1)
    assert not engine_used.left()


def test_stop_ends_a_start_under_way(place, engine_used, turns):
    deployed, errors = place(replicas=2, extra_env=turns.env), []

    def start():
        try:
            deployed.start()
        except ApiError as error:
            errors.append(error)

    starting = threading.Thread(target=start)
    starting.start()
    assert turns.come.wait(60)
    deployed.stop(30)
    starting.join()
    assert errors[0].code is Code.CANCELLED
    assert not engine_used.left()


def test_stop_before_start_lets_nothing_start(place, engine_used):
    deployed = place()
    deployed.stop(0)
    with pytest.raises(ApiError) as caught:
        deployed.start()
    assert caught.value.code is Code.CANCELLED
    assert not engine_used.containers


def test_two_deployed_models_start_at_once_on_ports_of_their_own(place):
    models = [place(replicas=2), place(replicas=2)]
    threads = [threading.Thread(target=model.start) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    replicas = [model.choose() for model in models for _ in range(2)]
    assert len({replica.base_url for replica in replicas}) == 4
    assert all(ask(replica) for replica in replicas)


def test_pauses_before_a_new_start_grow():
    assert list(islice(_pauses(), 8)) == [0, 1, 2, 4, 8, 16, 30, 30]


def test_a_later_suspicion_outlives_an_earlier_good_answer():
    replica = Replica(number=0, predict_route="/p", health_route="/h", suspected=lambda: None)
    replica.found(ready=True)
    replica.failed()
    before = replica.suspicions
    replica.failed()
    replica.clear(before)
    assert not replica.serving
    replica.clear(replica.suspicions)
    assert replica.serving


def test_lack_of_memory_is_told_in_vertex_ais_words(tmp_path):
    class Starved:
        def status(self):
            return "exited"

        def out_of_memory(self):
            return True

        def logs(self):
            return ""

    error = failures.explain(Starved(), OSError("gone"), tmp_path / "log")
    assert str(error) == (
        "Model server terminated: model server container out of memory."
        f" Model server logs can be found at {tmp_path / 'log'}.\n\ngone\n(it wrote nothing)"
    )
