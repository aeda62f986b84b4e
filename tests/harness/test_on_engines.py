"""The harness over the engines that ship: what a test double cannot show."""

import pytest

from cpr_kit.contract import AIP_VARIABLES, Deployment
from cpr_kit.errors import ContainerError
from cpr_kit.harness.monitor import HealthMonitor


def test_a_server_is_started_asked_and_removed_and_its_log_stays(serve):
    with serve("healthy") as served:
        assert served.predict(instances=[[1, 2]]).predictions == [3]
    assert served.get_container_status() == "removed"
    assert "POST /predict" in served.container.logs()


def test_a_container_that_ends_at_start_leaves_its_log_and_nothing_else(serve):
    served = serve("exits_at_start", ready_timeout_s=60)
    with pytest.raises(ContainerError, match="ended with exit code 1") as caught:
        served.serve()
    assert "model.joblib is not there" in caught.value.logs
    assert served.get_container_status() == "removed"


def test_a_container_that_never_gets_healthy_is_removed(serve):
    served = serve("never_healthy", ready_timeout_s=2)
    with pytest.raises(ContainerError, match="seen last: status 503"):
        served.serve()
    assert served.get_container_status() == "removed"


@pytest.mark.engine
def test_a_server_that_listens_on_localhost_alone_is_told_so(serve, engine):
    if engine.name != "docker":
        pytest.skip("on a process engine, localhost is where a server belongs")
    with pytest.raises(ContainerError, match=r"does it listen on 0\.0\.0\.0"):
        serve("listens_to_itself", ready_timeout_s=2).serve()


def test_a_death_during_a_request_is_told_with_the_log(serve):
    with serve("dies_after_first_request") as served:
        with pytest.raises(ContainerError, match="ended with exit code 137 during the prediction") as caught:
            served.predict(instances=[[1]], verbose=False)
    assert "out of memory" in caught.value.logs


def test_the_platforms_variables_and_the_key_are_there(serve, tmp_path):
    key = tmp_path / "key.json"
    key.write_text("{}")
    deployment = Deployment(accelerator_type="NVIDIA_TESLA_T4")
    with serve("reports_request", credential_path=key, deployment=deployment) as served:
        environment = served.predict(instances=[]).predictions[0]["environment"]
    assert set(AIP_VARIABLES) <= set(environment)
    assert environment["GOOGLE_APPLICATION_CREDENTIALS"].endswith("key.json")


def test_artifacts_are_one_folder_with_its_sub_folders(serve, engine, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "model.txt").write_text("weights")
    with serve("reads_artifacts", artifact_uri=tmp_path) as served:
        where, files = served.predict(instances=[]).predictions
    assert files["deep/model.txt"] == "weights"
    if engine.name == "docker":
        assert where == "/tmp_cpr_local_model"
        assert files["error"] == "Read-only file system"
        assert not (tmp_path / "written").exists()


def test_a_dead_container_is_restarted_and_answers_again(serve):
    lines = []
    with serve("dies_after_first_request") as served:
        with pytest.raises(ContainerError):
            served.predict(instances=[[1]], verbose=False)
        monitor = HealthMonitor(served.container, served.spec, served.launch, report=lines.append)
        for _ in range(4):
            monitor.look()
        served._wait_until_ready(served.container)
        assert served.run_health_check().status_code == 200
    assert monitor.restarts == 1
    assert "restarted" in lines[0]
